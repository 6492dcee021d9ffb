//! What a connection's bytes go through: nothing, or TLS. It never waits.

use super::address::Stream;
use rustix::net::{RecvFlags, Shutdown, recv, shutdown};
use rustls::{ServerConfig, ServerConnection};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::sync::Arc;

/// The first byte of a connection of TLS: a record of its handshake.
const HANDSHAKE: u8 = 22;
/// What is encrypted at once, and so waits at most.
const RECORD: usize = 16 << 10;

/// A connection's two ends.
pub struct Channel {
    stream: Stream,
    layer: Layer,
}

enum Layer {
    Plain,
    /// TLS is expected, and nothing has come yet.
    Expected(Arc<ServerConfig>),
    Tls(Box<ServerConnection>),
}

/// What has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// So many bytes.
    Bytes(usize),
    /// The end.
    End,
    /// No TLS, where it is expected. An answer to it is not encrypted either.
    Plain,
}

impl Channel {
    /// With TLS if there is a certificate.
    pub fn new(stream: Stream, tls: Option<Arc<ServerConfig>>) -> Self {
        Self { stream, layer: tls.map_or(Layer::Plain, Layer::Expected) }
    }

    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Whether it waits for room to write, whatever it is asked for.
    pub fn wants_write(&self) -> bool {
        matches!(&self.layer, Layer::Tls(tls) if tls.wants_write())
    }

    /// Reads what is there. A step of TLS's handshake counts as an interruption: there may be more.
    ///
    /// # Errors
    /// Nothing is there, or the connection is broken.
    pub fn read(&mut self, bytes: &mut [u8]) -> io::Result<Came> {
        let came = |length| if length == 0 { Came::End } else { Came::Bytes(length) };
        if let Layer::Expected(config) = &self.layer {
            let mut first = [0];
            let (_, length) = recv(&self.stream, &mut first, RecvFlags::PEEK)?;
            match (length, first[0]) {
                (0, _) => return Ok(Came::End),
                (_, HANDSHAKE) => {
                    let tls =
                        ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
                    self.layer = Layer::Tls(Box::new(tls));
                }
                _ => {
                    self.layer = Layer::Plain;
                    return Ok(Came::Plain);
                }
            }
        }
        let Layer::Tls(tls) = &mut self.layer else { return self.stream.read(bytes).map(came) };
        match tls.reader().read(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            read => return read.map(came),
        }
        flush(tls, &mut self.stream)?;
        if tls.read_tls(&mut self.stream)? == 0 {
            return Ok(Came::End);
        }
        if let Err(why) = tls.process_new_packets() {
            log::debug!("http: a connection ends: {why}");
            let _ = tls.write_tls(&mut self.stream); // it is told why
            return Err(ErrorKind::InvalidData.into());
        }
        Err(ErrorKind::Interrupted.into())
    }

    /// Writes as much as there is room for. With TLS, [`Channel::flush`] has to follow.
    ///
    /// # Errors
    /// There is no room, or the connection is broken.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Layer::Tls(tls) = &mut self.layer else { return self.stream.write(bytes) };
        flush(tls, &mut self.stream)?;
        let length = tls.writer().write(&bytes[..bytes.len().min(RECORD)])?;
        match flush(tls, &mut self.stream) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(length),
        }
    }

    /// Writes what was encrypted and is still here.
    ///
    /// # Errors
    /// There is no room, or the connection is broken.
    pub fn flush(&mut self) -> io::Result<()> {
        match &mut self.layer {
            Layer::Tls(tls) => flush(tls, &mut self.stream),
            Layer::Plain | Layer::Expected(_) => Ok(()),
        }
    }

    /// Nothing more is written.
    ///
    /// # Errors
    /// There is no room for the rest yet, or the connection is broken.
    pub fn finish(&mut self) -> io::Result<()> {
        if let Layer::Tls(tls) = &mut self.layer {
            tls.send_close_notify(); // once, however often it is called
            flush(tls, &mut self.stream)?;
        }
        let _ = shutdown(&self.stream, Shutdown::Write);
        Ok(())
    }

    /// Throws away what is there. How much that was; 0 at the end.
    ///
    /// # Errors
    /// Nothing is there, or the connection is broken.
    pub fn discard(&mut self) -> io::Result<usize> {
        self.stream.read(&mut [0; 4096])
    }
}

fn flush(tls: &mut ServerConnection, stream: &mut Stream) -> io::Result<()> {
    while tls.wants_write() {
        if tls.write_tls(stream)? == 0 {
            return Err(ErrorKind::WriteZero.into());
        }
    }
    Ok(())
}
