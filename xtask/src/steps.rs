//! Says which step is being done, and how long it took when that was noticeable.

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use anyhow::Result;

/// A numbered list of steps, printed as they are done.
pub struct Steps {
    total: usize,
    begun: usize,
}

impl Steps {
    /// No step of `total` is done.
    pub const fn of(total: usize) -> Self {
        Self { total, begun: 0 }
    }

    /// Does `work` as the next step.
    pub async fn step<T>(
        &mut self,
        what: &str,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.begun += 1;
        let label = format!("[{}/{}] {what}", self.begun, self.total);
        say(&label);
        let begun = Instant::now();
        let done = work.await?;
        let took = begun.elapsed();
        if took >= Duration::from_secs(1) {
            say(&format!("{label} … {:.0} s", took.as_secs_f32()));
        }
        Ok(done)
    }
}

/// Prints a line, if somebody still listens: `up | head` must not end in a panic.
pub fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}
