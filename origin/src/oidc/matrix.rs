//! Matrix: which Matrix id is whose.

use crate::app::App;

use super::{error::Refused, store::Holder};

/// A Matrix server has asked who somebody is.
pub async fn meet(_: &App, _: &Holder) -> Result<(), Refused> {
    Ok(())
}
