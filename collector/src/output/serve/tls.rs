//! The server's certificate and key, read again when their files change.

use crate::output::pem::{certificates, private_key};
use crate::settle::{SETTLED, Stamp};
use crate::trust::{self, Untrusted};
use anyhow::{Context as _, Result, anyhow, bail};
use humantime::format_rfc3339_seconds;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, Error, InconsistentKeys, RootCertStore, ServerConfig};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use zeroize::Zeroizing;

/// How often the files are looked at, at most: when somebody connects.
const LOOK: Duration = Duration::from_secs(1);

/// The files of a certificate and its key, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertFiles {
    /// The certificate, and behind it those between it and the authority.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// The certificate that is shown to those who connect.
pub struct ServerCert {
    files: CertFiles,
    shown: Mutex<Shown>,
}

/// What was read, and how the files looked then.
struct Shown {
    config: Arc<ServerConfig>,
    validity: Validity,
    /// Whether it was said that its time is over.
    over: bool,
    looks: [Option<Look>; 2],
    looked: Instant,
}

/// How a file looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    stamp: Stamp,
    /// When it changed, in seconds since 1970.
    changed: i64,
}

/// The times in which a certificate is valid, as far as they are known, in seconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Validity {
    from: Option<u64>,
    until: Option<u64>,
}

impl ServerCert {
    /// Reads the files.
    ///
    /// # Errors
    /// Names the file that cannot be used, and why.
    pub fn read(files: &CertFiles) -> Result<Self> {
        let looks = looks(files);
        let (config, validity) = read(files)?;
        let shown = Shown { config, validity, over: false, looks, looked: Instant::now() };
        let cert = Self { files: files.clone(), shown: Mutex::new(shown) };
        cert.warn_of_readers();
        cert.warn_of_another_time(&mut cert.shown());
        Ok(cert)
    }

    /// As the files are now: a change counts when it is [`SETTLED`], since the two are not replaced at one moment. While
    /// they are wrong, what they held before stays in use.
    pub fn config(&self, now: Instant) -> Arc<ServerConfig> {
        let mut shown = self.shown();
        if now.saturating_duration_since(shown.looked) >= LOOK {
            shown.looked = now;
            let looks = looks(&self.files);
            if looks != shown.looks && is_settled(&looks, seconds(SystemTime::now())) {
                self.renew(&mut shown, looks);
            }
            self.warn_of_another_time(&mut shown);
        }
        Arc::clone(&shown.config)
    }

    /// Reads the files again, whether they have changed or not.
    pub fn read_again(&self) {
        self.renew(&mut self.shown(), looks(&self.files));
    }

    fn renew(&self, shown: &mut Shown, looks: [Option<Look>; 2]) {
        let CertFiles { cert, .. } = &self.files;
        shown.looks = looks; // also of files that are wrong: this is said once
        match read(&self.files) {
            Ok((config, validity)) => {
                let until = match validity.until {
                    Some(until) => format!(", it is valid until {}", date(until)),
                    None => String::new(),
                };
                log::info!("http: the certificate in {} was read again{until}", cert.display());
                (shown.config, shown.validity, shown.over) = (config, validity, false);
                self.warn_of_readers();
                self.warn_of_another_time(shown);
            }
            Err(why) => log::error!("{why:#}; the certificate that was read before is still used"),
        }
    }

    fn warn_of_readers(&self) {
        if let Err(error) = trust::open_secret(&self.files.key)
            && error.get_ref().is_some_and(|error| error.is::<Untrusted>())
        {
            log::warn!("http_key_file: {error}");
        }
    }

