//! Keys of outputs beside their addresses.

use super::*;
use crate::form::Form;
use crate::output::http::{Auth, ClientCert, Header, HeaderText, Proxy};
use crate::output::http::{Server, Version};
use crate::output::secret::Secret;

fn parse(text: &str) -> Result<HttpConfig, String> {
    let text = format!("[[output]]\nkind = \"victoriametrics\"\n{text}\n");
    match Config::parse("c.toml", &text)?.outputs.remove(0).target {
        Target::Http(http) => Ok(*http),
        target => panic!("{target}"),
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_the_range() {
    let http = "kind = \"victoriametrics\"\nurl = \"http://h:1\"\n";
    let spool = &format!("{http}spool = \"/s\"\n");
    let udp = "kind = \"udp\"\naddress = \"h:1\"\n";
    let unixgram = "kind = \"unixgram\"\npath = \"p\"\n";
    for (keys, key, wrong, range) in [
        (http, "timeout", "\"1ns\"", "from 100ms to 10m"),
        (http, "timeout", "\"0s\"", "from 100ms to 10m"),
        (http, "timeout", "\"1h\"", "from 100ms to 10m"),
        (http, "timeout", "10", "from 100ms to 10m"),
        (http, "batch_time", "\"100y\"", "from 0s to 1h"),
        (http, "batch_time", "\"soon\"", "from 0s to 1h"),
        (http, "connection_age", "\"1ms\"", "from 1s to 1day"),
        (http, "connection_age", "\"1y\"", "from 1s to 1day"),
        (http, "batch_lines", "0", "from 1 to 1000000"),
        (http, "batch_lines", "99999999999", "from 1 to 1000000"),
        (http, "batch_bytes", "1", "from 1024 to 1073741824"),
        (http, "batch_bytes", "-1", "from 1024 to 1073741824"),
        (http, "queue_bytes", "1", "from 4096 to 1099511627776"),
        (http, "queue_bytes", "0x7fffffffffffffff", "from 4096 to 1099511627776"),
        (http, "dead_letter_bytes", "1", "from 1024 to 1099511627776"),
        (spool, "spool_age", "\"0s\"", "from 1s to 9years 11months"),
        (spool, "spool_age", "\"100y\"", "from 1s to 9years 11months"),
        (spool, "spool_bytes", "1", "from 65536 to 1125899906842624"),
        (spool, "spool_bytes", "99999999999999999999", "from 65536 to 1125899906842624"),
        (udp, "datagram_bytes", "65508", "from 64 to 65507"),
        (udp, "datagram_bytes", "1", "from 64 to 65507"),
        (unixgram, "datagram_bytes", "99999999", "from 64 to 16777216"),
    ] {
        let said = problems(&format!("[[output]]\n{keys}{key} = {wrong}\n"));
        let line = keys.lines().count() + 2;
        let place = format!("c.toml:{line}:{}: `{key}` must be a ", key.len() + 4);
        assert!(said.starts_with(&place), "{said}");
        assert!(said.contains(range) && said.contains(&format!(", not {wrong}")), "{said}");
    }
}

#[test]
fn remote_write_and_otlp_have_keys_of_their_own() {
    let parse = |kind: &str, keys: &str| {
        let text = format!("[[output]]\nkind = \"{kind}\"\nurl = \"http://h:1/p\"\n{keys}\n");
        Ok::<_, String>(Config::parse("c.toml", &text)?.outputs.remove(0))
    };
    let http = |kind: &str, keys: &str| match parse(kind, keys).unwrap() {
        OutputConfig { target: Target::Http(http), form, .. } => (*http, form),
        other => panic!("{other:?}"),
    };
    let (prometheus, form) = http("prometheus", "");
    assert_eq!(prometheus.server, Server::Prometheus { version: Version::Auto, native: false });
    assert_eq!((form, prometheus.in_flight, prometheus.batch.lines), (Form::PROMETHEUS, 1, 500));
    assert_eq!(prometheus.to_string(), "prometheus://h:1/p");
    let (native, form) = http("prometheus", "histogram = \"native\"\nversion = \"2\"");
    assert_eq!(native.server, Server::Prometheus { version: Version::V2, native: true });
    assert_eq!(form, Form::PROMETHEUS);
    let (otlp, form) = http("otlp", "batch_lines = 9\ngzip = false");
    assert_eq!((otlp.server, form), (Server::Otlp, Form::OTLP));
    assert_eq!((otlp.in_flight, otlp.batch.lines, otlp.gzip), (1, 9, false));
    for (kind, keys, words) in [
        ("prometheus", "histogram = \"le\"", "must be one of \"classic\", \"native\", not \"le\""),
        ("prometheus", "version = 2", "must be one of \"auto\", \"1\", \"2\", not 2"),
        ("prometheus", "counters = \"delta\"", "4:1: `counters`: remote write is cumulative"),
        ("prometheus", "gzip = true", "4:1: `gzip`: remote write is compressed with snappy"),
        ("prometheus", "in_flight = 2", "4:1: `in_flight`: lines of a series have to arrive in"),
        ("prometheus", "native = true", "unknown key `native`"),
        ("otlp", "in_flight = 1", "4:1: `in_flight`: lines of a series have to arrive in order"),
        ("otlp", "counters = \"delta\"", "OTLP here is delta"),
        ("otlp", "histogram = \"native\"", "4:1: `histogram`: OTLP here has exponential"),
        ("otlp", "version = \"1\"", "unknown key `version`"),
        (
            "victoriametrics",
            "histogram = \"typed\"",
            "must be one of \"fields\", \"le\", \"vmrange\"",
        ),
    ] {
        let said = parse(kind, keys).unwrap_err();
        assert!(said.contains(words), "{kind}, {keys}: {said}");
    }
}

#[test]
fn everything_about_a_connection_is_read() {
    let config = parse(
        r#"
        urls = ["https://a:1/x/", "https://b"]
        connection_age = "1m"
        ca_file = "/ca"
        client_cert = "/cert"
        client_key = "/key"
        proxy = "http://p:3128"
        proxy_username = "me"
        proxy_password_env = "PASSWORD"
        [output.headers]
        X-Scope-OrgID = "tenant-7"
        X-Key = { file = "/key" }
        x-other = { env = "OTHER" }
        "#,
    )
    .unwrap();
    assert_eq!(config.urls, ["https://a:1/x", "https://b"]);
    assert_eq!(config.to_string(), "victoriametrics+https://a:1/x");
    assert_eq!(config.connection_age, Duration::from_secs(60));
    let client = ClientCert { cert: "/cert".into(), key: "/key".into() };
    assert_eq!((config.ca_file, config.client_cert), (Some("/ca".into()), Some(client)));
    let auth = Auth::Basic { username: "me".into(), password: Secret::Env("PASSWORD".into()) };
    assert_eq!(config.proxy, Some(Proxy { url: "http://p:3128".into(), auth }));
    let header =
        |name: &'static str, text| Header { name: ::http::HeaderName::from_static(name), text };
    assert_eq!(
        config.headers,
        [
            header("x-key", HeaderText::Secret(Secret::File("/key".into()))),
            header("x-scope-orgid", HeaderText::Plain("tenant-7".into())),
            header("x-other", HeaderText::Secret(Secret::Env("OTHER".into()))),
        ]
    );
}

#[test]
fn several_urls_are_of_one_kind_and_different() {
    for (urls, words) in [
        ("urls = []", "`urls` must be a list of one to 16 URLs in quotes, not []: it has 0"),
        ("urls = \"http://a:1\"", "must be a list"),
        ("urls = [1]", "number 1: it is no text"),
        ("urls = [\"http://a:1\", \"b:1\"]", "number 2: it begins with http://"),
        ("urls = [\"http://a:1\", \"https://b\"]", "number 2: either all are https:// or none"),
        ("urls = [\"http://a:1\", \"http://A:1/\"]", "number 2: it is there twice"),
        ("url = \"http://a:1\"\nurls = [\"http://b:1\"]", "4:1: `urls`: `url` says already"),
        ("urls = [\"http://[fe80::1%25lo]:1\"]\nproxy = \"http://p:1\"", "the interfaces of this"),
    ] {
        let said = parse(urls).unwrap_err();
        assert!(said.contains(words), "{urls}: {said}");
    }
    assert_eq!(parse("urls = [\"http://a:1\"]").unwrap().urls, ["http://a:1"]);
}

#[test]
fn a_header_that_is_ours_or_none_is_refused_with_line_and_key() {
    for (headers, words) in [
        ("Authorization = \"Bearer s3cret\"", "4:1: `headers.Authorization`: use token_file"),
        ("authorization = { file = \"/t\" }", "4:1: `headers.authorization`: use token_file"),
        ("Proxy-Authorization = \"s3cret\"", "use proxy_username and proxy_password_file"),
        ("Host = \"h\"", "4:1: `headers.Host`: it is the host of `url`"),
        ("Content-Length = \"1\"", "`headers.Content-Length`: the collector sets it itself"),
        ("Transfer-Encoding = \"chunked\"", "the collector sets it itself"),
        ("Connection = \"close\"", "use connection_age"),
        ("Content-Encoding = \"br\"", "use gzip"),
        ("\"a b\" = \"x\"", "`headers.a b`: this is no name of a header"),
        ("\"\" = \"x\"", "this is no name of a header"),
        ("X-A = \"x\"\nx-a = \"y\"", "it is there twice"),
        ("X-A = \"\"", "4:7: `headers.X-A` must be a text of ASCII in one line"),
        ("X-A = \"s3cret\\nHost: x\"", "must be a text of ASCII in one line"),
        ("X-A = \"s3cretü\"", "must be a text of ASCII in one line"),
        ("X-A = 1", "must be a text in quotes, or { file = \"PATH\" }"),
        ("X-A = {}", "needs a `file` or an `env`"),
        ("X-A = { file = \"a\", env = \"B\" }", "has both"),
        ("X-A = { file = \"\" }", "`headers.X-A.file` must be a path in quotes"),
        ("X-A = { fil = \"a\" }", "unknown key `headers.X-A.fil` (did you mean `file`?)"),
    ] {
        let text = format!("[output.headers]\n{headers}");
        let said = parse(&text).unwrap_err();
        assert!(said.contains(words), "{headers}: {said}");
        assert!(!said.contains("s3cret"), "{said}");
    }
    let said = parse("headers = \"X-A: b\"").unwrap_err();
    assert!(said.contains("3:11: `headers` must be a table"), "{said}");
}

#[test]
fn what_belongs_together_is_asked_for() {
    let https = "url = \"https://h\"";
    for (keys, words) in [
        ("client_cert = \"/c\"", "this needs a `client_key`"),
        ("client_key = \"/c\"", "this needs a `client_cert`"),
        ("proxy_username = \"u\"\nproxy_password_env = \"P\"", "this needs a `proxy`"),
        ("proxy = \"http://p:1\"\nproxy_username = \"u\"", "this needs a `proxy_password_file`"),
        ("proxy = \"http://p:1\"\nproxy_password_env = \"P\"", "this needs a `proxy_username`"),
        (
            "proxy_password = \"s3cret\"",
            "secrets do not stand in this file; use proxy_password_file",
        ),
        ("username = \"a:b\"\npassword_env = \"P\"", "no users with a `:`"),
        ("client_crt = \"/c\"", "unknown key `client_crt` (did you mean `client_cert`?)"),
        (
            "connection_ages = \"1m\"",
            "unknown key `connection_ages` (did you mean `connection_age`?)",
        ),
        ("prox = \"http://p:1\"", "unknown key `prox` (did you mean `proxy`?)"),
    ] {
        let said = parse(&format!("{https}\n{keys}")).unwrap_err();
        assert!(said.contains(words) && !said.contains("s3cret"), "{keys}: {said}");
    }
    for key in ["ca_file", "client_cert", "client_key"] {
        let keys = "ca_file = \"/c\"\nclient_cert = \"/c\"\nclient_key = \"/k\"";
        let said = parse(&format!("url = \"http://h:1\"\n{keys}")).unwrap_err();
        assert!(said.contains(&format!("`{key}`: a URL of https:// is needed")), "{said}");
    }
}
