//! Where lines go, as people write it on the command line and in TOML: right, or refused with the reason.

use super::*;

/// `unix:` and so many bytes of a path.
fn socket(bytes: usize) -> String {
    format!("unix:/{}", "x".repeat(bytes - 1))
}

#[test]
fn outputs_are_urls_on_the_command_line() {
    assert_eq!(
        parse_output("file:/tmp/a:b").unwrap().target,
        Target::File(FileConfig::new("/tmp/a:b".into()))
    );
    assert_eq!(parse_output("stdout").unwrap().target, Target::Stdout);
    for (url, name) in [
        ("unix:/run/t.sock", None),
        ("unix:t.sock", None),
        ("unix:///run/t.sock", Some("unix:/run/t.sock")),
        ("UNIX:/run/T.sock", Some("unix:/run/T.sock")),
        ("unix:/run/a%20b", None), // a path is no URL: taken as it is
        ("unixgram:/run/t.sock", None),
        ("file:/var/log/100%", None),
        ("file:a b", None),
        (&*socket(107), None),
        ("tcp://[::1]:8094", None),
        ("tcp://[fe80::1%25eth0]:8094", None),
        ("tcp://[fe80::1%eth0]:8094", Some("tcp://[fe80::1%25eth0]:8094")),
        ("Tcp://Host:8094", Some("tcp://Host:8094")),
        ("udp://localhost:8094", None),
        ("influxdb1://h:8086/db", None),
        ("influxdb1://h:8086/db/week", None),
        ("INFLUXDB1+HTTPS://h/db", Some("influxdb1+https://h/db")),
        ("influxdb1://h:8086/my%20db", None),
        ("influxdb1://h:8086/a%2Fb/c%25", None),
        ("influxdb1://h:8086/b%C3%BCcher", None),
        ("influxdb1://h:8086/a+b", None),
        ("influxdb1://[::1]:8086/db", None),
        ("influxdb1://[fe80::1%25eth0]:8086/db", None),
        ("influxdb2+https://h/org/bucket", None),
        ("influxdb2+https://h:8086/org/bucket//", Some("influxdb2+https://h:8086/org/bucket")),
        ("influxdb3://h:8181/db/", Some("influxdb3://h:8181/db")),
        ("victoriametrics://h:8428", None),
        ("victoriametrics://h:8428/", Some("victoriametrics://h:8428")),
        ("victoriametrics+https://h/insert/0/influx", None),
        ("prometheus://h:9090", None),
        ("prometheus://h:9090/api/v1/push/", Some("prometheus://h:9090/api/v1/push")),
        ("otlp+https://h/opentelemetry", None),
    ] {
        let target = parse_output(url).unwrap_or_else(|why| panic!("{why}")).target;
        assert_eq!(target.to_string(), name.unwrap_or(url));
        assert_eq!(parse_output(&target.to_string()).unwrap().target, target, "{target}");
    }
    let Target::Http(http) = parse_output("influxdb2://h:1/a%2Fb%20c/d%25").unwrap().target else {
        panic!("it is a database")
    };
    let names = crate::output::http::Server::Influxdb2 { org: "a/b c".into(), bucket: "d%".into() };
    assert_eq!((http.server, &*http.urls[0]), (names, "http://h:1"));
}

