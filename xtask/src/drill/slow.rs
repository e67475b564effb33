//! A way to the database that can be made slow.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::sleep,
};

/// A proxy in front of one port of this machine.
pub struct Slow {
    /// Where it listens.
    pub port: u16,
    delay_millis: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Slow {
    /// Listens on `port` and passes on to `server`, for now without a delay.
    pub async fn listen(port: u16, server: u16) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let delay_millis = Arc::new(AtomicU64::new(0));
        let delay = delay_millis.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, server, delay.clone()));
            }
        });
        Ok(Self {
            port,
            delay_millis,
            task,
        })
    }

    /// Whatever the database says comes so much later from now on.
    pub fn set_delay(&self, delay: Duration) {
        let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.delay_millis.store(millis, Relaxed);
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(client: TcpStream, server: u16, delay_millis: Arc<AtomicU64>) -> io::Result<()> {
    let server = TcpStream::connect(("127.0.0.1", server)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut asks, mut hears) = client.into_split();
    let (mut answers, mut is_asked) = server.into_split();
    let there = async {
        copy(&mut asks, &mut is_asked).await?;
        is_asked.shutdown().await
    };
    let back = async {
        let mut said = vec![0; 16 * 1024];
        loop {
            let count = answers.read(&mut said).await?;
            if count == 0 {
                return hears.shutdown().await;
            }
            let delay = delay_millis.load(Relaxed);
            if delay > 0 {
                sleep(Duration::from_millis(delay)).await;
            }
            hears.write_all(&said[..count]).await?;
        }
    };
    // Whichever side ends first ends both.
    tokio::select! {
        ended = there => ended,
        ended = back => ended,
    }
}
