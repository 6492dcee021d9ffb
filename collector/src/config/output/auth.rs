//! Who we are to a server and to a proxy, as the configuration says it: never a secret itself.

use super::super::section::{Key, Section, Value};
use crate::output::http::{Auth, Header, HeaderText, Server};
use crate::output::secret::Secret;
use ::http::{HeaderName, HeaderValue, header};

/// A token, or a user with a password; each from a file or the environment.
pub(super) fn auth(section: &mut Section<'_>) -> Option<Auth> {
    let token = secret(section, "token", "token_file", "token_env");
    let password = secret(section, "password", "password_file", "password_env");
    let username = username(section, "username");
    if token.is_some() && (username.is_some() || password.is_some()) {
        for key in ["username", "password_file", "password_env"] {
            section.forbid(key, &format!("`{key}`: a token says already who we are"));
        }
    }
    match token {
        Some(token) => Some(Auth::Token(token)),
        None => basic(section, username, password, ["username", "password_file"]),
    }
}

/// Who we are to a proxy.
pub(super) fn proxy_auth(section: &mut Section<'_>) -> Option<Auth> {
    let keys = ["proxy_password", "proxy_password_file", "proxy_password_env"];
    let password = secret(section, keys[0], keys[1], keys[2]);
    let username = username(section, "proxy_username");
    basic(section, username, password, ["proxy_username", "proxy_password_file"])
}

fn basic(
    section: &Section<'_>,
    username: Option<String>,
    password: Option<Secret>,
    [user_key, password_key]: [&'static str; 2],
) -> Option<Auth> {
    match (username, password) {
        (Some(username), Some(password)) => return Some(Auth::Basic { username, password }),
        (Some(_), None) => section.missing(password_key),
        (None, Some(_)) => section.missing(user_key),
        (None, None) => {}
    }
    None
}

fn username(section: &mut Section<'_>, key: &'static str) -> Option<String> {
    let name = section.name(key)?;
    if name.contains(':') {
        section.forbid(key, &format!("`{key}`: HTTP has no users with a `:` in their names"));
    }
    Some(name)
}

/// A secret in a file or in the environment; in the configuration itself it is refused.
pub(super) fn secret(
    section: &mut Section<'_>,
    here: &'static str,
    file: &'static str,
    env: &'static str,
) -> Option<Secret> {
    let text = format!("`{here}`: secrets do not stand in this file; use {file} or {env}");
    section.forbid(here, &text);
    let (path, name) = (section.path(file), section.name(env));
    if path.is_some() && name.is_some() {
        section.forbid(env, &format!("`{env}`: `{file}` says already where it is"));
    }
    path.map(Secret::File).or(name.map(Secret::Env))
}

/// What the servers' own command line tools use, when it is there.
pub(super) fn usual_auth(server: &Server) -> Auth {
    let variable = match server {
        Server::Influxdb2 { .. } => "INFLUX_TOKEN",
        Server::Influxdb3 { .. } => "INFLUXDB3_AUTH_TOKEN",
        Server::Influxdb1 { .. }
        | Server::Victoriametrics
        | Server::Prometheus { .. }
        | Server::Otlp => return Auth::None,
    };
    match std::env::var_os(variable) {
        Some(_) => Auth::Token(Secret::Env(variable.to_owned())),
        None => Auth::None,
    }
}

/// Headers that say who we are have keys of their own; the others are what HTTP itself needs.
const OURS: [(HeaderName, &str); 15] = [
    (header::AUTHORIZATION, "use token_file, or username and password_file"),
    (header::PROXY_AUTHORIZATION, "use proxy_username and proxy_password_file"),
    (header::HOST, "it is the host of `url`"),
    (header::CONTENT_LENGTH, SET_HERE),
    (header::CONTENT_TYPE, SET_HERE),
    (header::CONTENT_ENCODING, "use gzip"),
    (header::TRANSFER_ENCODING, SET_HERE),
    (header::ACCEPT_ENCODING, SET_HERE),
    (header::CONNECTION, "use connection_age"),
    (HeaderName::from_static("keep-alive"), SET_HERE),
    (HeaderName::from_static("proxy-connection"), SET_HERE),
    (header::EXPECT, SET_HERE),
    (header::TE, SET_HERE),
    (header::TRAILER, SET_HERE),
    (header::UPGRADE, SET_HERE),
];
const SET_HERE: &str = "the collector sets it itself";

/// `headers = { NAME = "VALUE", NAME = { file = "PATH" }, NAME = { env = "VARIABLE" } }`
pub(super) fn headers(section: &mut Section<'_>) -> Vec<Header> {
    let source = section.source;
    let mut headers: Vec<Header> = Vec::new();
    for (key, value) in section.table("headers") {
        let written = key.get_ref();
        let problem = |why: &str| {
            source.problem(key.span().start, format!("`headers.{written}`: {why}"));
        };
        let Ok(name) = HeaderName::from_bytes(written.as_bytes()) else {
            problem("this is no name of a header");
            continue;
        };
        if let Some((_, why)) = OURS.iter().find(|(ours, _)| *ours == name) {
            problem(why);
        } else if headers.iter().any(|header| header.name == name) {
            problem("it is there twice; upper case makes no difference");
        } else if let Some(text) = header_text(section, key, value) {
            headers.push(Header { name, text });
        }
    }
    headers
}

/// A value is not shown: it may be a secret that should not stand here.
fn header_text(section: &Section<'_>, key: &Key<'_>, value: &Value<'_>) -> Option<HeaderText> {
    let (source, name) = (section.source, key.get_ref());
    let problem = |what: &str| {
        source.problem(value.span().start, format!("`headers.{name}` {what}"));
        None
    };
    if let Some(text) = value.get_ref().as_str() {
        let text = text.trim();
        return match HeaderValue::from_str(text) {
            Ok(header) if !text.is_empty() && header.to_str().is_ok() => {
                Some(HeaderText::Plain(text.to_owned()))
            }
            _ => problem("must be a text of ASCII in one line"),
        };
    }
    let Some(table) = value.get_ref().as_table() else {
        return problem("must be a text in quotes, or { file = \"PATH\" }, or { env = \"NAME\" }");
    };
    let mut below = Section::new(source, &format!("headers.{name}."), table);
    let (file, env) = (below.path("file"), below.name("env"));
    let known = below.has("file") || below.has("env");
    if file.is_some() && env.is_some() {
        problem("has both a `file` and an `env`");
    } else if !known {
        problem("needs a `file` or an `env`");
    }
    below.refuse_the_rest();
    file.map(Secret::File).or(env.map(Secret::Env)).map(HeaderText::Secret)
}