#[test]
fn a_wrong_output_on_the_command_line_is_refused_with_the_reason() {
    for (url, words) in [
        ("", "unknown output kind ``"),
        ("stdot", "did you mean `stdout`?"),
        ("stdout:x", "takes no path"),
        ("http://h/db", "unknown output kind `http`"),
        ("file:", "it is empty; it is written file:PATH"),
        ("file: ", "it is empty"),
        ("file:/var/log/", "it is a folder"),
        ("file://var/log/lines", "it has no host"),
        ("unix:", "it is empty; it is written unix:PATH"),
        ("unix", "it is empty"),
        ("unix://run/t.sock", "it has no host"),
        ("unix:///", "it is a folder"),
        ("unix:a\nb", "a control character"),
        (&*socket(108), "too long for a socket: 107 bytes at most"),
        ("unixgram:", "it is written unixgram:PATH"),
        ("tcp:h:1", "it is written tcp://HOST:PORT"),
        ("tcp://", "it has no host"),
        ("tcp://:80", "it has no host"),
        ("tcp://h", "it has no port"),
        ("udp://h", "it has no port"),
        ("tcp://h:", "no port follows"),
        ("tcp://h:0", "from 1 to 65535"),
        ("tcp://h:99999", "from 1 to 65535"),
        ("tcp://h:80/x", "from 1 to 65535"),
        ("tcp://::1:80", "in brackets"),
        ("tcp://[fe80::1]:80", "needs its interface"),
        ("udp://h h:80", "a host has no ' '"),
        ("tcp+https://h:1", "`tcp` has no TLS"),
        ("stdout+https", "`stdout` has no TLS"),
        ("influxdb1:h:8086/db", "a `//` is missing"),
        (
            "influxdb1://h:8086",
            "names nothing to write to; it is written influxdb1://HOST:PORT/DATABASE",
        ),
        ("influxdb1://h:8086/", "names nothing to write to"),
        ("influxdb1://h:8086//", "names nothing to write to"),
        ("influxdb1://h:8086//db", "a name is empty"),
        ("influxdb1://h:8086/a/b/c", "too many names"),
        ("influxdb1://h:8086/%20", "it is empty"),
        ("influxdb1://h:8086/a%00b", "a control character"),
        ("influxdb1://h:8086/%ff", "no UTF-8"),
        ("influxdb1://h:8086/%zz", "written as %20"),
        ("influxdb1://h:8086/my db", "written as %20"),
        ("influxdb1://h:8086/bücher", "written as %20"),
        ("influxdb1://h/db", "it names no port"),
        ("influxdb1://h:/db", "no port follows"),
        ("influxdb1://h:0/db", "from 1 to 65535"),
        ("influxdb1://h:-1/db", "from 1 to 65535"),
        ("influxdb1://h:99999/db", "from 1 to 65535"),
        ("influxdb1://h:8086/db#x", "no `#`"),
        ("influxdb1://h:8086/db?rp=a&rp=b", "keys of its own"),
        ("influxdb1://fe80::1:8086/db", "in brackets"),
        ("influxdb2://h:1/bucket", "too many names or too few"),
        ("influxdb2://h:1//bucket", "a name is empty"),
        ("influxdb2://h:1/org/", "too many names or too few"),
        ("influxdb3://h:1/a/b", "too many names or too few"),
        ("victoriametrics://", "it has no host"),
        ("victoriametrics://h", "it names no port"),
        ("prometheus://h", "it is written prometheus://HOST:PORT[/PATH], or prometheus+https://"),
        ("otlp:h:1", "a `//` is missing"),
    ] {
        let error = parse_output(url).unwrap_err();
        assert!(error.contains(words), "{url}: {error}");
    }
}

/// Passwords that are simple, and such as break what reads them.
const WITH_SECRETS: [&str; 8] = [
    "u:s3cret@h:1/db",
    "s3cret@h:1/db",
    "u:s3cret@h/db",
    "u:a/s3cret@h:1/db",
    "u:a@s3cret@h:1/db",
    "u:a?s3cret@h:1/db",
    "u:a#s3cret@h:1/db",
    "u:[s3cret@h:1/db",
];

#[test]
fn a_password_in_an_address_is_refused_and_not_shown() {
    for rest in WITH_SECRETS {
        for kind in KINDS_AND_OTHERS {
            let url = format!("{kind}://{rest}");
            let error = match parse_output(&url) {
                // It is part of a path, and no password.
                Ok(_) => panic!("{url} is accepted"),
                Err(error) => error,
            };
            assert!(!error.contains("s3cret"), "{url}: {error}");
            assert!(error.contains("[secret]@h"), "{url}: {error}");
        }
        let toml = |keys: &str| problems(&format!("[[output]]\n{keys}\n"));
        for (keys, place) in [
            (format!("kind = \"influxdb1\"\nurl = \"http://{rest}\""), "c.toml:3:7: `url`"),
            (format!("kind = \"influxdb1\"\nurl = 'https://{rest}'"), "c.toml:3:7: `url`"),
            (format!("kind = \"influxdb1\"\nurl = \"{rest}\""), "c.toml:3:7: `url`"),
            (
                format!("kind = \"influxdb1\"\nurls = [\"http://a:1\", \"http://{rest}\"]"),
                "c.toml:3:8: `urls`",
            ),
            (format!("kind = \"influxdb1\"\nproxy = \"http://{rest}\""), "c.toml:3:9: `proxy`"),
            (format!("kind = \"tcp\"\naddress = \"{rest}\""), "c.toml:3:11: `address`"),
            (format!("kind = \"udp\"\naddress = \"udp://{rest}\""), "c.toml:3:11: `address`"),
            (format!("kind = \"influxdb1://{rest}\""), "c.toml:2:8: unknown output kind"),
            (format!("kind = \"influxdb1\"\nurl = http://{rest}"), "c.toml:3:"),
            (format!("kind = \"influxdb1\"\nurl = \"http://{rest}"), "c.toml:3:"),
        ] {
            let said = toml(&keys);
            assert!(said.contains(place) && !said.contains("s3cret"), "{keys}: {said}");
        }
    }
}

