//! Whom we trust.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// Trusts the system's roots as they are now (`/etc/ssl/certs`, or `SSL_CERT_FILE` and `SSL_CERT_DIR`),
/// and a file's certificates beside them.
///
/// # Errors
/// The file cannot be read or holds none; or there is nobody at all to trust.
pub fn config(ca_file: Option<&Path>) -> Result<TlsConfig> {
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        log::warn!("the system's root certificates: {error}");
    }
    let mut roots: Vec<Certificate<'static>> =
        system.certs.iter().map(|root| Certificate::from_der(root).to_owned()).collect();
    if let Some(path) = ca_file {
        roots.extend(read(path).with_context(|| format!("the CA file {}", path.display()))?);
    }
    ensure!(!roots.is_empty(), "the system has no root certificates: name a CA file");
    let provider = rustls::crypto::ring::default_provider();
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .unversioned_rustls_crypto_provider(Arc::new(provider))
        .build())
}

fn read(path: &Path) -> Result<Vec<Certificate<'static>>> {
    let pem = fs::read(path)?;
    let mut certificates = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item? {
            certificates.push(certificate);
        }
    }
    ensure!(!certificates.is_empty(), "it holds no certificate in PEM");
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_without_a_certificate_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let error = || format!("{:#}", config(Some(&path)).err().unwrap());
        assert!(error().contains("ca.pem"), "{}", error());
        fs::write(&path, "none").unwrap();
        assert!(error().contains("ca.pem: it holds no certificate"), "{}", error());
    }
}