    /// Says once of the certificate that its time is over or has not come.
    fn warn_of_another_time(&self, shown: &mut Shown) {
        let path = self.files.cert.display();
        let now = seconds(SystemTime::now());
        let Validity { from, until } = shown.validity;
        if shown.over {
            return;
        }
        if let Some(until) = until.filter(|until| *until < now) {
            log::warn!(
                "http_cert_file {path}: it has expired on {}, and nobody trusts it any more: renew it",
                date(until)
            );
        } else if let Some(from) = from.filter(|from| *from > now) {
            log::warn!(
                "http_cert_file {path}: it is not valid before {}, and nobody trusts it yet: is the clock right?",
                date(from)
            );
        } else {
            return;
        }
        shown.over = true;
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(CertFiles { cert, key }: &CertFiles) -> Result<(Arc<ServerConfig>, Validity)> {
    let of_cert = || format!("http_cert_file {}", cert.display());
    let of_key = || format!("http_key_file {}", key.display());
    let chain = certificates(cert).with_context(of_cert)?;
    let validity = validity(&chain[0]);
    let secret = Zeroizing::new(private_key(key).with_context(of_key)?);
    let secret = any_supported_type(&secret);
    let secret = secret.map_err(|_| anyhow!("it is no key of RSA, ECDSA or Ed25519"));
    let certified = CertifiedKey::new(chain, secret.with_context(of_key)?);
    match certified.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(Error::InconsistentKeys(_)) => {
            bail!("{}: it is not the key of the certificate in {}", of_key(), cert.display())
        }
        Err(error) => return Err(error).with_context(of_cert),
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()? // 1.2 and 1.3
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![b"http/1.1".to_vec(), b"http/1.0".to_vec()];
    // Nothing is kept of a connection that has ended: no memory, and no secret.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok((Arc::new(config), validity))
}

/// When a certificate is valid. The verifier looks at the time first, and says what is wrong with a time at either end.
fn validity(certificate: &CertificateDer<'static>) -> Validity {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let at = |seconds| time_error(certificate, &provider, Duration::from_secs(seconds));
    const YEAR_10000: u64 = 253_402_300_800;
    Validity {
        from: match at(0) {
            Some(CertificateError::NotValidYetContext { not_before, .. }) => {
                Some(not_before.as_secs())
            }
            _ => None,
        },
        until: match at(YEAR_10000) {
            Some(CertificateError::ExpiredContext { not_after, .. }) => Some(not_after.as_secs()),
            _ => None,
        },
    }
}

fn time_error(
    certificate: &CertificateDer<'static>,
    provider: &Arc<CryptoProvider>,
    time: Duration,
) -> Option<CertificateError> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).ok()?;
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let name = ServerName::try_from("localhost").ok()?;
    let time = UnixTime::since_unix_epoch(time);
    match verifier.build().ok()?.verify_server_cert(certificate, &[], &name, &[], time) {
        Err(Error::InvalidCertificate(why)) => Some(why),
        _ => None,
    }
}

fn looks(CertFiles { cert, key }: &CertFiles) -> [Option<Look>; 2] {
    let look = |path: &Path| {
        let data = fs::metadata(path).ok()?;
        Some(Look { stamp: Stamp::of(&data), changed: data.ctime() })
    };
    [look(cert), look(key)]
}

