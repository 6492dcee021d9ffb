//! A server that is known by its own certificate, and one that wants to know ours.

use super::super::ClientCert;
use super::tls::{authority, deliver, with_certificate};
use super::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ECDSA_P384_SHA384,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

fn config_of(certificate: &str, key: &str) -> Arc<ServerConfig> {
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    with_certificate(certificate, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
}

/// A certificate and a server that has it, made by commands in which KEY and CERT are files.
fn openssl(commands: &[&str]) -> Option<(String, Arc<ServerConfig>)> {
    let dir = tempfile::tempdir().unwrap();
    for command in commands {
        let output = Command::new("openssl").args(command.split(' ')).current_dir(&dir).output();
        let Ok(output) = output else {
            println!("SKIPPED: there is no openssl");
            return None;
        };
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let read = |name| fs::read_to_string(dir.path().join(name)).unwrap();
    let certificate = read("CERT");
    let config = config_of(&certificate, &read("KEY"));
    Some((certificate, config))
}

/// With rcgen: signed by itself.
fn self_signed(is_ca: IsCa, years: (i32, i32)) -> (String, Arc<ServerConfig>) {
    let mut params = CertificateParams::new(["influx.example".to_owned()]).unwrap();
    params.is_ca = is_ca;
    params.not_before = date_time_ymd(years.0, 1, 1);
    params.not_after = date_time_ymd(years.1, 1, 1);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    let config = config_of(&pem, &key.serialize_pem());
    (pem, config)
}

const CA: IsCa = IsCa::Ca(BasicConstraints::Unconstrained);
const VALID: (i32, i32) = (2020, 2120);

#[test]
fn a_default_certificate_of_openssl_is_the_server_itself() {
    for command in [
        "req -x509 -newkey rsa:2048 -nodes -keyout KEY -out CERT -subj /CN=influx",
        "req -x509 -newkey rsa:2048 -nodes -keyout KEY -out CERT -subj /CN=x \
         -addext basicConstraints=critical,CA:FALSE",
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout KEY -out CERT \
         -subj /CN=influx",
    ] {
        let command = command.split_whitespace().collect::<Vec<_>>().join(" ");
        let Some((certificate, server)) = openssl(&[&command]) else { return };
        for name in ["localhost", "127.0.0.1"] {
            let requests = deliver(name, &certificate, Arc::clone(&server));
            assert_eq!(requests.unwrap_or_else(|why| panic!("{command}: {why}")).len(), 2);
        }
    }
}

#[test]
fn a_certificate_of_version_1_is_refused_with_advice() {
    let commands = [
        "req -newkey rsa:2048 -nodes -keyout KEY -out REQUEST -subj /CN=localhost",
        "x509 -req -in REQUEST -signkey KEY -out CERT",
    ];
    let Some((certificate, server)) = openssl(&commands) else { return };
    let why = deliver("localhost", &certificate, server).unwrap_err();
    assert!(why.contains("version 1") && why.contains("openssl req -x509"), "{why}");
}

#[test]
fn a_pinned_certificate_need_not_have_the_name_and_has_to_be_the_very_one() {
    for is_ca in [CA, IsCa::ExplicitNoCa, IsCa::NoCa] {
        let (certificate, server) = self_signed(is_ca, VALID);
        let (other, _) = self_signed(is_ca, VALID);
        assert_eq!(deliver("localhost", &certificate, Arc::clone(&server)).unwrap().len(), 2);
        let both = format!("{other}{certificate}");
        assert_eq!(deliver("localhost", &both, Arc::clone(&server)).unwrap().len(), 2);
        let why = deliver("localhost", &other, server).unwrap_err();
        assert!(why.contains("`ca_file`") && why.contains("the certificate itself"), "{why}");
    }
}

#[test]
fn a_pinned_certificate_of_another_time_is_refused() {
    for (years, words) in [((2000, 2001), "expired"), ((2100, 2120), "not valid yet")] {
        for is_ca in [CA, IsCa::ExplicitNoCa] {
            let (certificate, server) = self_signed(is_ca, years);
            let why = deliver("localhost", &certificate, server).unwrap_err();
            assert!(why.contains(words), "{why}");
        }
    }
}

#[test]
fn what_an_authority_in_the_file_vouches_for_still_needs_its_name() {
    let (ca, server) = authority("ours", "elsewhere");
    let (pinned, _) = self_signed(CA, VALID);
    let why = deliver("localhost", &format!("{pinned}{ca}"), server).unwrap_err();
    assert!(why.contains("certificate") && why.contains("localhost"), "{why}");
}

/// An authority for clients, a certificate of a client, and its key.
fn client() -> (String, String, String) {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = CA;
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["collector".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &ca).unwrap();
    (ca.pem(), certificate.pem(), key.serialize_pem())
}

/// A server that asks for a client's certificate; its own one.
fn asking(
    clients: &str,
    version: &'static SupportedProtocolVersion,
) -> (String, Arc<ServerConfig>) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(clients.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
        )
        .unwrap();
    (pem, Arc::new(config))
}

/// An output to a server over TLS, with what lies in a folder: `ca`, `cert` and `key`.
fn config_in(dir: &Path, server: &Server, with_client: bool) -> HttpConfig {
    let mut config = config(server);
    config.urls = vec![format!("https://localhost:{}", server.port())];
    config.ca_file = Some(dir.join("ca"));
    config.client_cert =
        with_client.then(|| ClientCert { cert: dir.join("cert"), key: dir.join("key") });
    config
}

#[test]
fn a_server_that_wants_a_certificate_gets_ours() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let (clients, certificate, key) = client();
        let (ca, tls) = asking(&clients, version);
        let dir = tempfile::tempdir().unwrap();
        let server = Server::with(|_| Reaction::status(204), Some(tls), None);
        let write = |name, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("ca", &ca);
        write("cert", &certificate);
        write("key", &key);
        let config = config_in(dir.path(), &server, true);
        let mut output = open(&config).unwrap();
        output.deliver(&mut parcel(&["a v=1 1\n"]), None).unwrap();
        assert_eq!(server.requests().len(), 1);

        // Without one, and with one of another authority, nothing is sent and a person is asked.
        let without = config_in(dir.path(), &server, false);
        let why = held(open(&without).unwrap().deliver(&mut parcel(&["b v=1 1\n"]), None));
        assert!(why.contains("look at `client_cert`"), "{why}");
        let (_, other, other_key) = client();
        write("cert", &other);
        write("key", &other_key);
        let why = held(open(&config).unwrap().deliver(&mut parcel(&["b v=1 1\n"]), None));
        assert!(why.contains("look at `client_cert`"), "{why}");
        assert_eq!(server.requests().len(), 1);

        // The files are read again for each connection; while they do not fit, the old ones are used.
        let mut again = config.clone();
        again.connection_age = Duration::ZERO;
        let mut output = open(&again).unwrap();
        held(output.deliver(&mut parcel(&["b v=1 1\n"]), None));
        write("cert", &certificate);
        held(output.deliver(&mut parcel(&["b v=1 1\n"]), None));
        write("key", &format!("{key}\n"));
        output.deliver(&mut parcel(&["b v=1 1\n"]), None).unwrap();
    }
}

#[test]
fn files_that_do_not_hold_what_they_should_are_named() {
    let (_, certificate, key) = client();
    let (_, other, _) = client();
    let server = Server::start(|_| Reaction::status(204));
    let dir = tempfile::tempdir().unwrap();
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let damaged = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
    for (ca, cert, private, words) in [
        ("none", &*certificate, &*key, "ca: it holds no certificate in PEM"),
        (damaged, &certificate, &key, "ca: it is damaged"),
        (&certificate, "none", &key, "client_cert"),
        (&certificate, &certificate, "none", "key: it holds no private key in PEM"),
        (&certificate, &certificate, encrypted, "key: it has a password: `openssl pkey"),
        (&certificate, &other, &key, "cert: `client_key` is the key of another one"),
    ] {
        for (name, text) in [("ca", ca), ("cert", cert), ("key", private)] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let error = open(&config_in(dir.path(), &server, true)).err().unwrap();
        assert!(format!("{error:#}").contains(words), "{error:#} should say {words}");
    }
    fs::remove_file(dir.path().join("ca")).unwrap();
    let error = open(&config_in(dir.path(), &server, false)).err().unwrap();
    assert!(format!("{error:#}").contains("/ca: No such file"), "{error:#}");
}
