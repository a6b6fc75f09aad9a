//! Connections to hosts of callbacks. A name is resolved once, every address
//! is checked, and the connection goes to one that was checked.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use turnwise_broker::{CallbackRules, CallbackTarget};

use crate::causes::is_short_of_descriptors;
use crate::limits::{CALLBACK_ADDRESSES_MAX, CALLBACK_CONNECT_TIME_MAX};

/// The addresses of a name, on their way.
pub type Resolved = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Finds the addresses of names.
pub trait Resolve: Send + Sync {
    /// All addresses of a host, each with this port.
    fn resolve(&self, host: String, port: u16) -> Resolved;
}

/// Asks the system, as other programs do.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, host: String, port: u16) -> Resolved {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The name has no address just now.
    NoAddress,
    /// One of its addresses is not public.
    Private,
    /// No address took the connection.
    Unreachable,
    /// No certificate that is trusted and names the host.
    Tls,
    /// There are no certificates to check against.
    NoCertificates,
    /// No file descriptor is left here.
    NoDescriptors,
}

impl Trouble {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Trouble::NoAddress => "the host's name has no address",
            Trouble::Private => "address_refused: the host leads to a private or reserved address",
            Trouble::Unreachable => "the host cannot be reached",
            Trouble::Tls => "the host's certificate is not trusted or does not name it, or it speaks no TLS",
            Trouble::NoCertificates => "there are no certificates to check the host's against",
            Trouble::NoDescriptors => "no connection can be opened here: no file descriptor is left",
        }
    }

    /// The word it is counted by.
    pub(super) fn class(self) -> &'static str {
        match self {
            Trouble::NoAddress => "no_address",
            Trouble::Private => "address_refused",
            Trouble::Unreachable => "unreachable",
            Trouble::Tls | Trouble::NoCertificates => "tls",
            Trouble::NoDescriptors => "other",
        }
    }

    pub(super) fn is_final(self) -> bool {
        self == Trouble::Private
    }
}

/// What bytes go through, with or without TLS.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Opens a connection of its own to the target; nothing is kept for later.
pub(super) async fn open(
    target: &CallbackTarget,
    rules: &CallbackRules,
    resolver: &dyn Resolve,
    tls: Option<&Arc<ClientConfig>>,
) -> Result<TokioIo<Box<dyn Wire>>, Trouble> {
    let addresses = match target.host.parse() {
        Ok(address) => vec![SocketAddr::new(address, target.port)],
        Err(_) => {
            let addresses = resolver.resolve(target.host.clone(), target.port).await;
            addresses.map_err(|error| unresolved(&error))?
        }
    };
    if addresses.is_empty() {
        return Err(Trouble::NoAddress);
    }
    if !addresses.iter().all(|address| rules.may_reach(target, address.ip())) {
        return Err(Trouble::Private);
    }
    let socket = connect(&addresses).await?;
    if !target.https {
        return Ok(TokioIo::new(Box::new(socket)));
    }
    let config = tls.ok_or(Trouble::NoCertificates)?;
    let name = ServerName::try_from(target.host.clone()).map_err(|_| Trouble::Tls)?;
    let stream = TlsConnector::from(Arc::clone(config)).connect(name, socket).await;
    Ok(TokioIo::new(Box::new(stream.map_err(|_| Trouble::Tls)?)))
}

/// The system's resolver needs descriptors too, and does not say so when it gets none.
fn unresolved(error: &io::Error) -> Trouble {
    let none_left = || TcpSocket::new_v4().is_err_and(|error| is_short_of_descriptors(&error));
    if is_short_of_descriptors(error) || none_left() { Trouble::NoDescriptors } else { Trouble::NoAddress }
}

async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, Trouble> {
    for address in addresses.iter().take(CALLBACK_ADDRESSES_MAX) {
        let socket = tokio::time::timeout(CALLBACK_CONNECT_TIME_MAX, TcpStream::connect(address));
        match socket.await {
            Ok(Ok(socket)) => {
                // Small writes go out at once; without it they only wait.
                let _ = socket.set_nodelay(true);
                return Ok(socket);
            }
            Ok(Err(error)) if is_short_of_descriptors(&error) => return Err(Trouble::NoDescriptors),
            Ok(Err(_)) | Err(_) => {}
        }
    }
    Err(Trouble::Unreachable)
}
