//! Every field that the headers declare, by name and type.

use crate::OBJECT;
use libbpf_rs::btf::types::{Array, Composite, Int, MemberAttr, Struct, Var};
use libbpf_rs::btf::{Btf, BtfKind, BtfType};
use plugin_bpf::kernel_at_least;

/// What a kernel has from this version on, and what it has before it: a struct, or a field of one.
const SINCE: [(&str, (u32, u32)); 6] = [
    ("task_struct.__state", (5, 14)),
    ("cgroup___6_1.ancestors", (6, 1)),
    ("trace_event_raw_kmalloc", (6, 1)),
    ("trace_event_raw_kmem_cache_alloc", (6, 1)),
    ("trace_event_raw_kfree", (5, 12)),
    ("trace_event_raw_kmem_cache_free", (5, 12)),
];
const BEFORE: [(&str, (u32, u32)); 5] = [
    ("task_struct___pre_5_14.state", (5, 14)),
    ("cgroup___pre_6_1.ancestor_ids", (6, 1)),
    ("trace_event_raw_kmem_alloc___pre_6_1", (6, 1)),
    ("trace_event_raw_kmem_alloc_node___pre_6_1", (6, 1)),
    ("trace_event_raw_kmem_free___pre_5_12", (5, 12)),
];

/// Whether the running kernel has what the headers call so.
fn expected(name: &str) -> bool {
    let version = |list: &[(&str, (u32, u32))]| {
        list.iter().find(|(listed, _)| *listed == name).map(|(_, (x, y))| kernel_at_least(*x, *y))
    };
    version(&SINCE).unwrap_or(true) && !version(&BEFORE).unwrap_or(false)
}

/// Fields whose size differs among kernels: unsigned, so that libbpf makes the load that fits, and read by the size
/// that the kernel has where that is a helper's (`TASK_ON_CPU`).
const OF_ANY_SIZE: [&str; 1] = ["task_struct.on_cpu"];

#[test]
fn every_declared_field_is_in_the_running_kernel() {
    let Ok(kernel) = Btf::from_vmlinux() else {
        println!("SKIPPED: the kernel has no BTF");
        return;
    };
    let declared = Btf::from_raw("headers", OBJECT).expect("it parses").expect("it has BTF");

    let (mut compared, mut wrong) = (0, Vec::new());
    for variable in declared.type_by_kind::<Var<'_>>() {
        if !name(variable.name()).ends_with("_types") {
            continue;
        }
        let holder = variable.next_type().and_then(|holder| Composite::try_from(holder).ok());
        let holder = holder.expect("a struct of structs");
        for member in holder.iter() {
            let declared_type: BtfType<'_> = declared.type_by_id(member.ty).expect("its type");
            let name = name(declared_type.name());
            compared += 1;
            let real: Option<Struct<'_>> = kernel.type_by_name(base(name));
            match real {
                Some(real) => {
                    let fields = Composite::try_from(declared_type).expect("a struct");
                    compare(&declared, &fields, &kernel, &real.into(), name, &mut wrong);
                }
                None if expected(name) => wrong.push(format!("{name}: no such struct")),
                None => {}
            }
            if real.is_some() && !expected(name) {
                wrong.push(format!("{name}: this kernel should not have it"));
            }
        }
    }
    assert!(compared >= 50, "only {compared} structs were compared");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn compare(
    declared_btf: &Btf<'_>,
    declared: &Composite<'_>,
    kernel_btf: &Btf<'_>,
    kernel: &Composite<'_>,
    path: &str,
    wrong: &mut Vec<String>,
) {
    for member in declared.iter() {
        let path = format!("{path}.{}", name(member.name));
        let real = field(kernel_btf, kernel, name(member.name));
        let there = real.is_some();
        if there != expected(&path) {
            wrong.push(format!(
                "{path}: {}",
                if there { "should not be there" } else { "no such field" }
            ));
        }
        let Some(real) = real else { continue };
        let member: BtfType<'_> = declared_btf.type_by_id(member.ty).expect("its type");
        let member = member.skip_mods_and_typedefs();
        let difference = difference(&member, &real).filter(|_| !OF_ANY_SIZE.contains(&&*path));
        if let Some(difference) = difference {
            wrong.push(format!("{path}: {difference}"));
        }
        // One with a name is compared where it is declared.
        if let (Ok(fields), Ok(real)) = (Composite::try_from(member), Composite::try_from(real))
            && name(member.name()).is_empty()
        {
            compare(declared_btf, &fields, kernel_btf, &real, &path, wrong);
        }
    }
}

/// The type of a field, also of one in an anonymous struct or union; none of a bit field.
fn field<'a>(btf: &'a Btf<'a>, composite: &Composite<'_>, wanted: &str) -> Option<BtfType<'a>> {
    // Copied, because a member's lifetime is that of the borrow.
    let members: Vec<_> =
        composite.iter().map(|m| (name(m.name).to_owned(), m.ty, m.attr)).collect();
    members.into_iter().find_map(|(name, ty, attr)| {
        let ty: BtfType<'a> = btf.type_by_id(ty)?;
        let ty = ty.skip_mods_and_typedefs();
        if name == wanted {
            let whole = match attr {
                MemberAttr::Normal { .. } => true,
                MemberAttr::BitField { size, .. } => size == 0,
            };
            return whole.then_some(ty);
        }
        name.is_empty().then(|| field(btf, &Composite::try_from(ty).ok()?, wanted)).flatten()
    })
}

/// In what way a read of the declared type would not read the real one.
fn difference(declared: &BtfType<'_>, real: &BtfType<'_>) -> Option<String> {
    let differ = |what: &str| {
        let text = |t: &BtfType<'_>| format!("{:?} {:?}", t.kind(), name(t.name()));
        Some(format!("{what}: {} instead of {}", text(declared), text(real)))
    };
    match (declared.kind(), real.kind()) {
        (BtfKind::Int, BtfKind::Enum) => None,
        (BtfKind::Int, BtfKind::Int) => {
            let bits = |t: &BtfType<'_>| Int::try_from(*t).map(|int| int.bits).unwrap_or_default();
            if bits(declared) == bits(real) { None } else { differ("another size") }
        }
        (BtfKind::Array, BtfKind::Array) => {
            let declared = Array::try_from(*declared).expect("it is one");
            let real = Array::try_from(*real).expect("it is one");
            if real.capacity() != 0 && declared.capacity() > real.capacity() {
                return differ("more elements");
            }
            let (declared, real) = (declared.contained_type(), real.contained_type());
            difference(&declared.skip_mods_and_typedefs(), &real.skip_mods_and_typedefs())
        }
        (declared, real) if declared == real => None,
        _ => differ("another kind"),
    }
}

/// The kernel's name of a struct: libbpf ignores what follows three underscores.
fn base(name: &str) -> &str {
    name.split_once("___").map_or(name, |(base, _)| base)
}

fn name(name: Option<&std::ffi::OsStr>) -> &str {
    name.and_then(|name| name.to_str()).unwrap_or_default()
}
