//! C types as Rust types: those of which any bytes are a value.

use crate::Result;
use libbpf_rs::btf::types::{
    Array, Composite, DataSec, Enum, Int, IntEncoding, MemberAttr, Ptr, Var,
};
use libbpf_rs::btf::{Btf, BtfKind, BtfType};
use std::collections::BTreeMap;

/// A type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    Bool,
    /// A number, by its name in Rust.
    Number(&'static str, u64),
    Array(Box<Shape>, u64),
    Struct(String, u64, u64),
}

impl Shape {
    pub fn size(&self) -> u64 {
        match self {
            Self::Bool => 1,
            Self::Number(_, size) | Self::Struct(_, size, _) => *size,
            Self::Array(of, n) => of.size() * n,
        }
    }

    pub fn align(&self) -> u64 {
        match self {
            Self::Bool => 1,
            Self::Number(_, size) => *size,
            Self::Array(of, _) => of.align(),
            Self::Struct(_, _, align) => *align,
        }
    }

    /// Its name in Rust, seen from beside the module `types`.
    pub fn name(&self, types: &str) -> String {
        match self {
            Self::Bool => "bool".to_owned(),
            Self::Number(name, _) => (*name).to_owned(),
            Self::Array(of, n) => format!("[{}; {n}]", of.name(types)),
            Self::Struct(name, ..) => format!("{types}{name}"),
        }
    }
}

/// A struct of records.
pub struct Struct {
    pub size: u64,
    /// Name, type; holes are fields of their own.
    pub fields: Vec<(String, Shape)>,
}

/// Structs by name, gathered while shapes are asked for.
pub type Structs = BTreeMap<String, Struct>;

/// The variables of a data section, with their types.
pub fn variables<'a>(btf: &'a Btf<'a>, section: &str) -> Vec<(String, BtfType<'a>)> {
    let sections = btf.type_by_kind::<DataSec<'_>>();
    let of_name = |s: &DataSec<'_>| s.name().is_some_and(|name| name == section);
    let Some(section) = sections.into_iter().find(of_name) else { return Vec::new() };
    let mut found = Vec::new();
    for info in section.iter() {
        let variable = btf.type_by_id::<Var<'_>>(info.ty);
        let named = variable
            .and_then(|var| Some((var.name()?.to_string_lossy().into_owned(), var.next_type()?)));
        found.extend(named);
    }
    found
}

/// What `__uint(field, n)` of a map's declaration says, and what `__type(field, T)` points at.
pub struct Declaration<'a> {
    btf: &'a Btf<'a>,
    of: Composite<'a>,
}

impl<'a> Declaration<'a> {
    pub fn of(btf: &'a Btf<'a>, ty: BtfType<'a>) -> Option<Self> {
        Some(Self { btf, of: Composite::try_from(ty.skip_mods_and_typedefs()).ok()? })
    }

    /// Its tag.
    pub fn tag(&self) -> String {
        self.of.name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    fn pointee(&self, field: &str) -> Option<BtfType<'a>> {
        let member = (0..self.of.len()).filter_map(|i| self.of.get(i));
        let member = member.into_iter().find(|m| m.name.is_some_and(|name| name == field))?;
        let pointer = self.btf.type_by_id::<BtfType<'_>>(member.ty)?.skip_mods_and_typedefs();
        Ptr::try_from(pointer).ok()?.next_type()
    }

    pub fn number(&self, field: &str) -> Option<u64> {
        let array = Array::try_from(self.pointee(field)?.skip_mods_and_typedefs()).ok()?;
        Some(array.capacity() as u64)
    }

    pub fn ty(&self, field: &str) -> Option<BtfType<'a>> {
        self.pointee(field)
    }
}

/// The member of a struct or union.
pub fn member<'a>(btf: &'a Btf<'a>, of: BtfType<'a>, name: &str) -> Option<BtfType<'a>> {
    let of = Composite::try_from(of.skip_mods_and_typedefs()).ok()?;
    let member = (0..of.len()).filter_map(|i| of.get(i));
    let member = member.into_iter().find(|m| m.name.is_some_and(|known| known == name))?;
    btf.type_by_id(member.ty)
}

