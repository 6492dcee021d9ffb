//! A plugin's own options: checked against its description, handed over as JSON.

use super::HOST_KEYS;
use crate::nearest::{did_you_mean, nearest};
use plugin_api::describe::Description;
use serde_json::Value;

/// An option as it stands in the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct GivenOption {
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
pub fn to_json(given: &[GivenOption], plugin: &Description) -> Result<String, String> {
    let mut object = serde_json::Map::new();
    for GivenOption { name, value, place } in given {
        let Some(known) = plugin.options.iter().find(|option| option.name == *name) else {
            return Err(format!("{place}: {}", unknown(name, plugin)));
        };
        let also = known.also.as_ref();
        if !same_type(&known.default, value) && !also.is_some_and(|also| same_type(also, value)) {
            let expected = known.expected();
            return Err(format!("{place}: option `{name}` must be {expected}, not {value}"));
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

    fn given(name: &str, value: Value) -> Vec<GivenOption> {
        vec![GivenOption { name: name.to_owned(), value, place: "c.toml:3:1".to_owned() }]
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
    fn a_size_is_a_text_or_a_number_and_what_may_be_missing_is_left_to_the_plugin() {
        let mut plugin = plugin(&[
            ("room", "size such as \"64KiB\"", json!("64KiB")),
            ("sizes", "list of sizes such as \"64KiB\"", json!(["64KiB"])),
            ("pid", "optional whole number", Value::Null),
        ]);
        plugin.options[0].also = Some(json!(0));
        plugin.options[1].also = Some(json!([]));
        for (name, value) in [
            ("room", json!("1MiB")),
            ("room", json!(4096)),
            ("sizes", json!(["1MiB", 4096])),
            ("pid", json!(1)),
            ("pid", json!("self")),
        ] {
            assert!(to_json(&given(name, value.clone()), &plugin).is_ok(), "{name} = {value}");
        }
        let refusal = |name, value| to_json(&given(name, value), &plugin).unwrap_err();
        let text = refusal("room", json!(1.5));
        assert!(text.ends_with("must be a size such as \"64KiB\", not 1.5"), "{text}");
        let text = refusal("sizes", json!("1MiB"));
        assert!(text.contains("must be a list of sizes"), "{text}");
    }

    #[test]
    fn a_plugin_without_options_says_so() {
        let text = to_json(&given("by", json!("comm")), &plugin(&[])).unwrap_err();
        assert!(text.contains("`p` has no options of its own"), "{text}");
        assert_eq!(to_json(&[], &plugin(&[])).unwrap(), "{}");
    }
}