const KINDS_AND_OTHERS: [&str; 8] =
    ["tcp", "udp", "influxdb1", "influxdb1+https", "influxdb2", "victoriametrics", "http", "unix"];

#[test]
fn a_wrong_address_in_the_file_is_refused_with_line_and_key() {
    for (kind, key, value, words) in [
        ("file", "path", "", "it is empty"),
        ("file", "path", "  ", "it is empty"),
        ("file", "path", "/var/log/", "it is a folder"),
        ("unix", "path", "", "it is empty"),
        ("unixgram", "path", &socket(200)[5..], "107 bytes at most"),
        ("tcp", "address", "", "it has no host"),
        ("tcp", "address", "h", "it has no port"),
        ("tcp", "address", "h:99999", "from 1 to 65535"),
        ("tcp", "address", "h:0", "from 1 to 65535"),
        ("udp", "address", "h:-1", "from 1 to 65535"),
        ("udp", "address", "h:", "no port follows"),
        ("udp", "address", "::1:8094", "in brackets"),
        ("udp", "address", "[fe80::1]:8094", "needs its interface"),
        ("influxdb1", "url", "", "begins with http://"),
        ("influxdb1", "url", "h:8086", "begins with http://"),
        ("influxdb1", "url", "http://h", "it names no port"),
        ("influxdb1", "url", "http://h:/", "no port follows"),
        ("influxdb1", "url", "http://h:0", "from 1 to 65535"),
        ("influxdb1", "url", "http://h:-1", "from 1 to 65535"),
        ("influxdb1", "url", "http://h:99999", "from 1 to 65535"),
        ("influxdb1", "url", "http://h:8086#x", "no `#`"),
        ("influxdb1", "url", "http://h:8086/?db=a&db=b", "keys of its own"),
        ("influxdb1", "url", "http://h h:8086", "a host has no ' '"),
        ("influxdb1", "url", "http://bücher:8086", "xn-- form"),
        ("influxdb1", "url", "http://::1:8086", "in brackets"),
        ("influxdb1", "url", "http://127.1:8086", "no IPv4 address"),
        ("influxdb1", "proxy", "https://p:3128", "http:// with a host and a port alone"),
        ("influxdb1", "proxy", "http://p:3128/x", "http:// with a host and a port alone"),
        ("influxdb1", "proxy", "http://p", "it names no port"),
        ("influxdb1", "proxy", "socks5://p:1080", "begins with http://"),
        ("influxdb1", "database", "", "it is empty"),
        ("influxdb1", "database", " ", "it is empty"),
        ("influxdb1", "retention_policy", "", "it is empty"),
        ("influxdb2", "org", "", "it is empty"),
        ("influxdb2", "bucket", "\\t", "it is empty"),
        ("influxdb2", "bucket", "a\\nb", "a control character"),
        ("influxdb3", "database", "", "it is empty"),
        ("influxdb3", "token_file", "", "it is empty"),
        ("influxdb3", "token_env", "", "it is empty"),
        ("influxdb3", "username", "", "it is empty"),
        ("influxdb3", "spool", "", "it is empty"),
        ("influxdb3", "ca_file", "", "it is empty"),
    ] {
        let said = problems(&format!("[[output]]\nkind = \"{kind}\"\n{key} = \"{value}\"\n"));
        let place = format!("c.toml:3:{}: `{key}` must be ", key.len() + 4);
        let line = said.lines().find(|line| line.starts_with(&place));
        assert!(line.is_some_and(|line| line.ends_with(words) || line.contains(words)), "{said}");
    }
}
