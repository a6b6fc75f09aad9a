//! TLS towards the agent and towards hosts of callbacks: TLS 1.2 and 1.3 by rustls, with certificates checked
//! against the system's store or the operator's own file.

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
    let trusting = trusting(config.ca_file.as_deref())?;
    let mut tcp = tcp(config);
    tcp.enforce_http(false);
    Ok(HttpsConnectorBuilder::new().with_tls_config(trusting).https_only().enable_http1().wrap_connector(tcp))
}

/// Trusts the certificates in a file, or those of the system.
pub(crate) fn trusting(ca_file: Option<&Path>) -> Result<ClientConfig, ConfigError> {
    // Named here and not left to a process-wide default: there is one provider.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ConfigError::Certificates(error.to_string()))?;
    let trusting = match ca_file {
        Some(file) => builder.with_root_certificates(read(file)?),
        None => builder.with_native_roots().map_err(|error| {
            ConfigError::Certificates(format!(
                "{error}; install the system's certificates (ca-certificates), or name a PEM file"
            ))
        })?,
    };
    Ok(trusting.with_no_client_auth())
}

fn read(file: &Path) -> Result<RootCertStore, ConfigError> {
    let unreadable = |why: String| ConfigError::Certificates(format!("{}: {why}", file.display()));
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
