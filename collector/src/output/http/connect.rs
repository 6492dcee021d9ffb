//! How a connection to a server is made: found by name, through a proxy or not, with TLS or not.

use super::Url;
use super::tls::Tls;
use crate::output::host::HostPort;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout,
    TcpConnector, Transport, TransportAdapter,
};
use ureq::{Agent, Error};

/// What a connection needs beside ureq's configuration.
pub struct Way {
    /// The server.
    pub url: Url,
    /// Set when it speaks TLS.
    pub tls: Option<Arc<Tls>>,
    /// Where requests without TLS go instead of to the server.
    pub proxy: Option<Uri>,
    /// Set before each request; a proxy is told whom it is for.
    pub begins: Arc<AtomicBool>,
}

impl Way {
    /// An agent that goes this way.
    pub fn agent(&self, config: Config) -> Agent {
        let for_whom = format!("http://{}", self.url.host);
        let tcp = ().chain(ConnectProxyConnector::default()).chain(TcpConnector::default());
        let for_proxy = self.proxy.is_some().then(|| (Arc::clone(&self.begins), for_whom));
        let connector = tcp.chain(PlainProxy(for_proxy)).chain(TlsConnector(self.tls.clone()));
        let resolver =
            Names { host: self.url.host.clone(), port: self.url.port(), proxy: self.proxy.clone() };
        Agent::with_parts(config, connector, resolver)
    }
}

/// Looks up names, anew for each connection.
#[derive(Debug)]
struct Names {
    host: HostPort,
    port: u16,
    proxy: Option<Uri>,
}

impl Resolver for Names {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        if self.proxy.is_none() && self.host.zone().is_some() {
            let mut found = self.empty();
            self.host.look_up(self.port)?.into_iter().take(1).for_each(|a| found.push(a));
            return Ok(found);
        }
        DefaultResolver::default().resolve(self.proxy.as_ref().unwrap_or(uri), config, timeout)
    }
}

/// Tells a proxy whom a request is for: `POST http://HOST/..` in place of `POST /..`.
#[derive(Debug)]
struct PlainProxy(Option<(Arc<AtomicBool>, String)>);

impl<In: Transport> Connector<In> for PlainProxy {
    type Out = Either<In, ToProxy<In>>;

    fn connect(
        &self,
        _: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        Ok(chained.map(|transport| match &self.0 {
            None => Either::A(transport),
            Some((begins, for_whom)) => Either::B(ToProxy {
                transport,
                begins: Arc::clone(begins),
                for_whom: for_whom.clone(),
            }),
        }))
    }
}

#[derive(Debug)]
struct ToProxy<In> {
    transport: In,
    begins: Arc<AtomicBool>,
    for_whom: String,
}

impl<In: Transport> Transport for ToProxy<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.transport.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        if !self.begins.swap(false, Ordering::Relaxed) {
            return self.transport.transmit_output(amount, timeout);
        }
        let head = self.transport.buffers().output()[..amount].to_vec();
        let target = memchr::memchr(b' ', &head).ok_or(Error::BadUri("no target".to_owned()))? + 1;
        let head = [&head[..target], self.for_whom.as_bytes(), &head[target..]].concat();
        for part in head.chunks(amount) {
            self.transport.buffers().output()[..part.len()].copy_from_slice(part);
            self.transport.transmit_output(part.len(), timeout)?;
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.transport.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.transport.is_open()
    }
}

/// ureq's own cannot pin a certificate.
struct TlsConnector(Option<Arc<Tls>>);

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsConnector")
    }
}

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = Either<In, TlsTransport>;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        let Some(transport) = chained else { return Ok(None) };
        let (Some(tls), true) = (&self.0, details.needs_tls()) else {
            return Ok(Some(Either::A(transport)));
        };
        let host = details.uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(|error| Error::Other(error.into()))?;
        let tls = ClientConnection::new(tls.config(), name).map_err(other)?;
        let transport = TransportAdapter::new(transport.boxed(), Arc::clone(&details.current_time));
        let mut stream = StreamOwned::new(tls, transport);
        stream.sock.set_timeout(details.timeout);
        let result = stream.conn.complete_io(&mut stream.sock);
        result.map_err(|error| reason(error, &mut stream))?;
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(Either::B(TlsTransport { buffers, stream })))
    }
}

fn other(error: rustls::Error) -> Error {
    Error::Other(error.into())
}

/// Why a connection failed: in place of being cut, what the other end said before it cut it.
fn reason(
    error: io::Error,
    stream: &mut StreamOwned<ClientConnection, TransportAdapter>,
) -> io::Error {
    if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) {
        while stream.conn.read_tls(&mut stream.sock).is_ok_and(|bytes| bytes > 0) {
            if let Err(alert) = stream.conn.process_new_packets() {
                return io::Error::other(alert);
            }
        }
    }
    error
}

struct TlsTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TlsTransport").field(&self.stream.sock.inner()).finish()
    }
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.sock.set_timeout(timeout);
        let output = &self.buffers.output()[..amount];
        let result = self.stream.write_all(output);
        Ok(result.map_err(|error| reason(error, &mut self.stream))?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.sock.set_timeout(timeout);
        let result = self.stream.read(self.buffers.input_append_buf());
        // It may have had to write first.
        let amount = result.map_err(|error| reason(error, &mut self.stream))?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}
