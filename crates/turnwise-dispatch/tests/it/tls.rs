//! TLS in front of a server that has none.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use turnwise_mock::Host;

/// Hands on what it decrypts, until it is dropped.
pub(crate) struct TlsFront {
    pub(crate) port: u16,
    /// The certificate to trust.
    pub(crate) pem: String,
    _host: Host,
}

impl TlsFront {
    /// Before the server at this address, with a certificate for this name.
    pub(crate) async fn named(name: &str, to: SocketAddr) -> TlsFront {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().self_signed(&key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let serve = move |socket| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(mut inside) = acceptor.accept(socket).await else { return };
                let mut outside = TcpStream::connect(to).await.unwrap();
                // It ends however the other side ends it.
                let _ = copy_bidirectional(&mut inside, &mut outside).await;
            }
        };
        let host = Host::start(serve).await.unwrap();
        TlsFront { port: host.address().port(), pem: certificate.pem(), _host: host }
    }
}
