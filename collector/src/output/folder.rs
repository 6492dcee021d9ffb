//! What an output's folder and files are called.

/// A name for files, made of an output's: readable, and different for different outputs.
pub fn folder_name(output: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let name: String = output.chars().map(|c| if safe(c) { c } else { '_' }).collect();
    let name: String = name.chars().take(80).collect();
    if name == output { name } else { format!("{name}-{:08x}", crc32fast::hash(output.as_bytes())) }
}

#[cfg(test)]
mod tests {
    use super::folder_name;

    #[test]
    fn names_are_safe_and_different() {
        assert_eq!(folder_name("stdout"), "stdout");
        let one = folder_name("influxdb1://127.0.0.1:8086/a");
        assert!(one.starts_with("influxdb1___127.0.0.1_8086_a-"), "{one}");
        assert_ne!(one, folder_name("influxdb1://127.0.0.1:8086_a"));
        assert!(!folder_name("unix:/../..").contains('/'));
        assert!(folder_name(&"x".repeat(1000)).len() < 100);
    }
}
