//! Wrong addresses, as people write them.

use super::deck::Receiver;
use std::net::SocketAddr;

/// An output that is wrong.
pub struct Mistake {
    pub name: &'static str,
    pub of: Receiver,
    /// Its section.
    pub output: String,
    /// What the collector says of it.
    pub words: &'static str,
}

/// Where nothing is that an output of the other kind could use.
pub struct Places {
    pub influx: SocketAddr,
    pub nobody: SocketAddr,
    pub tls: SocketAddr,
    /// A file with another password.
    pub password: String,
}

/// An output's section, and where it goes and reads its password.
pub struct Right<'a> {
    pub output: &'a str,
    pub address: SocketAddr,
    pub password: &'a str,
}

/// All of them, made of the right outputs.
pub fn all(influx: &Right, victoria: &Right, wrong: &Places) -> Vec<Mistake> {
    let of_influx = |name, words, from: &str, to: &str| Mistake {
        name,
        of: Receiver::Influx,
        output: instead(influx.output, from, to),
        words,
    };
    let of_victoria = |name, words, from: &str, to: &str| Mistake {
        name,
        of: Receiver::Victoria,
        output: instead(victoria.output, from, to),
        words,
    };
    let url = |address: SocketAddr| format!("http://{address}\"");
    let path = |address: SocketAddr| format!("http://{address}/nothing\"");
    let (here, there) = (url(influx.address), url(victoria.address));
    let (nobody, tls) = (url(wrong.nobody), url(wrong.tls));
    let https = "400 Client sent an HTTP request to an HTTPS server";
    let form = "histogram = \"fields\"\ncounters = \"delta\"";
    let (database, kind) = ("database = \"telegraf\"", "kind = \"influxdb1\"");
    vec![
        of_influx("InfluxDB's port, where nobody listens", "refused", &here, &nobody),
        of_influx("http to InfluxDB's port for https", https, &here, &tls),
        of_influx(
            "an unknown path of InfluxDB",
            "404 404 page not found",
            &here,
            &path(influx.address),
        ),
        of_influx(
            "an unknown database",
            "404 database not found",
            database,
            "database = \"nowhere\"",
        ),
        of_influx(
            "InfluxDB 3 instead of 1",
            "404 404 page not found",
            kind,
            "kind = \"influxdb3\"",
        ),
        Mistake {
            output: instead(
                &instead(influx.output, kind, "kind = \"victoriametrics\""),
                database,
                form,
            ),
            ..of_influx("VictoriaMetrics instead of InfluxDB 1", "database is required", "", "")
        },
        of_influx("a wrong password", "401 ", influx.password, &wrong.password),
        of_victoria("VictoriaMetrics' port, where nobody listens", "refused", &there, &nobody),
        of_victoria("http to VictoriaMetrics' port for https", https, &there, &tls),
        of_victoria(
            "an unknown path of VictoriaMetrics",
            "unsupported path",
            &there,
            &path(victoria.address),
        ),
        of_victoria("InfluxDB's port for VictoriaMetrics", "401 ", &there, &url(wrong.influx)),
        Mistake {
            output: instead(
                &instead(victoria.output, "kind = \"victoriametrics\"", "kind = \"influxdb3\""),
                form,
                database,
            ),
            ..of_victoria("InfluxDB 3 instead of VictoriaMetrics", "unsupported path", "", "")
        },
    ]
}

fn instead(output: &str, from: &str, to: &str) -> String {
    assert!(output.contains(from), "no `{from}` in\n{output}");
    output.replacen(from, to, 1)
}
