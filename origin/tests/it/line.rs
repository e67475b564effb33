//! A line to Postgres that can be cut.

use sqlx::{PgPool, postgres::PgConnectOptions};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::support::Origin;

/// A line to Postgres that can be cut.
pub struct Line {
    options: PgConnectOptions,
    cut: watch::Sender<bool>,
    breaks: watch::Sender<u32>,
}

impl Line {
    pub async fn to(db: &PgPool) -> Self {
        let options = db.connect_options();
        let target = (options.get_host().to_owned(), options.get_port());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (cut, is_cut) = watch::channel(false);
        let (breaks, broken) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (target, mut is_cut) = (target.clone(), is_cut.clone());
                let mut broken = broken.clone();
                broken.mark_unchanged();
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(target).await?;
                    tokio::select! {
                        biased;
                        _ = is_cut.wait_for(|cut| *cut) => Ok(()),
                        _ = broken.changed() => Ok(()),
                        done = tokio::io::copy_bidirectional(&mut client, &mut server) => done.map(|_| ()),
                    }
                });
            }
        });
        let options = (*options).clone().host("127.0.0.1").port(port);
        Self {
            options,
            cut,
            breaks,
        }
    }

    /// An origin at the other end.
    pub async fn origin(&self) -> Origin {
        self.origin_with(&[]).await
    }

    pub async fn origin_with(&self, flags: &[&str]) -> Origin {
        let origin = Origin::on(self.options.clone(), flags);
        origin.load_keys().await;
        origin
    }

    /// Cuts what is open, and whatever is opened.
    pub fn cut(&self) {
        self.cut.send_replace(true);
    }

    /// Cuts what is open; what is opened afterwards passes.
    pub fn break_off(&self) {
        self.breaks.send_modify(|breaks| *breaks += 1);
    }

    /// Lets new connections pass.
    pub fn mend(&self) {
        self.cut.send_replace(false);
    }
}
