//! A host that does with its connections what a test wants.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::accept::accept;

/// Hands each connection to a function, on a free port of 127.0.0.1. Dropping it closes the port and all connections.
#[derive(Debug)]
pub struct Host {
    address: SocketAddr,
    _server: JoinSet<()>,
}

impl Host {
    /// Listens when this returns.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> io::Result<Host>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let mut server = JoinSet::new();
        server.spawn(accept(listener, CancellationToken::new(), serve));
        Ok(Host { address, _server: server })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT` and this path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}
