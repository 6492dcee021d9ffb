//! A plugin's own options: checked against its description, handed over as JSON.

use super::HOST_KEYS;
use crate::nearest::{did_you_mean, nearest};
use plugin_api::describe::{self, Description};
use serde_json::Value;

/// An option as it stands in the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginOption {
    /// Its key.
    pub name: String,
    /// Its value.
    pub value: Value,
    /// `FILE:LINE:COLUMN`
    pub place: String,
}

/// The options as the JSON object that `init` takes.
///
/// # Errors
/// The first option that the plugin does not know, or that is of another type than its default.
pub fn to_json(given: &[PluginOption], plugin: &Description) -> Result<String, String> {
    let mut object = serde_json::Map::new();
    for PluginOption { name, value, place } in given {
        let Some(known) = plugin.options.iter().find(|option| option.name == *name) else {
            return Err(format!("{place}: {}", unknown(name, plugin)));
        };
        if !same_type(&known.default, value) {
            return Err(format!("{place}: option `{name}` must be {}, not {value}", kind(known)));
        }
        object.insert(name.clone(), value.clone());
    }
    Ok(Value::Object(object).to_string())
}

fn unknown(name: &str, plugin: &Description) -> String {
    let own = plugin.options.iter().map(|option| option.name.as_str());
    let near = did_you_mean(nearest(name, own.clone().chain(HOST_KEYS)));
    let own: Vec<&str> = own.collect();
    let known = match &*own {
        [] => format!("`{}` has no options of its own", plugin.name),
        own => format!("the options of `{}` are {}", plugin.name, own.join(", ")),
    };
    format!("unknown option `{name}`{near}: {known}")
}

fn kind(option: &describe::PluginOption) -> String {
    let article = if option.kind.starts_with("true") { "" } else { "a " };
    format!("{article}{}", option.kind)
}

/// Whether a value can stand for a default. The plugin itself looks closer, in `init`.
fn same_type(default: &Value, value: &Value) -> bool {
    match (default, value) {
        (Value::Null, _)
        | (Value::Bool(_), Value::Bool(_))
        | (Value::String(_), Value::String(_))
        | (Value::Object(_), Value::Object(_)) => true,
        (Value::Number(default), Value::Number(value)) => default.is_f64() || !value.is_f64(),
        (Value::Array(default), Value::Array(values)) => {
            let of = default.first().unwrap_or(&Value::Null);
            values.iter().all(|value| same_type(of, value))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plugin(options: &[(&str, &str, Value)]) -> Description {
        let options: Vec<Value> = options
            .iter()
            .map(|(name, kind, default)| {
                json!({"name": name, "text": "", "kind": kind, "default": default})
            })
            .collect();
        let plugin =
            json!({"name": "p", "version": "1", "text": "", "tables": [], "options": options});
        Description::from_json(&plugin.to_string()).unwrap()
    }

    fn given(name: &str, value: Value) -> Vec<PluginOption> {
        vec![PluginOption { name: name.to_owned(), value, place: "c.toml:3:1".to_owned() }]
    }

    #[test]
    fn options_are_checked_against_the_description() {
        let plugin = plugin(&[
            ("by", "text", json!("none")),
            ("events", "true or false", json!(false)),
            ("top", "whole number", json!(20)),
            ("share", "number", json!(0.5)),
            ("names", "list of texts", json!(["a"])),
        ]);
        let cases = [
            ("by", json!("comm"), Ok(r#"{"by":"comm"}"#)),
            ("top", json!(5), Ok(r#"{"top":5}"#)),
            ("share", json!(1), Ok(r#"{"share":1}"#)),
            ("names", json!(["x", "y"]), Ok(r#"{"names":["x","y"]}"#)),
            ("by", json!(1), Err("c.toml:3:1: option `by` must be a text, not 1")),
            ("events", json!("yes"), Err("option `events` must be true or false, not \"yes\"")),
            ("top", json!(1.5), Err("option `top` must be a whole number, not 1.5")),
            ("names", json!(["x", 1]), Err("option `names` must be a list of texts")),
            ("bye", json!(1), Err("unknown option `bye` (did you mean `by`?)")),
            ("intervall", json!("1s"), Err("(did you mean `interval`?)")),
            ("xyzzy", json!(1), Err("the options of `p` are by, events, top, share, names")),
        ];
        for (name, value, expected) in cases {
            let result = to_json(&given(name, value), &plugin);
            match (&result, expected) {
                (Ok(json), Ok(expected)) => assert_eq!(json, expected),
                (Err(text), Err(words)) => assert!(text.contains(words), "{text}"),
                _ => panic!("{name}: {result:?}"),
            }
        }
    }

    #[test]
    fn a_plugin_without_options_says_so() {
        let text = to_json(&given("by", json!("comm")), &plugin(&[])).unwrap_err();
        assert!(text.contains("`p` has no options of its own"), "{text}");
        assert_eq!(to_json(&[], &plugin(&[])).unwrap(), "{}");
    }
}
