//! A BPF object from a file, its maps and programs by name, for authors who have a `.o` and no skeleton.

use super::failure::reason_of;
use super::print::listening;
use super::threads::max_threads;
use crate::exact::banks::banks;
use crate::maps::RawMap;
use libbpf_rs::{Link, MapCore, MapType, Object, ObjectBuilder, OpenMapMut};
use plugin_api::{Result, anyhow, bail, ensure};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Flags in `max_entries` (unity/base.h, unity/histogram.h).
const BANKED: u32 = 1 << 29;
const PER_THREAD: u32 = (1 << 28) | 1;
const LEN: u32 = (1 << 27) - 1;

/// Licences that give a program the helpers of the GPL (`license_is_gpl_compatible()` of the kernel).
const GPL: [&str; 6] =
    ["GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL"];

/// A loaded object. Dropping it detaches its programs.
///
/// It may have any number of programs and of maps, declared with their types (`SEC(".maps")`). Errors say what
/// there is instead of what was asked for.
///
/// ```no_run
/// use plugin_bpf::{ObjectFile, maps::Array};
/// # fn main() -> plugin_api::Result<()> {
/// let mut shows = ObjectFile::load("shows.bpf.o")?;
/// shows.attach("on_show")?;
/// let count = shows.read("count", Array::<u64>::of)?;
/// println!("{:?}", count.lookup(0)?);
/// # Ok(())
/// # }
/// ```
pub struct ObjectFile {
    path: PathBuf,
    object: Object,
    links: Vec<Link>,
}

impl ObjectFile {
    /// Opens a file, sets the sizes of its maps of unity.bpf.h to this machine's, and loads all programs.
    ///
    /// # Errors
    /// There is no such file, it is no BPF object or says no licence, or the kernel refuses a map or a program.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let shown = path.display();
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                bail!("{shown}: {error}; {}", neighbours(path))
            }
            Err(error) => bail!("{shown}: {error}"),
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.split('.').next().unwrap_or_default();
        let (open, said) = listening(|| ObjectBuilder::default().name(name)?.open_memory(&bytes));
        let mut open = open.map_err(|error| {
            anyhow!("{shown} is no BPF object that can be opened: {}", reason_of(&said, &error))
        })?;
        let license = license(&bytes).unwrap_or_default();
        ensure!(
            !license.is_empty(),
            "{shown} says no licence: add `char LICENSE[] SEC(\"license\") = \"GPL\";`, or another one that is \
             compatible with the GPL, to its source"
        );
        for mut map in open.maps_mut() {
            size(&mut map).map_err(|error| anyhow!("{shown}: map {:?}: {error:#}", map.name()))?;
        }
        let (object, said) = listening(|| open.load());
        let object = object.map_err(|error| {
            let mut reason = format!("{shown} cannot be loaded: {}", reason_of(&said, &error));
            if !GPL.contains(&license.as_str()) {
                reason += &format!(
                    "; its licence `{license}` is not compatible with the GPL, so the kernel gives it only some helpers"
                );
            }
            anyhow!(reason)
        })?;
        Ok(Self { path: path.to_owned(), object, links: Vec::new() })
    }

    /// A map as bytes.
    ///
    /// # Errors
    /// There is no such map, or no descriptor is left.
    pub fn map(&self, name: &str) -> Result<RawMap> {
        self.read(name, RawMap::of)
    }

    /// A map by the `of` of its typed reader: `file.read("count", Array::<u64>::of)`.
    ///
    /// # Errors
    /// There is no such map, or it is of another kind or other sizes than the reader.
    pub fn read<R>(&self, name: &str, of: impl FnOnce(&dyn MapCore) -> Result<R>) -> Result<R> {
        let Some(map) = self.object.maps().find(|map| map.name() == name) else {
            let maps = self.object.maps().map(|map| map.name().to_string_lossy().into_owned());
            bail!("{} has no map `{name}`; its maps are: {}", self.path.display(), listed(maps));
        };
        of(&map)
    }

    /// Attaches a program to what its section names.
    ///
    /// # Errors
    /// There is no such program, or the kernel refuses.
    pub fn attach(&mut self, name: &str) -> Result<()> {
        let Some(program) = self.object.progs_mut().find(|program| program.name() == name) else {
            let programs = self.object.progs().map(|program| {
                let (name, section) =
                    (program.name().to_string_lossy(), program.section().to_string_lossy());
                format!("{name} ({section})")
            });
            bail!(
                "{} has no program `{name}`; its programs are: {}",
                self.path.display(),
                listed(programs)
            );
        };
        let section = program.section().to_string_lossy().into_owned();
        let (link, said) = listening(|| program.attach());
        let link = link.map_err(|error| {
            anyhow!(
                "program `{name}` cannot be attached to {section}: {}",
                reason_of(&said, &error)
            )
        })?;
        self.links.push(link);
        Ok(())
    }

    /// Attaches all programs.
    ///
    /// # Errors
    /// The kernel refuses one; those before it stay attached.
    pub fn attach_all(&mut self) -> Result<()> {
        let names: Vec<_> = self
            .object
            .progs()
            .map(|program| program.name().to_string_lossy().into_owned())
            .collect();
        names.iter().try_for_each(|name| self.attach(name))
    }
}

