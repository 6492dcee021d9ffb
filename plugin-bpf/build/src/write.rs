//! The module `skel` of a tool, as Rust.

use crate::compile::Objects;
use crate::shape::Shape;
use crate::source::{Kind, Map, Source};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

/// Words that are no names in Rust without `r#`.
const KEYWORDS: [&str; 12] =
    ["type", "match", "move", "fn", "in", "impl", "mod", "ref", "use", "where", "loop", "dyn"];

fn field(name: &str) -> String {
    if KEYWORDS.contains(&name) { format!("r#{name}") } else { name.to_owned() }
}

pub fn module(source: &Source, objects: &Objects) -> String {
    let mut code = String::from("use plugin_bpf::{maps::*, *};\n");
    types(&mut code, source);
    counters(&mut code, source);
    constants(&mut code, source);
    maps(&mut code, source);
    object(&mut code, source, objects);
    code
}

macro_rules! put {
    ($code:expr, $($arg:tt)*) => { writeln!($code, $($arg)*).expect("a String takes all") };
}

fn types(code: &mut String, source: &Source) {
    put!(code, "/// Keys, values and events of the program.\npub mod types {{");
    for (name, of) in &source.structs {
        let name = field(name);
        put!(code, "#[derive(Clone, Copy, Debug)] #[repr(C)] pub struct {name} {{");
        for (member, shape) in &of.fields {
            put!(code, "pub {}: {},", field(member), shape.name(""));
        }
        put!(code, "}}");
        let sizes = of.fields.iter().map(|(_, shape)| format!("size_of::<{}>()", shape.name("")));
        let sum = sizes.reduce(|a, b| format!("{a} + {b}")).unwrap_or_else(|| "0".into());
        let size = of.size;
        put!(code, "const _: () = assert!(size_of::<{name}>() == {size} && {sum} == {size});");
        put!(
            code,
            "// SAFETY: numbers, arrays and structs of them; the sizes above leave no padding."
        );
        put!(code, "unsafe impl plugin_bpf::Record for {name} {{}}");
        put!(code, "impl Default for {name} {{ fn default() -> Self {{ plugin_bpf::zeroed() }} }}");
    }
    put!(code, "}}");
    if source.structs.get("comm").is_some_and(|comm| comm.fields[0].0 == "name") {
        put!(code, "impl From<types::comm> for String {{");
        put!(code, "fn from(comm: types::comm) -> Self {{ text(&comm.name) }} }}");
    }
    for (name, of) in &source.structs {
        let ktime = ("ktime_ns".to_owned(), Shape::Number("u64", 8));
        if of.fields.contains(&ktime) {
            put!(code, "impl Timed for types::{} {{", field(name));
            put!(code, "fn ktime_ns(&self) -> u64 {{ self.ktime_ns }} }}");
        }
    }
    let mut summed = BTreeSet::new();
    for map in &source.maps {
        if let Kind::Table { value: Shape::Struct(name, ..), .. } = &map.kind
            && summed.insert(name)
        {
            sums(code, source, name);
        }
    }
}

/// How rows of a table become one: sums of numbers; of `max` and `max_..` the greatest.
fn sums(code: &mut String, source: &Source, name: &str) {
    let of = &source.structs[name];
    if !of.fields.iter().all(|(_, shape)| is_sum(shape)) {
        return;
    }
    let fields = of.fields.iter().map(|(member, shape)| match (member.as_str(), shape) {
        (max, Shape::Number(..)) if max == "max" || max.starts_with("max_") => {
            format!("{}: max", field(max))
        }
        (member, _) => field(member),
    });
    let fields: Vec<_> = fields.collect();
    put!(code, "sums!(types::{} {{ {} }});", field(name), fields.join(", "));
}

fn is_sum(shape: &Shape) -> bool {
    match shape {
        Shape::Number(name, _) => *name == "u64",
        Shape::Array(of, _) => is_sum(of),
        Shape::Bool | Shape::Struct(..) => false,
    }
}

fn counters(code: &mut String, source: &Source) {
    for map in &source.maps {
        let Kind::Counters(names) = &map.kind else { continue };
        let fields: Vec<_> = names.iter().map(|name| field(&name.to_lowercase())).collect();
        let name = &map.name;
        put!(code, "#[derive(Clone, Copy, Debug, Default)] pub struct {name} {{");
        fields.iter().for_each(|field| {
            put!(code, "pub {field}: u64,");
        });
        put!(code, "}}\nimpl Named for {name} {{ fn of(counts: &[u64]) -> Self {{ Self {{");
        fields.iter().enumerate().for_each(|(i, field)| {
            put!(code, "{field}: counts[{i}],");
        });
        put!(code, "}} }} }}");
    }
}

fn constants(code: &mut String, source: &Source) {
    put!(code, "#[derive(Clone, Debug)] pub struct Constants {{");
    for (name, _, shape) in &source.constants {
        put!(code, "pub {}: {},", field(name), shape.name("types::"));
    }
    put!(code, "}}\nimpl Consts for Constants {{ fn read(bytes: &[u8]) -> Self {{ Self {{");
    for (name, at, shape) in &source.constants {
        let name = field(name);
        match shape {
            Shape::Bool => put!(code, "{name}: bytes[{at}] != 0,"),
            _ => put!(code, "{name}: from_bytes(&bytes[{at}..]),"),
        }
    }
    put!(code, "}} }}\nfn write(&self, memory: &mut [u8]) {{");
    for (name, at, shape) in &source.constants {
        let (name, end) = (field(name), at + shape.size());
        match shape {
            Shape::Bool => put!(code, "memory[{at}] = u8::from(self.{name});"),
            _ => put!(code, "memory[{at}..{end}].copy_from_slice(bytes(&self.{name}));"),
        }
    }
    put!(code, "}} }}");
}

