//! A copy of this repository, in which a test may change files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The copy; it goes when it is dropped, unless the test fails.
pub struct Tree(PathBuf);

impl Tree {
    /// Copies what git has, and what it does not ignore, to target/tree: there is one at a time. Its files are as new
    /// as the copy: cargo takes those that have the same times for the repository's own, and runs the xtask of that.
    ///
    /// # Panics
    /// Files cannot be copied.
    #[must_use]
    pub fn copy() -> Self {
        let tree = Self(root().join("target/tree"));
        let _ = fs::remove_dir_all(&tree.0);
        let list = ["ls-files", "--cached", "--others", "--exclude-standard"];
        let files = Command::new("git").args(list).current_dir(root()).output().expect("git");
        let files = String::from_utf8(files.stdout).expect("names");
        for file in files.lines().filter(|file| root().join(file).is_file()) {
            let to = tree.path(file);
            fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
            fs::copy(root().join(file), to).expect("a copy");
        }
        tree
    }

    /// A place in it.
    #[must_use]
    pub fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    /// Runs cargo there, with the crates that are compiled here already.
    ///
    /// # Panics
    /// There is no cargo.
    #[must_use]
    pub fn cargo(&self, args: &[&str]) -> Output {
        Command::new("cargo")
            .args(args)
            .current_dir(&self.0)
            // Not the target folder: there lies the `cargo xtask` that runs this test.
            .env("CARGO_TARGET_DIR", self.path("target"))
            .env("CARGO_BUILD_BUILD_DIR", root().join("target"))
            .output()
            .expect("cargo runs")
    }

    /// Replaces a text in a file; gives what the file was.
    ///
    /// # Panics
    /// The text is not there.
    pub fn replace(&self, file: &str, from: &str, to: &str) -> String {
        let old = fs::read_to_string(self.path(file)).expect(file);
        assert!(old.contains(from), "{file} has no `{from}`: {old}");
        fs::write(self.path(file), old.replace(from, to)).expect(file);
        old
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// The repository.
///
/// # Panics
/// Never.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

/// What a program printed, errors last.
#[must_use]
pub fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
