//! A tool by each of the mechanisms that it knows.

use crate::Harness;
use plugin_api::Plugin;

/// Starts a tool by one mechanism after the other, and hands over those that work here; prints why the others
/// do not. `only` is `plugin_bpf::only_kind`.
///
/// ```ignore
/// for (kind, mut tool) in ways::<Running<Runqlat>>(only_kind, &["btf", "raw", "tp"], "{}") {
///     let lines = tool.call()?;
/// }
/// ```
///
/// # Panics
/// At the end, when not even one worked.
pub fn ways<P: Plugin>(
    only: fn(&'static str),
    kinds: &'static [&'static str],
    options: &'static str,
) -> impl Iterator<Item = (&'static str, Harness<P>)> {
    let mut worked = 0;
    let mut kinds = kinds.iter();
    std::iter::from_fn(move || {
        for kind in kinds.by_ref() {
            only(kind);
            match Harness::init(options) {
                Ok(tool) => {
                    worked += 1;
                    println!("by {kind}");
                    return Some((*kind, tool));
                }
                Err(error) => println!("not by {kind}: {error:#}"),
            }
        }
        assert!(worked > 0, "no way works here");
        None
    })
}
