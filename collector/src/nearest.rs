//! The known name that someone likely meant.

/// The nearest of the known names, when one is near.
#[must_use]
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |k: &&str| strsim::jaro_winkler(name, k);
    let best = known.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(&best) > 0.8).then_some(best)
}

/// ` (did you mean ...?)`, or nothing.
#[must_use]
pub fn did_you_mean(near: Option<&str>) -> String {
    near.map_or(String::new(), |near| format!(" (did you mean `{near}`?)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_name_and_nonsense_finds_none() {
        let known = ["interval", "plugins", "tags", "output", "by"];
        for (name, near) in [
            ("intervall", Some("interval")),
            ("pluigns", Some("plugins")),
            ("tag", Some("tags")),
            ("bye", Some("by")),
            ("xyzzy", None),
        ] {
            assert_eq!(nearest(name, known), near, "{name}");
        }
        assert_eq!(nearest("x", []), None);
    }
}
