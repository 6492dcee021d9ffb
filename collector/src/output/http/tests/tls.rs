//! Over TLS, with an authority of our own.

use super::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use std::fs;
use std::sync::Arc;

/// An authority: its certificate in PEM, and a server of a name that it vouches for.
pub fn authority(authority: &str, name: &str) -> (String, Arc<ServerConfig>) {
    let mut params = CertificateParams::new([]).unwrap();
    params.distinguished_name.push(DnType::CommonName, authority);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &ca).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    (ca.pem(), with_certificate(certificate.der().clone(), key))
}

/// A server that has a certificate.
pub fn with_certificate(
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth();
    // Whatever is in the certificate: `with_single_cert` would look.
    let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
    let certified = CertifiedKey::new(vec![certificate], key);
    Arc::new(config.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified))))
}

/// Delivers to a server of that name, whom the file vouches for.
pub fn deliver(name: &str, ca: &str, server: Arc<ServerConfig>) -> Result<Vec<Request>, String> {
    let dir = tempfile::tempdir().unwrap();
    let ca_file = dir.path().join("ca.pem");
    fs::write(&ca_file, ca).unwrap();
    let server = Server::with(|_| Reaction::status(204), Some(server), None);
    let mut config = config(&server);
    config.urls = vec![format!("https://{name}:{}", server.port())];
    config.ca_file = Some(ca_file);
    let mut output = open(&config).unwrap();
    for _ in 0..2 {
        match output.deliver(&mut parcel(&[lines(5000)]), None) {
            Ok(()) => {}
            failure => return Err(held(failure)),
        }
    }
    let requests = server.requests().clone();
    Ok(requests)
}

#[test]
fn a_server_that_our_own_authority_vouches_for_is_trusted() {
    let (ca, server) = authority("ours", "localhost");
    let requests = deliver("localhost", &ca, server).unwrap();
    assert_eq!(requests.iter().map(|r| r.connection).collect::<Vec<_>>(), [0, 0]);
    assert_eq!(requests[1].body, lines(5000));
}

#[test]
fn a_server_that_nobody_we_trust_vouches_for_gets_nothing() {
    let (_, server) = authority("theirs", "localhost");
    let (ours, _) = authority("ours", "localhost");
    let why = deliver("localhost", &ours, server).unwrap_err();
    assert!(why.contains("UnknownIssuer") && why.contains("`ca_file`"), "{why}");
}

#[test]
fn a_server_of_another_name_gets_nothing() {
    let (ca, server) = authority("ours", "elsewhere");
    let why = deliver("localhost", &ca, server).unwrap_err();
    assert!(why.contains("certificate") && why.contains("localhost"), "{why}");
}
