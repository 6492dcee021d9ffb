//! etc/fleet: collectors take their configurations, and Telegraf's files have options that its plugins know.

use collector::config::Config;
use collector::form::Form;
use collector::output::Target;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../etc/fleet")
}

fn read(name: &str) -> String {
    fs::read_to_string(folder().join(name)).unwrap_or_else(|why| panic!("{name}: {why}"))
}

/// Options of Telegraf's plugins (sample.conf of each) that the files may use.
const OPTIONS: [(&str, &[&str]); 7] = [
    ("agent", &["omit_hostname", "metric_batch_size", "metric_buffer_limit", "flush_interval"]),
    ("inputs.influxdb_listener", &["service_address", "max_body_size", "database_tag"]),
    (
        "inputs.kafka_consumer",
        &[
            "brokers",
            "topics",
            "consumer_group",
            "offset",
            "max_undelivered_messages",
            "max_message_len",
            "data_format",
        ],
    ),
    (
        "inputs.nats_consumer",
        &[
            "servers",
            "subjects",
            "jetstream_subjects",
            "queue_group",
            "max_undelivered_messages",
            "data_format",
        ],
    ),
    (
        "outputs.kafka",
        &[
            "brokers",
            "topic",
            "routing_tag",
            "compression_codec",
            "required_acks",
            "idempotent_writes",
            "max_retry",
            "data_format",
        ],
    ),
    ("outputs.nats", &["servers", "subject", "data_format", "use_batch_format", "jetstream"]),
    ("outputs.http", &["url", "method", "timeout", "content_encoding", "data_format"]),
];

/// A plugin's options.
type Options<'a> = DeTable<'a>;

/// The plugins of a file with their options, `agent` among them.
fn with_plugins(name: &str, mut each: impl FnMut(&str, &Options<'_>)) {
    let text = read(name);
    for (kind, section) in DeTable::parse(&text).unwrap().into_inner().iter() {
        let section = section.get_ref().as_table().unwrap();
        if kind.get_ref() == "agent" {
            each("agent", section);
            continue;
        }
        for (plugin, list) in section.iter() {
            let list = list.get_ref().as_array().unwrap();
            assert_eq!(list.len(), 1, "{name}: one {}", plugin.get_ref());
            let full = format!("{}.{}", kind.get_ref(), plugin.get_ref());
            each(&full, list[0].get_ref().as_table().unwrap());
        }
    }
}

fn text<'a>(options: &'a Options<'_>, key: &str) -> Option<&'a str> {
    options.get(key)?.get_ref().as_str()
}

fn list(options: &Options<'_>, key: &str) -> BTreeSet<String> {
    let list = options.get(key).and_then(|list| list.get_ref().as_array());
    let list = list.unwrap_or_else(|| panic!("no list {key}"));
    list.iter()
        .filter_map(|value: &toml::Spanned<DeValue<'_>>| Some(value.get_ref().as_str()?.to_owned()))
        .collect()
}

#[test]
fn collectors_take_their_configurations() {
    for (name, outputs) in [
        ("collector-vmagent.toml", 1),
        ("collector-vmagent-both.toml", 2),
        ("collector-telegraf.toml", 1),
    ] {
        let config = Config::parse(name, &read(name)).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(config.outputs.len(), outputs, "{name}");
        let names: BTreeSet<_> =
            config.outputs.iter().map(|output| output.target.to_string()).collect();
        assert_eq!(names.len(), outputs, "{name}: they share a spool's folder, not a spool");
        for output in &config.outputs {
            // What VictoriaMetrics' functions expect, whatever the way there.
            assert_eq!(output.form, Form::VICTORIAMETRICS, "{name}");
            assert!(output.spool.is_some(), "{name}: an outage costs lines");
        }
    }
}

#[test]
fn telegrafs_plugins_know_their_options() {
    for way in ["kafka", "nats"] {
        let (to, from) =
            (format!("telegraf-{way}/to-{way}.conf"), format!("telegraf-{way}/from-{way}.conf"));
        for name in [&to, &from] {
            with_plugins(name, |plugin, options| {
                let known = OPTIONS.iter().find(|(known, _)| *known == plugin);
                let known = known.unwrap_or_else(|| panic!("{name}: {plugin}")).1;
                for (option, _) in options.iter() {
                    assert!(
                        known.contains(&&**option.get_ref()),
                        "{name}: {plugin}: {}",
                        option.get_ref()
                    );
                }
                let format = text(options, "data_format");
                let wants_format = plugin != "agent" && plugin != "inputs.influxdb_listener";
                assert_eq!(format, wants_format.then_some("influx"), "{name}: {plugin}");
            });
        }
        // What one writes the other one reads, from the same servers.
        let (mut written, mut read) = (None, None);
        let (servers, names) =
            if way == "kafka" { ("brokers", "topics") } else { ("servers", "jetstream_subjects") };
        with_plugins(&to, |plugin, options| {
            if plugin.starts_with("outputs.") {
                let name = text(
                    options,
                    names.strip_prefix("jetstream_").unwrap_or(names).trim_end_matches('s'),
                );
                written =
                    Some((list(options, servers), BTreeSet::from([name.unwrap().to_owned()])));
            }
        });
        with_plugins(&from, |plugin, options| {
            if plugin.starts_with("inputs.") {
                read = Some((list(options, servers), list(options, names)));
            }
        });
        assert!(written.is_some() && written == read, "{way}: {written:?}, {read:?}");
    }
}

#[test]
fn collectors_write_where_telegraf_listens() {
    let config = Config::parse("", &read("collector-telegraf.toml")).unwrap();
    let Target::Http(http) = &config.outputs[0].target else { panic!("not by HTTP") };
    for way in ["kafka", "nats"] {
        with_plugins(&format!("telegraf-{way}/to-{way}.conf"), |plugin, options| {
            if plugin == "inputs.influxdb_listener" {
                let port = text(options, "service_address").unwrap();
                assert!(http.urls.iter().all(|url| url.ends_with(port)), "{way}: {:?}", http.urls);
            }
        });
    }
}