/// Whether nothing has changed for a while; a time that is still to come is of a clock that was set back.
fn is_settled(looks: &[Option<Look>], now: u64) -> bool {
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let settled =
        |look: &Look| look.changed > now || now - look.changed > SETTLED.as_secs().cast_signed();
    looks.iter().flatten().all(settled)
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn date(seconds: u64) -> String {
    format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}

#[cfg(test)]
pub mod testing {
    //! Certificates of an authority that nobody else knows.

    use super::CertFiles;
    use crate::trust::testing::write_secret;
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd,
    };
    use std::fs;
    use std::path::Path;

    pub struct Authority(CertifiedIssuer<'static, KeyPair>);

    impl Authority {
        pub fn new() -> Self {
            let mut params = CertificateParams::new([]).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
        }

        pub fn pem(&self) -> String {
            self.0.pem()
        }

        /// Writes a certificate for `localhost`, valid in these years, and its key.
        pub fn write(&self, folder: &Path, years: (i32, i32)) -> CertFiles {
            let files = CertFiles { cert: folder.join("cert.pem"), key: folder.join("key.pem") };
            let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
            params.not_before = date_time_ymd(years.0, 1, 1);
            params.not_after = date_time_ymd(years.1, 1, 1);
            let key = KeyPair::generate().unwrap();
            fs::write(&files.cert, params.signed_by(&key, &self.0).unwrap().pem()).unwrap();
            write_secret(&files.key, &key.serialize_pem());
            files
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::Authority;
    use super::*;
    use rustls::pki_types::pem::PemObject as _;

    fn refusal(files: &CertFiles) -> String {
        format!("{:#}", ServerCert::read(files).err().unwrap())
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_with_what_is_wrong() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let authority = Authority::new();
        let files = authority.write(dir.path(), (2020, 2120));
        ServerCert::read(&files).unwrap();
        let theirs = authority.write(other.path(), (2020, 2120));
        let mixed = CertFiles { key: theirs.key, ..files.clone() };
        let text = refusal(&mixed);
        assert!(
            text.contains("http_key_file ") && text.contains("not the key of the cert"),
            "{text}"
        );
        let swapped = CertFiles { cert: files.key.clone(), key: files.cert.clone() };
        assert!(refusal(&swapped).ends_with("key.pem: it holds no certificate in PEM"));
        let twice = CertFiles { key: files.cert.clone(), ..files.clone() };
        assert!(refusal(&twice).ends_with("cert.pem: it holds no private key in PEM"));
        for (text, words) in [
            (
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----\n",
                "a password",
            ),
            (
                "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
                "no key of RSA, ECDSA or Ed25519",
            ),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n", "it is damaged"),
        ] {
            fs::write(&files.key, text).unwrap();
            assert!(refusal(&files).contains(words), "{}", refusal(&files));
        }
        let missing = CertFiles { cert: "/nowhere/cert".into(), ..files.clone() };
        assert!(refusal(&missing).contains("http_cert_file /nowhere/cert: No such file"));
        fs::write(&files.cert, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
            .unwrap();
        authority.write(other.path(), (2020, 2120));
        let mixed = CertFiles { key: other.path().join("key.pem"), ..files.clone() };
        assert!(refusal(&mixed).contains("http_cert_file "), "{}", refusal(&mixed));
        let folder = CertFiles { cert: dir.path().to_owned(), ..files };
        assert!(refusal(&folder).ends_with("it is no regular file"));
    }

    #[test]
    fn the_times_of_a_certificate_are_known_also_of_an_authoritys() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let own = CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap();
        for (years, until) in [((2000, 2001), 978_307_200), ((2020, 2120), 4_733_510_400)] {
            let files = authority.write(dir.path(), years);
            let found = validity(&certificates(&files.cert).unwrap()[0]);
            assert_eq!(found.until, Some(until), "{years:?}");
            let from = if years.0 == 2000 { 946_684_800 } else { 1_577_836_800 };
            assert_eq!(found.from, Some(from), "{years:?}");
        }
        assert_eq!(validity(&own).from, Some(157_766_400), "rcgen's default, 1975");
        assert_eq!(date(978_307_200), "2001-01-01T00:00:00Z");
    }

    #[test]
    fn files_are_read_again_when_they_have_settled_and_bad_ones_are_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let files = authority.write(dir.path(), (2020, 2120));
        let cert = ServerCert::read(&files).unwrap();
        let first = cert.config(Instant::now());
        // The key is another one's: what was read before stays.
        let before = fs::read(&files.cert).unwrap();
        authority.write(dir.path(), (2020, 2121));
        let renewed = fs::read(&files.cert).unwrap();
        fs::write(&files.cert, before).unwrap();
        cert.read_again();
        assert!(Arc::ptr_eq(&first, &cert.config(Instant::now())));
        fs::write(&files.cert, renewed).unwrap();
        let soon = Instant::now() + 2 * LOOK;
        assert!(Arc::ptr_eq(&first, &cert.config(soon)), "it has just changed");
        cert.read_again();
        assert!(!Arc::ptr_eq(&first, &cert.config(soon)), "but a person has said so");
        let look = looks(&files);
        let changed = look[0].unwrap().changed.unsigned_abs();
        for (after, settled) in [(0, false), (2, false), (3, true), (1000, true)] {
            assert_eq!(is_settled(&look, changed + after), settled, "{after}");
        }
        assert!(is_settled(&look, changed - 1000) && is_settled(&[None, None], 0));
        // It has expired meanwhile, and is shown all the same.
        authority.write(dir.path(), (2000, 2001));
        cert.read_again();
        let shown = cert.shown();
        assert!(shown.over && shown.validity.until.is_some());
    }
}
