//! Whom we trust, and who we are: read from files, again when they have changed.

use super::HttpConfig;
use super::pin::Pinned;
use crate::output::pem::{certificates, private_key};
use anyhow::{Context, Error, Result, anyhow, ensure};
use rustls::{ClientConfig, RootCertStore};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// The certificates of an output.
pub struct Tls {
    ca_file: Option<PathBuf>,
    client: Option<super::ClientCert>,
    read: Mutex<Read>,
}

/// What was read, and how the files looked then.
struct Read {
    config: Arc<ClientConfig>,
    looks: Vec<Option<(SystemTime, u64)>>,
}

impl Tls {
    /// Trusts the system's roots (`/etc/ssl/certs`, or `SSL_CERT_FILE` and `SSL_CERT_DIR`), and a file's
    /// certificates beside them: of authorities, or of servers themselves. `client` is who we are.
    ///
    /// # Errors
    /// A file cannot be read or does not hold what it should; or there is nobody at all to trust.
    pub fn trusting(ca_file: Option<PathBuf>, client: Option<super::ClientCert>) -> Result<Self> {
        let looks = looks(ca_file.as_deref(), client.as_ref());
        let read = read(ca_file.as_deref(), client.as_ref())?;
        Ok(Self { ca_file, client, read: Mutex::new(Read { config: read, looks }) })
    }

    /// Shared by the connections of an output; none where no URL needs it, since certificates take memory.
    ///
    /// # Errors
    /// See [`Self::trusting`].
    pub fn of(config: &HttpConfig) -> Result<Option<Arc<Self>>> {
        let new = || Self::trusting(config.ca_file.clone(), config.client_cert.clone());
        let needed = config.urls[0].starts_with("https://");
        Ok(needed.then(new).transpose()?.map(Arc::new))
    }

    /// As the files are now. While they are wrong, what they held before stays in use.
    pub fn config(&self) -> Arc<ClientConfig> {
        let mut known = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let now = looks(self.ca_file.as_deref(), self.client.as_ref());
        if known.looks != now {
            known.looks = now;
            match read(self.ca_file.as_deref(), self.client.as_ref()) {
                Ok(config) => {
                    log::info!("certificates have changed: they were read again");
                    known.config = config;
                }
                Err(error) => log::error!("{error:#}; the certificates read before stay in use"),
            }
        }
        Arc::clone(&known.config)
    }
}

/// Time and size of the files; the system's roots are read along with them.
fn looks(ca: Option<&Path>, client: Option<&super::ClientCert>) -> Vec<Option<(SystemTime, u64)>> {
    let client = client.into_iter().flat_map(|client| [&*client.cert, &*client.key]);
    let look = |path: &Path| {
        let data = fs::metadata(path).ok()?;
        Some((data.modified().ok()?, data.len()))
    };
    ca.into_iter().chain(client).map(look).collect()
}

fn read(ca_file: Option<&Path>, client: Option<&super::ClientCert>) -> Result<Arc<ClientConfig>> {
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        log::warn!("the system's root certificates: {error}");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(system.certs);
    let mut pinned = Vec::new();
    if let Some(path) = ca_file {
        pinned = certificates(path).with_context(|| format!("the CA file {}", path.display()))?;
        for (i, certificate) in pinned.iter().enumerate() {
            let place = || format!("the CA file {}: certificate {}", path.display(), i + 1);
            roots.add(certificate.clone()).with_context(place)?;
        }
    }
    ensure!(!roots.is_empty(), "the system has no root certificates: name a `ca_file`");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Pinned::new(roots, pinned, Arc::clone(&provider))?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    Ok(Arc::new(match client {
        None => config.with_no_client_auth(),
        Some(super::ClientCert { cert, key }) => {
            let place = || format!("client_cert {}", cert.display());
            let chain = certificates(cert).with_context(place)?;
            let key = private_key(key).with_context(|| format!("client_key {}", key.display()))?;
            config.with_client_auth_cert(chain, key).map_err(mismatch).with_context(place)?
        }
    }))
}

fn mismatch(error: rustls::Error) -> Error {
    match error {
        rustls::Error::InconsistentKeys(_) => anyhow!("`client_key` is the key of another one"),
        error => error.into(),
    }
}
