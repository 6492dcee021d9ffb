//! A plugin's description of itself: the JSON behind `collector describe` and the check of its options.

use crate::{Kind, TableDef, Unit};
use serde::{Deserialize, Serialize};

/// The whole description.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Description {
    /// Name of the plugin: its section in the configuration, its tag in `collector_plugin`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it does, in one line.
    pub text: String,
    /// The tables that it fills.
    pub tables: Vec<Table>,
    /// The options that it takes.
    pub options: Vec<PluginOption>,
    /// What its thread needs beside CAP_BPF and CAP_PERFMON, as the kernel calls it: `CAP_SYS_PTRACE`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
}

/// A table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Table {
    /// The measurement.
    pub name: String,
    /// What a line says.
    pub text: String,
    /// Its tags.
    pub tags: Vec<Tag>,
    /// Its fields.
    pub fields: Vec<Field>,
}

/// A tag.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tag {
    /// Its key.
    pub name: String,
    /// What it tells apart.
    pub text: String,
}

/// A field.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Field {
    /// Its key.
    pub name: String,
    /// What it says.
    pub text: String,
    /// How it behaves.
    pub kind: Kind,
    /// Its unit.
    pub unit: Unit,
}

/// An option.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PluginOption {
    /// Its key in `[plugin.NAME]`.
    pub name: String,
    /// What it does.
    pub text: String,
    /// Its type, in words of the configuration file, and behind it in parentheses the allowed values when
    /// the type does not say them: `whole number (1 to 1000)`. Starts with `optional` when a value may be
    /// missing.
    pub kind: String,
    /// Its value when it is not given; null: none. A value must have the same JSON type, unless it is null.
    pub default: serde_json::Value,
    /// A value of another JSON type that is allowed too: a size is a text, or a number of bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub also: Option<serde_json::Value>,
    /// What the plugin's thread needs when it has another value than its default, as in
    /// [`Description::capabilities`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
}

impl PluginOption {
    /// Its type behind `must be`: `a whole number (1 to 1000)`, `true or false`.
    #[must_use]
    pub fn expected(&self) -> String {
        with_article(&self.kind)
    }
}

/// `a whole number`, `an optional text`, `true or false`.
pub(crate) fn with_article(kind: &str) -> String {
    match kind {
        _ if kind.starts_with("true") => kind.to_owned(),
        _ if kind.starts_with(['a', 'e', 'i', 'o', 'u']) => format!("an {kind}"),
        _ => format!("a {kind}"),
    }
}

impl Description {
    pub(crate) fn new(
        name: &str,
        version: &str,
        text: &str,
        tables: &[&TableDef],
        options: Vec<PluginOption>,
        capabilities: &[&str],
    ) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            text: text.to_owned(),
            tables: tables.iter().map(|t| Table::new(t)).collect(),
            options,
            capabilities: capabilities.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings, numbers and lists are always JSON")
    }

    /// Reads a plugin's `describe`.
    ///
    /// # Errors
    /// It is not what this version of the ABI writes.
    pub fn from_json(json: &str) -> crate::Result<Self> {
        Ok(serde_json::from_str(json)?)
    }
}

impl Table {
    /// The description of a declared table.
    #[must_use]
    pub fn new(table: &TableDef) -> Self {
        let text = |s: &str| s.trim().to_owned();
        Self {
            name: table.name.to_owned(),
            text: text(table.text),
            tags: table
                .tags
                .iter()
                .map(|t| Tag { name: t.name.to_owned(), text: text(t.text) })
                .collect(),
            fields: table
                .fields
                .iter()
                .map(|f| Field {
                    name: f.name.to_owned(),
                    text: text(f.text),
                    kind: f.kind,
                    unit: f.unit,
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Description;

    #[test]
    fn capabilities_are_optional_both_ways() {
        let before = r#"{"name":"x","version":"1","text":"t","tables":[],"options":[]}"#;
        let old = Description::from_json(before).unwrap();
        assert!(old.capabilities.is_empty());
        assert_eq!(old.to_json(), before, "a collector of 1.0.0 gets what it knows");
        let new = Description::new("x", "1", "t", &[], Vec::new(), &["CAP_SYS_PTRACE"]);
        let json = new.to_json();
        assert_eq!(Description::from_json(&json).unwrap().capabilities, ["CAP_SYS_PTRACE"]);
        assert_eq!(json.replace(r#","capabilities":["CAP_SYS_PTRACE"]"#, ""), before);
    }
}
