//! What a program declares, out of its BTF and ELF.

use crate::Result;
use crate::compile::Objects;
use crate::elf::{self, Program};
use crate::shape::{self, Declaration, Shape, Structs};
use libbpf_rs::btf::{Btf, BtfType};

/// In `max_entries` (unity/base.h).
const LEN: u64 = (1 << 27) - 1;

/// One BPF program's source, as its objects show it.
pub struct Source {
    pub name: String,
    pub programs: Vec<Program>,
    pub maps: Vec<Map>,
    /// Every map that the object declares, hidden ones too, and data sections of ours.
    pub all_maps: Vec<String>,
    pub constants: Vec<(String, u64, Shape)>,
    pub structs: Structs,
}

/// A map that Rust gets to see.
pub struct Map {
    pub name: String,
    /// Its place among the pieces' losses, of a piece.
    pub number: Option<u64>,
    pub kind: Kind,
}

/// What it was declared as.
pub enum Kind {
    /// `COUNTERS`, with the names.
    Counters(Vec<String>),
    CounterArray(u64),
    Histogram {
        n: u64,
        divisor: u64,
    },
    Histograms {
        key: Shape,
        divisor: u64,
    },
    Table {
        key: Shape,
        value: Shape,
    },
    Stacks,
    StackStore,
    Pairs {
        key: Shape,
        value: Shape,
    },
    CpuPairs,
    Events {
        of: Shape,
        bytes: u64,
    },
    /// A plain map, with the typed reader of its kind.
    Plain(String),
}

impl Source {
    pub fn read(name: &str, objects: &Objects) -> Result<Self> {
        let elf = elf::read(&objects.plain)?;
        let btf = Btf::from_path(&objects.plain).map_err(|e| format!("its BTF: {e}"))?;
        let mut structs = Structs::new();
        let mut maps = Vec::new();
        let mut all_maps: Vec<String> =
            [".rodata.unity", ".rodata.unity_record", ".rodata.unity_filter"]
                .map(Into::into)
                .into();
        let declared = shape::variables(&btf, ".maps");
        let names: Vec<String> = declared.iter().map(|(name, _)| name.clone()).collect();
        for (map, ty) in declared {
            all_maps.push(map.clone());
            let Some(declaration) = Declaration::of(&btf, ty) else { continue };
            if is_hidden(&map, &names) {
                continue;
            }
            let tag = declaration.tag();
            let (kind, number) = match tag.rsplit_once("__") {
                Some((kind, number)) => (kind, number.parse().ok()),
                None => ("", None),
            };
            let kind = piece(&btf, kind, &declaration, &mut structs)
                .map_err(|error| format!("map `{map}`: {error}"))?
                .unwrap_or_else(|| plain(&btf, &declaration, &mut structs));
            maps.push(Map { name: map, number, kind });
        }
        let mut constants = Vec::new();
        for (constant, ty) in shape::variables(&btf, ".rodata") {
            let Some(at) = elf.constants.get(&constant) else { continue };
            let of = shape::shape(&btf, ty, &mut structs)
                .map_err(|error| format!("constant `{constant}` is {error}"))?;
            constants.push((constant, *at, of));
        }
        let name = name.to_owned();
        Ok(Self { name, programs: elf.programs, maps, all_maps, constants, structs })
    }
}

/// Maps of this crate and of libbpf's usdt.bpf.h, and those that a macro declares beside another one.
fn is_hidden(map: &str, names: &[String]) -> bool {
    let beside = map.strip_suffix("__b").or_else(|| map.strip_suffix("__scratch"));
    matches!(map, "unity_cut" | "unity_lost" | "unity_tails" | "unity_sites")
        || beside.is_some_and(|of| names.iter().any(|n| n == of))
}

fn piece(
    btf: &Btf<'_>,
    kind: &str,
    of: &Declaration<'_>,
    structs: &mut Structs,
) -> Result<Option<Kind>> {
    let ty = |field: &str| -> Result<BtfType<'_>> {
        of.ty(field).ok_or_else(|| format!("no type of its {field}"))
    };
    let entries = of.number("max_entries").unwrap_or_default();
    let divisor = 1000u64.pow((entries >> 27 & 3) as u32);
    Ok(Some(match kind {
        "unity_counters" => {
            let index = shape::member(btf, ty("value")?, "index").and_then(shape::enumerators);
            let mut names = index.ok_or("no enum of its names")?;
            names.pop(); // NAME__n
            Kind::Counters(names)
        }
        "unity_counter_array" => Kind::CounterArray(entries & LEN),
        "unity_histogram" => Kind::Histogram { n: (entries & LEN) / 2, divisor },
        "unity_histograms" => {
            let key = shape::member(btf, ty("key")?, "key").ok_or("no type of its key")?;
            Kind::Histograms { key: key_of(btf, key, structs)?, divisor }
        }
        "unity_table" => Kind::Table {
            key: key_of(btf, ty("key")?, structs)?,
            value: shape::shape(btf, ty("value")?, structs)
                .map_err(|e| format!("its value is {e}"))?,
        },
        "unity_stacks" => Kind::Stacks,
        "unity_stack_store" => Kind::StackStore,
        "unity_pairs" => Kind::Pairs {
            key: key_of(btf, ty("key")?, structs)?,
            value: shape::shape(btf, ty("value")?, structs)
                .map_err(|e| format!("its value is {e}"))?,
        },
        "unity_cpu_pairs" => Kind::CpuPairs,
        "unity_events" => Kind::Events {
            of: shape::shape(btf, ty("value")?, structs)
                .map_err(|e| format!("its event is {e}"))?,
            bytes: entries,
        },
        _ => return Ok(None),
    }))
}

fn key_of(btf: &Btf<'_>, ty: BtfType<'_>, structs: &mut Structs) -> Result<Shape> {
    shape::shape(btf, ty, structs).map_err(|error| format!("its key is {error}"))
}

/// The reader of a plain map. What it holds may be no record; then it is read as bytes.
fn plain(btf: &Btf<'_>, of: &Declaration<'_>, structs: &mut Structs) -> Kind {
    let mut name = |field: &str| -> Option<String> {
        let shape = shape::shape(btf, of.ty(field)?, structs).ok()?;
        (shape != Shape::Bool).then(|| shape.name("types::"))
    };
    let reader = match of.number("type") {
        Some(1 | 9) => keyed("Hash", name("key"), name("value")),
        Some(5 | 10) => keyed("PerCpuHash", name("key"), name("value")),
        Some(2) => name("value").map(|value| format!("Array<{value}>")),
        Some(6) => name("value").map(|value| format!("PerCpuArray<{value}>")),
        Some(22) => name("value").map(|value| format!("Queue<{value}>")),
        Some(23) => name("value").map(|value| format!("Stack<{value}>")),
        _ => None,
    };
    Kind::Plain(reader.unwrap_or_else(|| "RawMap".to_owned()))
}

fn keyed(reader: &str, key: Option<String>, value: Option<String>) -> Option<String> {
    Some(format!("{reader}<{}, {}>", key?, value?))
}
