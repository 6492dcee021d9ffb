//! The same over TLS.

use super::*;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};
use std::io::{self, ErrorKind};
use std::path::Path;

type Tls = StreamOwned<ClientConnection, UnixStream>;

/// A server with a certificate, and those who know its authority.
struct Secured {
    rig: Rig,
    cert: Arc<ServerCert>,
    authority: Authority,
    dir: TempDir,
}

const YEARS: (i32, i32) = (2020, 2120);

impl Secured {
    fn start() -> Self {
        let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
        let cert = Arc::new(ServerCert::read(&authority.write(dir.path(), YEARS)).unwrap());
        Self { rig: Rig::with(Some(Arc::clone(&cert))), cert, authority, dir }
    }

    fn connect(&self, versions: &[&'static SupportedProtocolVersion]) -> Tls {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(self.authority.pem().as_bytes()).unwrap();
        roots.add(ca).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let client = ClientConnection::new(Arc::new(config), name).unwrap();
        StreamOwned::new(client, self.rig.connect())
    }

    /// The answer to a request, until the end of the connection.
    fn say(&self, mut tls: Tls, request: &str) -> io::Result<String> {
        tls.write_all(request.as_bytes())?;
        let mut answer = String::new();
        tls.read_to_string(&mut answer)?; // an end that is not said to be one is an error
        Ok(answer)
    }

    fn get(&self, path: &str) -> String {
        self.say(self.connect(&[&TLS13]), &request(path)).unwrap()
    }

    /// What a client says first.
    fn hello(&self) -> Vec<u8> {
        let mut hello = Vec::new();
        self.connect(&[&TLS13, &TLS12]).conn.write_tls(&mut hello).unwrap();
        hello
    }
}

fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

#[test]
fn both_versions_get_whole_answers_and_an_end_that_is_said() {
    let secured = Secured::start();
    secured.rig.fill(2000);
    for version in [&TLS12, &TLS13] {
        let body = secured.say(secured.connect(&[version]), &request("/metrics")).unwrap();
        let body = unchunked(&body);
        assert_eq!(body.matches("le=\"+Inf\"} 3\n").count(), 2000, "{version:?}");
        // Several on one connection.
        let one = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(40);
        let all = one + "GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n";
        let answer = secured.say(secured.connect(&[version]), &all).unwrap();
        assert_eq!(answer.matches("HTTP/1.1 200 OK\r\n").count(), 41, "{version:?}");
        assert!(answer.ends_with("w_us_count{s=\"1999\"} 3\n"), "{version:?}");
    }
    let evil = "GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    let answer = secured.say(secured.connect(&[&TLS13]), evil).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}

#[test]
fn what_is_no_tls_is_told_so_and_an_older_version_gets_an_alert() {
    let secured = Secured::start();
    for bytes in [request("/metrics").as_bytes(), b"\x80\x2e\x01\x00\x02", b"G"] {
        let answer = secured.rig.say(bytes);
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        assert!(answer.ends_with("the URL has to begin with https://\n"), "{answer}");
    }
    for minor in 0..=2 {
        // A hello of SSL 3, TLS 1.0 and 1.1: random bytes, no session, one cipher suite, no compression.
        let mut hello = vec![3, minor];
        hello.extend([7; 32]);
        hello.extend([0, 0, 2, 0xc0, 0x13, 1, 0]);
        let length = hello.len() as u8;
        let record = [&[22, 3, minor, 0, length + 4, 1, 0, 0, length], &*hello].concat();
        let mut stream = secured.rig.connect();
        stream.write_all(&record).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        // A fatal alert, handshake_failure or protocol_version, and nothing else.
        let (kind, alert) = (answer.first(), answer.get(5..));
        assert_eq!(kind, Some(&21), "{answer:?}");
        assert!(matches!(alert, Some([2, 40 | 70])), "{answer:?}");
    }
    let cut = secured.hello();
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..500 {
        let mut bytes = cut.clone();
        for _ in 0..random.usize(1..6) {
            let at = random.usize(1..bytes.len());
            bytes[at] = random.u8(..);
        }
        let mut stream = secured.rig.connect();
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
    assert!(secured.get("/healthz").starts_with("HTTP/1.1 200 "));
}

#[test]
fn slow_handshakes_and_readers_that_stand_still_keep_nobody_away() {
    let secured = Secured::start();
    secured.rig.fill(2000);
    let still: Vec<Tls> = (0..20)
        .map(|_| {
            let mut tls = secured.connect(&[&TLS13]);
            tls.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            tls
        })
        .collect();
    let hello = secured.hello();
    let mut slow = std::collections::VecDeque::new();
    let mut longest = Duration::ZERO;
    for n in 0..3000 {
        let mut stream = secured.rig.connect();
        // Half a hello, or a whole one and then nothing.
        let _ = stream.write_all(if n % 2 == 0 { &hello[..20] } else { &hello });
        slow.push_back(stream);
        if slow.len() > 400 {
            slow.pop_front();
        }
        if n % 500 == 0 {
            let began = Instant::now();
            assert!(secured.get("/healthz").starts_with("HTTP/1.1 200 "), "after {n}");
            longest = longest.max(began.elapsed());
        }
    }
    println!("the longest answer took {longest:?}");
    assert!(longest < Duration::from_secs(5), "{longest:?}");
    drop(still);
    let mut stream = secured.rig.connect();
    stream.write_all(&hello).unwrap();
    let began = Instant::now();
    let _ = stream.read_to_end(&mut Vec::new());
    assert!((4..15).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

#[test]
fn a_renewed_certificate_is_shown_to_those_who_connect_then() {
    let secured = Secured::start();
    let shown = |tls: &mut Tls| {
        tls.conn.complete_io(&mut tls.sock).unwrap();
        tls.conn.peer_certificates().unwrap()[0].as_ref().to_vec()
    };
    let on_disk = |folder: &Path| {
        let text = std::fs::read(folder.join("cert.pem")).unwrap();
        CertificateDer::from_pem_slice(&text).unwrap().as_ref().to_vec()
    };
    let mut first = secured.connect(&[&TLS13]);
    let old = shown(&mut first);
    assert_eq!(old, on_disk(secured.dir.path()));
    secured.authority.write(secured.dir.path(), YEARS);
    secured.cert.read_again();
    let renewed = shown(&mut secured.connect(&[&TLS13]));
    assert!(renewed != old && renewed == on_disk(secured.dir.path()));
    // What is connected stays so.
    let answer = secured.say(first, &request("/healthz")).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    std::fs::write(secured.dir.path().join("key.pem"), "no key").unwrap();
    secured.cert.read_again();
    assert_eq!(shown(&mut secured.connect(&[&TLS13])), renewed);
    // Expired: the server goes on, those who ask refuse it.
    secured.authority.write(secured.dir.path(), (2000, 2001));
    secured.cert.read_again();
    let why = secured.say(secured.connect(&[&TLS13]), &request("/healthz")).unwrap_err();
    assert!(why.kind() == ErrorKind::InvalidData && why.to_string().contains("xpired"), "{why}");
}
