//! A page and metrics for those who ask, in place of lines that are sent: `--http`.
//!
//! It is an output like the others, with a queue and books: its lines are added up in the [`store`], by the output's
//! own thread. Another thread ([`server`]) answers requests from there. Plugins' threads know neither of them.

mod address;
mod api;
mod channel;
mod connection;
mod cost;
mod exposition;
mod history;
mod page;
mod request;
mod route;
mod server;
pub mod states;
mod store;
#[cfg(test)]
mod tests;
mod tls;

pub use address::Listen;
pub(crate) use store::Store;
pub use tls::CertFiles;

use super::books::Cause;
use super::secret::Secret;
use super::{Failure, Output, Parcel};
use crate::capabilities::drop_all;
use crate::process::thread_name;
use address::Listener;
use anyhow::{Context as _, Error, Result};
use request::Access;
use serde_json::Value as Json;
use server::{Server, Stop};
use states::Interest;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;
use store::{Kept, MAX_SERIES};
use tls::ServerCert;

/// As it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeConfig {
    /// Where it listens.
    pub listen: Listen,
    /// What everybody who asks must have.
    pub token: Option<Secret>,
    /// With them TLS is spoken.
    pub tls: Option<CertFiles>,
}

impl fmt::Display for ServeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.listen {
            Listen::Tcp(_) => write!(f, "http:{}", self.listen),
            Listen::Unix(path) => write!(f, "http+unix:{}", path.display()),
        }
    }
}

impl ServeConfig {
    /// Checks that only those can ask who may.
    ///
    /// # Errors
    /// What is missing.
    pub fn check_access(&self) -> Result<(), String> {
        let listen = &self.listen;
        if matches!(listen, Listen::Unix(_)) && self.tls.is_some() {
            return Err(format!(
                "http: {listen} is of this machine alone and needs no TLS: take `http_cert_file` and `http_key_file` out \
                 of the configuration, or listen at ADDRESS:PORT"
            ));
        }
        if listen.is_local() || self.token.is_some() || self.tls.is_some() {
            return Ok(());
        }
        Err(format!(
            "http: {listen} can be reached from other machines: set `http_token_file`, or `http_cert_file` and \
             `http_key_file` for TLS, in the configuration, or listen at 127.0.0.1"
        ))
    }

    /// The same, and that the token and the certificate can be read.
    ///
    /// # Errors
    /// What is missing.
    pub fn check(&self) -> Result<()> {
        self.cert().map(drop)
    }

    /// The certificate to show, once all is checked.
    fn cert(&self) -> Result<Option<Arc<ServerCert>>> {
        self.check_access().map_err(Error::msg)?;
        if let Some(token) = &self.token {
            token.read().context("http: its token")?;
        }
        let cert = self.tls.as_ref().map(ServerCert::read).transpose()?;
        Ok(cert.map(Arc::new))
    }
}

/// A store that one fills and others look into. Two are the same when they are one.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<Store>>);

impl Shared {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Store::new(MAX_SERIES))))
    }

    /// Forgets everything.
    pub fn clear(&self) {
        *self.lock() = Store::new(MAX_SERIES);
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to `/api/tables`.
    #[must_use]
    pub fn tables(&self) -> Json {
        api::tables(&self.lock(), states::last().as_ref())
    }

    /// The answer to `/api/series?QUERY`.
    ///
    /// # Errors
    /// A sentence: there is no such table, or a key is wrong.
    pub fn series(&self, query: &str) -> Result<Json, String> {
        api::series(&self.lock(), query).map_err(|(_, words)| words)
    }
}

impl Default for Shared {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl PartialEq for Shared {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Shared {}

/// Who answers from a store, until this is dropped.
pub struct Serving {
    cert: Option<Arc<ServerCert>>,
    /// Ends the thread that answers.
    _stop: Stop,
}

/// Takes lines into a store.
struct Serve {
    store: Shared,
    /// Who answers, unless this process alone looks into the store.
    server: Option<Serving>,
    _interest: Interest,
}

/// Listens, and begins to answer.
///
/// # Errors
/// Others could ask without a token or TLS, a file cannot be used, or the kernel refuses the address.
pub fn open(config: &ServeConfig) -> Result<Box<dyn Output>> {
    let store = Shared::new();
    let server = Some(serve(config, &store)?);
    Ok(Box::new(Serve { store, server, _interest: Interest::begin() }))
}

/// Takes lines for those who look into the store themselves.
pub fn keep(store: &Shared) -> Box<dyn Output> {
    let store = store.clone();
    Box::new(Serve { store, server: None, _interest: Interest::begin() })
}

/// Listens, and answers from a store until the result is dropped.
///
/// # Errors
/// Others could ask without a token or TLS, a file cannot be used, or the kernel refuses the address.
pub fn serve(config: &ServeConfig, store: &Shared) -> Result<Serving> {
    let cert = config.cert()?;
    let listener = Listener::open(&config.listen)?;
    let access = Access {
        loopback: matches!(config.listen, Listen::Tcp(_)) && config.listen.is_local(),
        token: config.token.clone(),
        tls: cert.is_some(),
    };
    let (server, stop) =
        Server::new(listener, access, cert.clone(), Arc::clone(&store.0)).context("http")?;
    let run = || {
        drop_all();
        server.run();
    };
    thread::Builder::new().name(thread_name("http")).spawn(run).context("http: its thread")?;
    if let Listen::Tcp(address) = &config.listen {
        let scheme = if cert.is_some() { "https" } else { "http" };
        log::info!(
            "http: the page is at {scheme}://{address}/, metrics are at {scheme}://{address}/metrics"
        );
        if !config.listen.is_local() && config.token.is_none() {
            log::warn!("http: there is no token: whoever reaches {address} may read all of it");
        }
    }
    Ok(Serving { cert, _stop: stop })
}

impl Output for Serve {
    fn deliver(&mut self, parcel: &mut Parcel, _: Option<Instant>) -> Result<(), Failure> {
        let mut runs: Vec<(Kept, u64)> = Vec::new();
        while let Some(plugin) = parcel.plugin_of_first() {
            runs.clear();
            let add = |kept| match runs.last_mut() {
                Some((last, lines)) if *last == kept => *lines += 1,
                _ => runs.push((kept, 1)),
            };
            let mut store = self.store.lock();
            store.take(plugin, parcel.first(), Instant::now(), add);
            drop(store);
            for (kept, lines) in &runs {
                match kept {
                    Kept::Yes => parcel.delivered(*lines),
                    Kept::No => parcel.give_up(*lines, Cause::Rejected),
                }
            }
            if runs.is_empty() {
                parcel.give_up(parcel.lines_of_first(), Cause::Rejected); // there is no such batch
            }
        }
        Ok(())
    }
    fn reopen(&mut self) {
        if let Some(cert) = self.server.as_ref().and_then(|server| server.cert.as_ref()) {
            cert.read_again();
        }
    }
}
