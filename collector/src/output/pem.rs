//! Certificates and keys in files of PEM.

use anyhow::{Error, Result, anyhow, ensure};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use zeroize::Zeroizing;

/// No file of certificates is longer: all that Mozilla trusts take a quarter of a MiB.
const LONGEST: u64 = 8 << 20;

/// The certificates in a file, in its order; at least one.
///
/// # Errors
/// It cannot be read, or holds none.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let text = read(path)?;
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(damaged)?;
    ensure!(!certificates.is_empty(), "it holds no certificate in PEM");
    Ok(certificates)
}

/// The first private key in a file. The file's text is overwritten in memory.
///
/// # Errors
/// It cannot be read, or holds none.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    let text = read(path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound if memchr::memmem::find(&text, b"ENCRYPTED").is_some() => {
            anyhow!("it has a password: `openssl pkey -in FILE -out FILE` takes it away")
        }
        pem::Error::NoItemsFound => anyhow!("it holds no private key in PEM"),
        error => damaged(error),
    })
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let data = fs::metadata(path)?; // opening a named pipe would wait
    ensure!(data.is_file(), "it is no regular file");
    // Room for all of it, so that no copy stays where a buffer has grown.
    let room = data.len().min(LONGEST) as usize + 1;
    let mut text = Zeroizing::new(Vec::with_capacity(room));
    File::open(path)?.take(LONGEST).read_to_end(&mut text)?;
    ensure!((text.len() as u64) < LONGEST, "it is longer than any file of certificates");
    Ok(text)
}

fn damaged(error: pem::Error) -> Error {
    anyhow!("it is damaged: {error:?}")
}