/// The names of an enum, in order, as long as they count up from 0.
pub fn enumerators(ty: BtfType<'_>) -> Option<Vec<String>> {
    let names = Enum::try_from(ty.skip_mods_and_typedefs()).ok()?;
    let all = (0..names.len()).filter_map(|i| names.get(i));
    Some(all.map(|member| member.name.unwrap_or_default().to_string_lossy().into_owned()).collect())
}

/// A type as a record. The error says what is wrong with it, in the terms of the C source.
pub fn shape(btf: &Btf<'_>, ty: BtfType<'_>, structs: &mut Structs) -> Result<Shape> {
    let ty = ty.skip_mods_and_typedefs();
    match ty.kind() {
        BtfKind::Int => {
            let int = Int::try_from(ty).map_err(|_| "not an integer")?;
            let signed = matches!(int.encoding, IntEncoding::Signed | IntEncoding::Char);
            Ok(match (int.encoding, int.bits, signed) {
                (IntEncoding::Bool, ..) => Shape::Bool,
                (_, 8, true) => Shape::Number("i8", 1),
                (_, 8, false) => Shape::Number("u8", 1),
                (_, 16, true) => Shape::Number("i16", 2),
                (_, 16, false) => Shape::Number("u16", 2),
                (_, 32, true) => Shape::Number("i32", 4),
                (_, 32, false) => Shape::Number("u32", 4),
                (_, 64, true) => Shape::Number("i64", 8),
                (_, 64, false) => Shape::Number("u64", 8),
                (_, bits, _) => return Err(format!("an integer of {bits} bits")),
            })
        }
        BtfKind::Enum => Ok(Shape::Number("u32", 4)),
        BtfKind::Array => {
            let array = Array::try_from(ty).map_err(|_| "not an array")?;
            let of = shape(btf, array.contained_type(), structs)?;
            Ok(Shape::Array(Box::new(of), array.capacity() as u64))
        }
        BtfKind::Struct => record(btf, ty, structs),
        BtfKind::Union => Err("a union, of which Rust cannot know the part that is meant".into()),
        BtfKind::Ptr => Err("a pointer, which means nothing in user space".into()),
        kind => Err(format!("a {kind:?}, which Rust cannot read")),
    }
}

fn record(btf: &Btf<'_>, ty: BtfType<'_>, structs: &mut Structs) -> Result<Shape> {
    let composite = Composite::try_from(ty).map_err(|_| "not a struct")?;
    let name = match ty.name() {
        Some(name) => name.to_string_lossy().into_owned(),
        None => format!("anonymous_{}", u32::from(ty.type_id())),
    };
    let size = size_of(&ty)?;
    let (mut fields, mut end, mut align) = (Vec::new(), 0, 1);
    for i in 0..composite.len() {
        let Some(member) = composite.get(i) else { continue };
        let field = member.name.unwrap_or_default().to_string_lossy().into_owned();
        let wrong = |what: String| format!("struct {name}: field `{field}` is {what}");
        let MemberAttr::Normal { offset } = member.attr else {
            return Err(wrong("a bit field; use whole bytes".into()));
        };
        let offset = u64::from(offset) / 8;
        let of = btf.type_by_id(member.ty).ok_or_else(|| wrong("of no type".into()))?;
        let of = shape(btf, of, structs).map_err(wrong)?;
        if of == Shape::Bool {
            return Err(wrong("a bool, which not every byte is; use __u8".into()));
        }
        if offset % of.align() != 0 {
            return Err(wrong(
                "not aligned (the struct is packed); order the fields by size".into(),
            ));
        }
        hole(&mut fields, end, offset);
        end = offset + of.size();
        align = align.max(of.align());
        fields.push((field, of));
    }
    hole(&mut fields, end, size);
    structs.entry(name.clone()).or_insert(Struct { size, fields });
    Ok(Shape::Struct(name, size, align))
}

fn hole(fields: &mut Vec<(String, Shape)>, from: u64, to: u64) {
    if to > from {
        let bytes = Shape::Array(Box::new(Shape::Number("u8", 1)), to - from);
        fields.push((format!("padding_at_{from}"), bytes));
    }
}

fn size_of(ty: &BtfType<'_>) -> Result<u64> {
    use libbpf_rs::btf::HasSize as _;
    use libbpf_rs::btf::types::Struct;
    let of = Struct::try_from(*ty).map_err(|_| "not a struct")?;
    Ok(of.size() as u64)
}
