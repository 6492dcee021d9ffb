//! How an object is loaded: which programs, with which settings.

use super::Settings;
use crate::exact::CutKind;
use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;

/// The terms of one load.
pub(crate) struct Terms<'a> {
    /// The programs; no other is loaded.
    pub(crate) programs: &'a BTreeSet<&'static str>,
    pub(crate) settings: &'a Settings,
    pub(crate) cut: CutKind,
    /// The cut of the plugin's first object, for the others.
    pub(crate) cells: Option<BorrowedFd<'a>>,
    /// An empty BTF stands in for the kernel's.
    pub(crate) without_btf: bool,
}