/// The type of a map's field in `Maps`, and the call that makes it.
fn reader(map: &Map) -> (String, String) {
    let name = &map.name;
    let types = "types::";
    match &map.kind {
        Kind::Counters(names) => {
            (format!("Counters<{name}>"), format!("counters({name:?}, {})", names.len()))
        }
        Kind::CounterArray(n) => ("CounterArray".into(), format!("counter_array({name:?}, {n})")),
        Kind::Histogram { n, divisor } => {
            ("Histogram".into(), format!("histogram({name:?}, {n}, {divisor})"))
        }
        Kind::Histograms { key, divisor } => {
            (format!("Histograms<{}>", key.name(types)), format!("histograms({name:?}, {divisor})"))
        }
        Kind::Table { key, value } => (
            format!("Table<{}, {}>", key.name(types), value.name(types)),
            format!("table({name:?})"),
        ),
        Kind::Stacks => ("Stacks".into(), format!("stacks({name:?})")),
        Kind::StackStore => ("StackStore".into(), format!("stack_store({name:?})")),
        Kind::Pairs { key, value } => (
            format!("Pairs<{}, {}>", key.name(types), value.name(types)),
            format!("pairs({name:?})"),
        ),
        Kind::CpuPairs => ("CpuPairs".into(), "cpu_pairs()".into()),
        Kind::Events { of, bytes } => {
            (format!("Events<{}>", of.name(types)), format!("events({name:?}, {bytes})"))
        }
        Kind::Plain(reader) => (
            format!("Option<{reader}>"),
            format!("plain({name:?}, {}::of)", reader.replacen('<', "::<", 1)),
        ),
    }
}

fn maps(code: &mut String, source: &Source) {
    put!(code, "/// The maps' names.\n#[derive(Clone, Copy, Debug)] pub enum Map {{");
    for map in &source.maps {
        put!(code, "{},", field(&map.name));
    }
    put!(code, "}}\nimpl From<Map> for &'static str {{ fn from(map: Map) -> Self {{ match map {{");
    for map in &source.maps {
        put!(code, "Map::{} => {:?},", field(&map.name), map.name);
    }
    put!(code, "}} }} }}\n/// Pieces and plain maps.\npub struct Maps {{");
    for map in &source.maps {
        put!(code, "pub {}: {},", field(&map.name), reader(map).0);
    }
    put!(code, "}}\nimpl plugin_bpf::Maps for Maps {{");
    put!(code, "fn of(loaded: &Lent<'_>) -> plugin_api::Result<Self> {{ Ok(Self {{");
    for map in &source.maps {
        put!(code, "{}: loaded.{}?,", field(&map.name), reader(map).1);
    }
    put!(code, "}}) }}");
    put!(code, "fn pieces(&mut self) -> Vec<(&'static PieceDef, &mut dyn Piece)> {{ vec![");
    for (i, map) in source.maps.iter().filter(|map| map.number.is_some()).enumerate() {
        put!(code, "(&PIECES[{i}], &mut self.{} as _),", field(&map.name));
    }
    put!(code, "] }} }}\nstatic PIECES: &[PieceDef] = &[");
    for map in &source.maps {
        let Some(number) = map.number else { continue };
        let kind = match map.kind {
            Kind::Counters(_) | Kind::CounterArray(_) => "Counters",
            Kind::Histogram { .. } => "Histogram",
            Kind::Pairs { .. } | Kind::CpuPairs | Kind::StackStore => "Pairs",
            Kind::Events { .. } => "Events",
            Kind::Histograms { .. } | Kind::Table { .. } | Kind::Stacks | Kind::Plain(_) => {
                "Halves"
            }
        };
        let name = &map.name;
        put!(code, "PieceDef {{ name: {name:?}, number: {number}, kind: PieceKind::{kind} }},");
    }
    put!(code, "];");
}

fn object(code: &mut String, source: &Source, objects: &Objects) {
    put!(code, "/// The program.\npub struct Object;");
    put!(code, "impl plugin_bpf::Object for Object {{");
    put!(code, "type Maps = Maps; type Consts = Constants; type Map = Map;");
    put!(code, "const CODE: &'static Code = &CODE; }}");
    bytes(code, "FETCH", &objects.fetch);
    bytes(code, "PLAIN", &objects.plain);
    put!(
        code,
        "static CODE: Code = Code {{ name: {:?}, fetch: &FETCH.0, plain: &PLAIN.0,",
        source.name
    );
    put!(code, "programs: &[");
    for program in &source.programs {
        let maps: Vec<_> = program.maps.iter().collect();
        let (name, section) = (&program.name, &program.section);
        put!(code, "ProgramDef {{ name: {name:?}, section: {section:?}, maps: &{maps:?} }},");
    }
    put!(code, "], pieces: PIECES, maps: &{:?} }};", source.all_maps);
}

fn bytes(code: &mut String, name: &str, file: &Path) {
    let len = std::fs::metadata(file).map_or(0, |file| file.len());
    put!(
        code,
        "static {name}: Aligned<{len}> = Aligned(*include_bytes!({:?}));",
        file.display().to_string()
    );
}
