//! Where a tracepoint's fields lie: its `format` file, the only way that needs no BTF of the kernel.

use plugin_api::{Result, anyhow};
use std::path::Path;

/// The layout of a tracepoint's record.
#[derive(Clone, Debug)]
pub struct Format {
    name: String,
    text: String,
}

impl Format {
    /// Reads `events/CATEGORY/NAME/format`; `None` when tracefs is not mounted or there is no such
    /// tracepoint, in which case no `tp` program of it can be attached either.
    #[must_use]
    pub fn read(category: &str, name: &str) -> Option<Self> {
        let name = format!("{category}/{name}");
        ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"].iter().find_map(|root| {
            let file = Path::new(root).join("events").join(&name).join("format");
            let text = std::fs::read_to_string(file).ok()?;
            Some(Self { name: name.clone(), text })
        })
    }

    /// Whether the record has this field.
    #[must_use]
    pub fn has(&self, field: &str) -> bool {
        self.find(field).is_some()
    }

    /// The field's offset in the record, in bytes.
    ///
    /// # Errors
    /// The record has no such field.
    pub fn offset(&self, field: &str) -> Result<u32> {
        self.find(field).ok_or_else(|| anyhow!("tracepoint {} has no field `{field}`", self.name))
    }

    // A line is `field:char next_comm[16];	offset:40;	size:16;	signed:0;`.
    fn find(&self, field: &str) -> Option<u32> {
        self.text.lines().find_map(|line| {
            let (declaration, rest) = line.trim().strip_prefix("field:")?.split_once(';')?;
            let name = match declaration.strip_suffix(']') {
                Some(array) => array.rsplit_once('[')?.0,
                None => declaration,
            };
            let name = name.rsplit([' ', '*']).next()?;
            let offset = rest.trim().strip_prefix("offset:")?.split(';').next()?;
            if name == field { offset.parse().ok() } else { None }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fields_offset_is_found_by_its_name() {
        let text = "name: sched_switch\nID: 318\nformat:\n\
            \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n\
            \tfield:char prev_comm[16];\toffset:8;\tsize:16;\tsigned:0;\n\
            \tfield:pid_t prev_pid;\toffset:24;\tsize:4;\tsigned:1;\n\
            \tfield:__data_loc char[] filename;\toffset:32;\tsize:4;\tsigned:0;\n";
        let format = Format { name: "sched/sched_switch".into(), text: text.into() };
        assert_eq!(format.offset("prev_comm").unwrap(), 8);
        assert_eq!(format.offset("prev_pid").unwrap(), 24);
        assert_eq!(format.offset("filename").unwrap(), 32);
        assert!(!format.has("pid") && !format.has("char"));
        let error = format.offset("next_pid").unwrap_err().to_string();
        assert_eq!(error, "tracepoint sched/sched_switch has no field `next_pid`");
    }
}
