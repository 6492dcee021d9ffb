//! C plugins for tests, and a host for them, as the bytes of their files.
//!
//! `plugin/` has the layout of unity's tree; each folder is written as authors for unity write, and made by
//! bpfso.mk. The host (`host.c`) is what a plugin sees of the collector, as a small program that prints lines.

include!(concat!(env!("OUT_DIR"), "/made.rs"));

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs, process};

/// A folder with the host and some plugins; it goes with this.
pub struct Folder(PathBuf);

impl Folder {
    /// Writes the host.
    ///
    /// # Panics
    /// Files cannot be written.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let folder = Self(env::temp_dir().join(format!("c-plugins-{name}-{}", process::id())));
        fs::create_dir_all(&folder.0).expect("a folder");
        folder.file("host", HOST);
        folder
    }

    /// Writes a file; its path.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.0.join(name);
        fs::write(&path, bytes).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
        path
    }

    /// Where the files are.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Runs a plugin in the host: its words, as host.c has them.
    ///
    /// # Panics
    /// The host does not start.
    #[must_use]
    pub fn run(&self, plugin: &[u8], words: &[&str]) -> Ran {
        let so = self.file("libplugin.so", plugin);
        let output =
            Command::new(self.0.join("host")).arg(so).args(words).current_dir(&self.0).output();
        Ran(output.expect("the host starts"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What the host printed.
pub struct Ran(pub Output);

impl Ran {
    /// Both streams, for messages.
    #[must_use]
    pub fn text(&self) -> String {
        let bytes = [&self.0.stdout[..], &self.0.stderr[..]].concat();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Whether it ended well.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.0.status.success()
    }

    /// The lines of a table, in order.
    pub fn lines(&self, table: &str) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.0.stdout);
        let of_table = |line: &&str| line.split([',', ' ']).next() == Some(table);
        text.lines().filter(of_table).map(str::to_owned).collect()
    }

    /// A field of all lines of a table, added up.
    ///
    /// # Panics
    /// It is no number.
    #[must_use]
    pub fn sum(&self, table: &str, field: &str) -> f64 {
        let key = format!("{field}=");
        let values = self.lines(table).into_iter().filter_map(|line| {
            let fields = line.split(' ').nth(1).unwrap_or_default().to_owned();
            let value =
                fields.split(',').find_map(|part| part.strip_prefix(&key).map(str::to_owned));
            value.map(|value| value.parse::<f64>().expect("a number"))
        });
        values.fold(0.0, |sum, value| sum + value)
    }

    /// Why the kernel of this machine cannot do it, when the plugin could not attach a kprobe.
    #[must_use]
    pub fn lacks_kprobes(&self) -> bool {
        !Path::new("/sys/bus/event_source/devices/kprobe").exists() && !self.is_ok()
    }
}
