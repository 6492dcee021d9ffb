//! `http`, `http_token_file` and `http_cert_file`: the page and the metrics.

use super::super::section::Section;
use super::auth::secret;
use crate::output::secret::Secret;
use crate::output::serve::{CertFiles, Listen};

/// Where they are to be had, what those who ask must have, and the server's certificate.
pub(in crate::config) fn serve(
    top: &mut Section<'_>,
) -> (Option<Listen>, Option<Secret>, Option<CertFiles>) {
    let what = "an address such as \"127.0.0.1:9435\", or \"unix:PATH\"";
    let listen =
        top.read("http", what, |value| Ok(Listen::parse(value.get_ref().as_str().ok_or("")?)?));
    let token = secret(top, "http_token", "http_token_file", "http_token_env");
    (listen, token, cert_files(top))
}

fn cert_files(top: &mut Section<'_>) -> Option<CertFiles> {
    let (cert, key) = (top.path("http_cert_file"), top.path("http_key_file"));
    if cert.is_some() != key.is_some() {
        top.missing(if cert.is_some() { "http_key_file" } else { "http_cert_file" });
    }
    Some(CertFiles { cert: cert?, key: key? })
}
