//! The verifier's verdict out of its log, with the line of C that it is about.
//!
//! The log (kernel/bpf/verifier.c, BPF_LOG_LEVEL1) follows every instruction. Before those of another line of C
//! stands `; SOURCE`, since Linux 6.9 `; SOURCE @ FILE:LINE` (7cc13adbd057 "bpf: emit source code file name and line
//! number in verifier log"). The verdict stands behind the last instruction.

/// The verdict in one line; `None` when the log has none.
pub(super) fn of(log: &str) -> Option<String> {
    const LINES: usize = 3;
    let lines: Vec<&str> = log.lines().map(str::trim).collect();
    let end = lines.iter().rposition(|line| is_instruction(line)).map_or(0, |at| at + 1);
    let verdict: Vec<&str> = lines[end..].iter().copied().filter(|line| !is_state(line)).collect();
    if verdict.is_empty() {
        return None;
    }
    let source = lines[..end].iter().rev().find_map(|line| line.strip_prefix("; "));
    let place = source.map_or(String::new(), |source| match source.rsplit_once(" @ ") {
        Some((text, place)) => format!(" at {place}: `{}`", text.trim_end()),
        None => format!(" at `{source}`"),
    });
    let verdict = verdict[..verdict.len().min(LINES)].join("; ");
    Some(format!("{verdict}{place} (the whole log: collector --log debug)"))
}

/// `12: (b7) r0 = 0`
fn is_instruction(line: &str) -> bool {
    line.split_once(": (").is_some_and(|(number, _)| number.bytes().all(|b| b.is_ascii_digit()))
}

/// Registers, sums and what else the verifier tells beside its verdict.
fn is_state(line: &str) -> bool {
    let registers = line.strip_prefix('R').is_some_and(|rest| {
        rest.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with(['=', '_'])
    });
    let numbered = line.split_once(": ").is_some_and(|(number, _)| {
        !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
    });
    let told =
        ["; ", "processed ", "verification time", "stack depth", "from ", "func#", "cur state:"];
    line.is_empty()
        || registers
        || numbered
        || line.starts_with("old state:")
        || told.iter().any(|word| line.starts_with(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MORE: &str = " (the whole log: collector --log debug)";

    #[test]
    fn a_verdict_has_its_line_of_c() {
        let log = "0: R1=ctx() R10=fp0\n; int x = 0; @ demo.bpf.c:7\n0: (b7) r0 = 0 ; R0_w=0\n\
                   ; return *(__u32 *)task; @ demo.bpf.c:9\n1: (61) r0 = *(u32 *)(r0 +0)\n\
                   R0 invalid mem access 'scalar'\n\
                   processed 2 insns (limit 1000000) max_states_per_insn 0\n";
        let expected = "R0 invalid mem access 'scalar' at demo.bpf.c:9: `return *(__u32 *)task;`";
        assert_eq!(of(log), Some(format!("{expected}{MORE}")));
    }

    #[test]
    fn before_6_9_the_line_has_no_number() {
        let log = "; return *(__u32 *)task;\n0: (61) r0 = *(u32 *)(r0 +0)\n R0_w=inv(id=0) R10=fp0\n\
                   R0 invalid mem access 'inv'\nprocessed 2 insns\n";
        let expected = "R0 invalid mem access 'inv' at `return *(__u32 *)task;`";
        assert_eq!(of(log), Some(format!("{expected}{MORE}")));
    }

    #[test]
    fn a_verdict_without_an_instruction_is_one_too() {
        let log = "func#0 @0\nattach_btf_id 12 is not a function\nprocessed 0 insns\n";
        assert_eq!(of(log), Some(format!("attach_btf_id 12 is not a function{MORE}")));
        assert_eq!(of("processed 0 insns (limit 1000000)\n"), None);
    }
}
