//! The files that are deleted.

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

/// A folder that is empty at first, and gone at the end.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        let path = PathBuf::from(format!("/tmp/unlink-test-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).expect("a folder in /tmp");
        Self(path)
    }

    /// The path of a file, which is made.
    pub fn file(&self, name: impl AsRef<[u8]>) -> CString {
        let path = self.0.join(OsStr::from_bytes(name.as_ref()));
        File::create(&path).expect("a file");
        CString::new(path.as_os_str().as_bytes()).expect("no NUL")
    }

    pub fn files(&self, n: usize) -> Vec<CString> {
        (0..n).map(|i| self.file(i.to_string())).collect()
    }

    pub fn path(&self, name: &str) -> CString {
        CString::new(self.0.join(name).as_os_str().as_bytes()).expect("no NUL")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
