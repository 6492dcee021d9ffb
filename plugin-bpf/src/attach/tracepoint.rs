//! Where a tracepoint's fields lie: its `format` file, the only way that needs no BTF of the kernel.

use crate::object::{Code, Failure};
use plugin_api::{Result, anyhow, ensure};
use std::collections::BTreeSet;
use std::path::Path;

/// Bytes of `struct unity_field` (unity/hooks.h), and where its parts lie.
const FIELD: usize = 96;
const NAME: usize = 48;
const SIZE: usize = 80;
const OFFSET: usize = 84;
const LOCATION: usize = 88;

/// Fills in the offsets that the tp programs about to be loaded read, out of their tracepoints' formats.
///
/// # Errors
/// A program, and the field that its tracepoint lacks here.
pub(crate) fn fill(
    records: &mut [u8],
    code: &Code,
    programs: &BTreeSet<&'static str>,
) -> Result<(), Failure> {
    for record in records.chunks_exact_mut(FIELD) {
        let name = c_string(&record[..NAME]);
        let Some(program) = code.programs.iter().find(|program| program.name == name) else {
            continue;
        };
        if programs.contains(program.name) {
            place(record, program.section)
                .map_err(|error| Failure::of_program(program.name, error))?;
        }
    }
    Ok(())
}

fn place(record: &mut [u8], section: &str) -> Result<()> {
    let tracepoint = section.split_once('/').map_or(section, |(_, name)| name);
    let format = Format::read(tracepoint)?;
    let field = format.field(&c_string(&record[NAME..SIZE]))?;
    let wanted = number(&record[SIZE..]);
    // A longer one is read from its low end, which little-endian machines have first.
    ensure!(
        wanted <= field.size,
        "field `{}` of tracepoint {tracepoint} has {} bytes here, and the program reads {wanted}",
        c_string(&record[NAME..SIZE]),
        field.size
    );
    record[OFFSET..][..4].copy_from_slice(&field.offset.to_ne_bytes());
    record[LOCATION..][..4].copy_from_slice(&u32::from(field.location).to_ne_bytes());
    Ok(())
}

fn c_string(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|b| *b == 0).next().unwrap_or_default()).into_owned()
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// The layout of a tracepoint's record.
#[derive(Clone, Debug)]
struct Format {
    name: String,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Field {
    offset: u32,
    size: u32,
    /// `__data_loc`: the offset is where the field's own offset and length stand.
    location: bool,
}

/// Whether only the user keeps us from looking into a folder.
fn is_closed(folder: &str) -> bool {
    let inside = std::fs::metadata(Path::new(folder).join("events"));
    inside.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

impl Format {
    /// Reads `events/CATEGORY/NAME/format` of the tracepoint `CATEGORY/NAME`.
    fn read(name: &str) -> Result<Self> {
        let roots = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
        let text = roots.iter().find_map(|root| {
            let file = Path::new(root).join("events").join(name).join("format");
            std::fs::read_to_string(file).ok()
        });
        let text = text.ok_or_else(|| {
            if roots.iter().any(|root| Path::new(root).join("events").exists()) {
                anyhow!("this kernel has no tracepoint {name}")
            } else if roots.iter().any(|root| is_closed(root)) {
                anyhow!("tracefs is closed to this user: run as root, or add CAP_DAC_READ_SEARCH")
            } else {
                anyhow!("tracefs is not mounted: mount -t tracefs tracefs /sys/kernel/tracing")
            }
        })?;
        Ok(Self { name: name.to_owned(), text })
    }

    // A line is `field:char next_comm[16];	offset:40;	size:16;	signed:0;`.
    fn field(&self, wanted: &str) -> Result<Field> {
        let found = self.text.lines().find_map(|line| {
            let (declaration, rest) = line.trim().strip_prefix("field:")?.split_once(';')?;
            let name = match declaration.strip_suffix(']') {
                Some(array) => array.rsplit_once('[')?.0,
                None => declaration,
            };
            let name = name.rsplit([' ', '*']).next()?;
            let number = |key: &str| -> Option<u32> {
                rest.split(';').find_map(|part| part.trim().strip_prefix(key)?.parse().ok())
            };
            let (offset, size) = (number("offset:")?, number("size:")?);
            let location = declaration.starts_with("__data_loc");
            (name == wanted).then_some(Field { offset, size, location })
        });
        found.ok_or_else(|| anyhow!("tracepoint {} has no field `{wanted}`", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_name() {
        let text = "name: sched_switch\nID: 318\nformat:\n\
            \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n\
            \tfield:char prev_comm[16];\toffset:8;\tsize:16;\tsigned:0;\n\
            \tfield:pid_t prev_pid;\toffset:24;\tsize:4;\tsigned:1;\n\
            \tfield:__data_loc char[] filename;\toffset:32;\tsize:4;\tsigned:0;\n";
        let format = Format { name: "sched/sched_switch".into(), text: text.into() };
        let field = |name| format.field(name).map(|f| (f.offset, f.size, f.location)).ok();
        assert_eq!(field("prev_comm"), Some((8, 16, false)));
        assert_eq!(field("prev_pid"), Some((24, 4, false)));
        assert_eq!(field("filename"), Some((32, 4, true)));
        assert_eq!((field("pid"), field("char")), (None, None));
        let error = format.field("next_pid").unwrap_err().to_string();
        assert_eq!(error, "tracepoint sched/sched_switch has no field `next_pid`");
    }
}
