//! What a JVM is called in a tag: its main class, module or archive.

use plugin_bpf::Process;

/// As much as is read of the arguments: a class path may stand in front.
const ARGUMENTS: u64 = 64 * 1024;
const LONGEST: usize = 64;
/// Options whose value is the next argument.
const WITH_VALUE: [&str; 10] = [
    "-cp",
    "-classpath",
    "--class-path",
    "-p",
    "--module-path",
    "--upgrade-module-path",
    "--add-modules",
    "--add-exports",
    "--add-opens",
    "--source",
];

/// Its name, by the arguments that it was started with.
pub fn of(process: &Process) -> Option<String> {
    name(&process.arguments(ARGUMENTS).ok()?)
}

/// `None` for one that was not started by `java`, or tells nothing.
fn name(arguments: &[u8]) -> Option<String> {
    let texts = arguments.split(|byte| *byte == 0).skip(1).map(String::from_utf8_lossy);
    let mut texts = texts.skip_while(|text| text.is_empty());
    let name = loop {
        let text = texts.next()?;
        match &*text {
            "-jar" => break texts.next()?.rsplit('/').next()?.to_owned(),
            "-m" | "--module" => break texts.next()?.into_owned(),
            option if WITH_VALUE.contains(&option) => _ = texts.next(),
            option if option.starts_with(['-', '@']) => {}
            class => break class.to_owned(),
        }
    };
    let end = name.floor_char_boundary(LONGEST);
    Some(name[..end].to_owned()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn a_jvm_is_called_by_its_class_module_or_archive() {
        for (arguments, expected) in [
            ("java\0Main\0a\0", Some("Main")),
            ("/usr/bin/java\0-Xmx1g\0-cp\0/a:/b\0-ea\0org.x.Main\0-jar\0", Some("org.x.Main")),
            ("java\0-Dx=y\0-jar\0/opt/app/app.jar\0--port\0", Some("app.jar")),
            ("java\0--module-path\0/m\0-m\0mod/org.x.Main\0", Some("mod/org.x.Main")),
            ("java\0--class-path=/a\0@file\0Main\0", Some("Main")),
            ("java\0-version\0", None),
            ("java\0", None),
            ("", None),
            ("java\0-jar\0", None),
        ] {
            assert_eq!(name(arguments.as_bytes()).as_deref(), expected, "{arguments:?}");
        }
        let long = format!("java\0{}\0", "ä".repeat(200));
        assert!(name(long.as_bytes()).is_some_and(|name| name.len() <= super::LONGEST));
        assert_eq!(name(b"java\0\xff\xfe\0").as_deref(), Some("\u{fffd}\u{fffd}"));
    }
}