fn listed(names: impl Iterator<Item = String>) -> String {
    let names: Vec<_> = names.collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Which objects lie where a file was looked for.
fn neighbours(path: &Path) -> String {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let Ok(entries) = fs::read_dir(folder) else {
        return format!("there is no folder {}", folder.display());
    };
    let names =
        entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
    let mut names: Vec<_> = names.filter(|name| name.ends_with(".o")).collect();
    names.sort();
    format!("the objects there are: {}", listed(names.into_iter()))
}

fn size(map: &mut OpenMapMut<'_>) -> Result<()> {
    let declared = map.max_entries();
    if map.map_type() == MapType::RingBuf {
        map.set_value_size(0)?; // EVENTS: the type was for Rust
    } else if declared == PER_THREAD {
        map.set_max_entries(max_threads())?;
    } else if declared & BANKED != 0 {
        map.set_max_entries((declared & LEN) * banks())?;
    } else if declared > LEN {
        map.set_max_entries(declared & LEN)?;
    }
    Ok(())
}

/// What an ELF file of 64 bits has in its section `license`.
fn license(elf: &[u8]) -> Option<String> {
    let number = |at: usize, len: usize| {
        let bytes = elf.get(at..at.checked_add(len)?)?;
        Some(bytes.iter().rev().fold(0, |n, byte| n << 8 | usize::from(*byte)))
    };
    // Elf64_Ehdr and Elf64_Shdr, of a little-endian machine.
    let (sections, size, count, names) =
        (number(40, 8)?, number(58, 2)?, number(60, 2)?, number(62, 2)?);
    let section = |i: usize| sections.checked_add(i.checked_mul(size)?);
    let names = number(section(names)? + 24, 8)?;
    let found = (0..count).find_map(|i| {
        let at = section(i)?;
        let name = names.checked_add(number(at, 4)?)?;
        elf.get(name..)?.starts_with(b"license\0").then_some(at)
    })?;
    let content = elf.get(number(found + 24, 8)?..)?;
    let content = content.get(..number(found + 32, 8)?)?;
    let end = content.iter().position(|byte| *byte == 0)?;
    Some(String::from_utf8_lossy(&content[..end]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(path: &str) -> String {
        format!("{:#}", ObjectFile::load(path).map(|_| ()).expect_err("no object"))
    }

    #[test]
    fn a_file_that_is_not_there_is_told_with_those_that_are() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["b.bpf.o", "a.bpf.o", "c.txt"] {
            fs::write(folder.path().join(name), "text").expect("a file");
        }
        let path = folder.path().join("shows.bpf.o");
        let text = error(path.to_str().expect("text"));
        assert!(text.contains("the objects there are: a.bpf.o, b.bpf.o"), "{text}");
        let text = error("/no/such/folder/a.o");
        assert!(text.contains("there is no folder /no/such/folder"), "{text}");
        let text = error(folder.path().join("a.bpf.o").to_str().expect("text"));
        assert!(text.contains("a.bpf.o is no BPF object"), "{text}");
    }

    #[test]
    fn any_bytes_have_a_licence_or_none() {
        for len in 0..200 {
            for fill in [0, 1, 0xff] {
                assert_eq!(license(&vec![fill; len]), None);
            }
        }
    }
}
