//! Whether a source has to be compiled again: by the times of the files that its Rust side was made of.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};
use std::{env, io};

/// A file's time may lie this far behind the clock.
const COARSE: Duration = Duration::from_millis(20);

/// Where libbpf-cargo unpacks libbpf's headers, in a temporary folder.
const LIBBPF: &str = "/bpf/src/bpf/";

/// The moment from which on a change of a source may be missed.
pub fn now() -> SystemTime {
    SystemTime::now() - COARSE
}

/// Gives a file the time at which its making began.
pub fn made_at(file: &Path, begun: SystemTime) -> io::Result<()> {
    File::options().write(true).open(file)?.set_modified(begun)
}

/// Whether the Rust side is newer than its source, the headers and this build script.
pub fn is_fresh(generated: &Path, source: &Path, depfile: &Path) -> bool {
    let time = |path: &Path| fs::metadata(path).and_then(|file| file.modified());
    let (Ok(made), true) = (time(generated), depfile.exists()) else { return false };
    let older = |path: &Path| time(path).is_ok_and(|changed| changed < made);
    // It may have been linked just before it began; and no newer one while it compiled.
    let script = || time(&env::current_exe()?).map(|linked| linked <= made + COARSE);
    older(source)
        && script().unwrap_or(false)
        && headers(depfile).iter().all(|header| older(Path::new(header)))
}

/// The source and the headers of a make rule (`a.o: a.c b.h \`), less those of libbpf, which were unpacked into
/// a folder that is gone by now and are part of this script.
pub fn headers(depfile: &Path) -> Vec<String> {
    let rule = fs::read_to_string(depfile).unwrap_or_default().replace("\\\n", " ");
    let files = rule.split_whitespace().skip(1).filter(|file| !file.contains(LIBBPF));
    files.map(str::to_owned).collect()
}
