//! Encrypted connections to a server, the same for every engine: rustls with ring, and always a check of who answers.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use std::fmt::Display;
use std::io;
use std::path::Path;
use std::sync::Arc;
use turnwise_core::{Result, StoreError};

/// Trusts the certificates of a file, or those that this machine trusts.
pub(crate) fn trusting(file: Option<&Path>) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = file {
        for certificate in CertificateDer::pem_file_iter(file).map_err(unreadable)? {
            roots.add(certificate.map_err(unreadable)?).map_err(unreadable)?;
        }
        if roots.is_empty() {
            return Err(unreadable("there is none in the file"));
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| StoreError::Invalid(format!("TLS cannot be set up: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn unreadable(error: impl Display) -> StoreError {
    StoreError::Invalid(format!("the certificates of sslrootcert cannot be read: {error}"))
}

/// Why a connection was not encrypted, in words that say what to do.
#[cfg(feature = "redis")]
pub(crate) fn refusal(error: &io::Error) -> String {
    let why = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match why {
        Some(rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => format!("its certificate is for another name: {error}"),
        Some(rustls::Error::InvalidCertificate(_)) => format!(
            "its certificate is not trusted: {error}; sslrootcert= in the URL names a file of those to trust"
        ),
        _ => format!("no TLS connection: {error}"),
    }
}
