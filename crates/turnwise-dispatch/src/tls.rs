//! TLS towards whoever is called: TLS 1.2 and 1.3 by rustls, with certificates checked against the system's store or the
//! operator's own file.

use std::path::Path;
use std::sync::Arc;

use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::agent::tcp;
use crate::config::{ConfigError, DispatchConfig};

/// The connector for https addresses. Reads the trusted certificates now.
pub(crate) fn tls(config: &DispatchConfig) -> Result<HttpsConnector<HttpConnector>, ConfigError> {
    let trusting = trusting(Trust::of(config.ca_file.as_deref())).map_err(ConfigError::Certificates)?;
    let mut tcp = tcp(config);
    tcp.enforce_http(false);
    Ok(HttpsConnectorBuilder::new().with_tls_config(trusting).https_only().enable_http1().wrap_connector(tcp))
}

/// Whose certificates are trusted.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'a> {
    /// The system's.
    System,
    /// Those in this PEM file.
    File(&'a Path),
    /// Nobody's: no host is called that has one.
    Nobody,
}

impl<'a> Trust<'a> {
    /// The file's, if one is named.
    pub(crate) fn of(ca_file: Option<&'a Path>) -> Trust<'a> {
        ca_file.map_or(Trust::System, Trust::File)
    }
}

/// TLS with these certificates. Reads them now.
///
/// # Errors
/// Why they cannot be read.
pub fn trusting(trust: Trust<'_>) -> Result<ClientConfig, String> {
    // Named here and not left to a process-wide default: there is one provider.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let trusting = match trust {
        Trust::Nobody => builder.with_root_certificates(RootCertStore::empty()),
        Trust::File(file) => builder.with_root_certificates(read(file)?),
        Trust::System => builder.with_native_roots().map_err(|error| {
            format!("{error}; install the system's certificates (ca-certificates), or name a PEM file")
        })?,
    };
    Ok(trusting.with_no_client_auth())
}

fn read(file: &Path) -> Result<RootCertStore, String> {
    let unreadable = |why: String| format!("{}: {why}", file.display());
    let mut store = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(file).map_err(|error| unreadable(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| unreadable(error.to_string()))?;
        store.add(certificate).map_err(|error| unreadable(error.to_string()))?;
    }
    if store.is_empty() {
        return Err(unreadable("there is no certificate in it".to_owned()));
    }
    Ok(store)
}
