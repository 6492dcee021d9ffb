//! etc/telegraf: each snippet is what Telegraf reads, and names a command line that the collector takes.

use clap::Parser;
use collector::cli::Cli;
use collector::output::Target;
use collector::output::socket::SocketConfig;
use std::borrow::Cow;
use std::collections::BTreeMap;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Options of Telegraf's plugins (sample.conf of each) that the snippets may use.
const OPTIONS: [(&str, &[&str]); 3] = [
    ("execd", &["command", "signal", "restart_delay", "data_format"]),
    (
        "socket_listener",
        &[
            "service_address",
            "socket_mode",
            "max_connections",
            "read_timeout",
            "read_buffer_size",
            "keep_alive_period",
            "content_encoding",
            "splitting_strategy",
            "data_format",
        ],
    ),
    (
        "influxdb_listener",
        &["service_address", "read_timeout", "write_timeout", "max_body_size", "database_tag"],
    ),
];

/// A snippet: its plugin's name and options, and the collector's arguments.
struct Snippet {
    plugin: String,
    /// Lists are their words, separated by a space.
    options: BTreeMap<String, String>,
    args: Vec<String>,
}

fn plain(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Array(list) => {
            list.iter().map(|value| plain(value.get_ref())).collect::<Vec<_>>().join(" ")
        }
        other => panic!("{other:?}"),
    }
}

impl Snippet {
    fn read(text: &str) -> Self {
        let whole = DeTable::parse(text).unwrap().into_inner();
        let inputs = whole["inputs"].get_ref().as_table().unwrap();
        assert_eq!((whole.len(), inputs.len()), (1, 1), "one plugin alone");
        let (plugin, list) = inputs.iter().next().unwrap();
        let list = list.get_ref().as_array().unwrap();
        assert_eq!(
            list.len(),
            1,
            "[[inputs.{plugin}]] stands there once",
            plugin = plugin.get_ref()
        );
        let options = list[0].get_ref().as_table().unwrap().iter();
        let option = |(key, value): (&Spanned<Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
            (key.get_ref().to_string(), plain(value.get_ref()))
        };
        let args = text.lines().filter_map(|line| line.strip_prefix("#   collector "));
        let [args] = args.collect::<Vec<_>>()[..] else { panic!("one command line") };
        let args = args.split(' ').map(str::to_owned).collect();
        Self { plugin: plugin.get_ref().to_string(), options: options.map(option).collect(), args }
    }

    fn text(&self, option: &str) -> &str {
        &self.options[option]
    }

    /// Where the collector's command line sends lines, and whether it ends with standard input.
    fn command_line(&self) -> (Target, bool) {
        let args = ["collector".to_owned()].into_iter().chain(self.args.iter().cloned());
        let cli = Cli::try_parse_from(args).unwrap_or_else(|error| panic!("{error}"));
        let flags = cli.collecting;
        let [output] = &flags.outputs[..] else { panic!("one output") };
        (output.target.clone(), flags.stop_on_stdin_close)
    }
}

fn snippets() -> BTreeMap<String, Snippet> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../etc/telegraf");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let read = |path: std::path::PathBuf| Snippet::read(&std::fs::read_to_string(path).unwrap());
    entries.map(|e| (e.file_name().into_string().unwrap(), read(e.path()))).collect()
}

#[test]
fn every_snippet_has_options_that_its_plugin_knows() {
    let snippets = snippets();
    assert_eq!(snippets.len(), 6);
    for (name, snippet) in &snippets {
        let known = OPTIONS.iter().find(|(plugin, _)| *plugin == snippet.plugin).unwrap().1;
        for option in snippet.options.keys() {
            assert!(known.contains(&option.as_str()), "{name}: {option}");
        }
        assert!(name.starts_with(&snippet.plugin), "{name}");
        // The HTTP listener knows no other format.
        let format = snippet.options.get("data_format").map(String::as_str);
        assert_eq!(format, (snippet.plugin != "influxdb_listener").then_some("influx"), "{name}");
    }
}

#[test]
fn the_collector_writes_where_telegraf_reads() {
    let snippets = snippets();
    for (name, snippet) in &snippets {
        let (target, stops) = snippet.command_line();
        assert_eq!(stops, snippet.plugin == "execd", "{name}");
        let address = || snippet.text("service_address");
        match target {
            Target::Stdout => {
                let command = format!("/usr/bin/collector {}", snippet.args.join(" "));
                assert_eq!(snippet.text("command"), command, "{name}: the comment and the command");
            }
            Target::Socket(SocketConfig::Unix(path)) => {
                assert_eq!(address(), format!("unix://{}", path.display()));
            }
            Target::Socket(SocketConfig::Unixgram { path, datagram_bytes }) => {
                assert_eq!(address(), format!("unixgram://{}", path.display()));
                let buffer = snippet.text("read_buffer_size").strip_suffix("KiB").unwrap();
                assert!(datagram_bytes <= buffer.parse::<usize>().unwrap() << 10, "{name}");
            }
            Target::Socket(SocketConfig::Tcp(to)) => {
                assert_eq!(address(), format!("tcp://:{}", to.split_once(':').unwrap().1));
            }
            Target::Socket(SocketConfig::Udp { address: to, .. }) => {
                assert_eq!(address(), format!("udp://{to}"));
            }
            Target::Http(http) => {
                assert_eq!(format!("http://{}", address()), http.urls[0], "{name}");
                assert_eq!(snippet.plugin, "influxdb_listener");
            }
            Target::File(file) => panic!("{name}: {}", file.path.display()),
            Target::Serve(config) => panic!("{name}: {config}"),
            Target::Screen(_) => panic!("{name}"),
        }
    }
}
