//! A plugin that counts stacks with names that are hard to write down. For the collector's tests.
use plugin_api::prelude::*;

table! {
    /// The stacks that were met most.
    stacks_stack {
        tags {
            /// A stack's hash.
            stack,
        }
        /// How often.
        samples: counter,
        /// Its frames.
        folded: text [optional],
    }
}
options! {
    /// What `[plugin.stacks]` takes.
    pub struct Options {
        /// Stacks with a line of their own.
        stacks: u64 [0..=100_000] = 4,
        /// The name of the first function; without one nothing is left for `other`.
        root: String = "main".to_owned(),
    }
}

struct Stacks(Options);

/// Names of functions and threads, with the samples in them.
const INNER: [(&str, u64); 4] = [
    ("std::map<int, char&>::find(int)", 30),
    ("worker 7", 20),
    ("two\nlines", 15),
    ("std::map<int, char&>::find(int)", 5),
];

impl Plugin for Stacks {
    type Options = Options;

    fn init(options: Options) -> Result<Self> {
        Ok(Self(options))
    }

    fn call(&mut self, _: &Tick, lines: &mut Lines) -> Result<()> {
        let Options { stacks, root } = &self.0;
        let mut rest = if root.is_empty() { 0 } else { 100 };
        let many = (INNER.len() as u64..).map(|i| (format!("f{i}"), 1));
        let inner = INNER.iter().map(|(name, n)| ((*name).to_owned(), *n)).chain(many);
        for (i, (name, samples)) in (0..*stacks).zip(inner) {
            let folded = Some(format!("{root};{name}").into());
            lines.push(stacks_stack::Row { stack: format!("{i:x}").into(), samples, folded })?;
            rest = u64::saturating_sub(rest, samples);
        }
        lines.push(stacks_stack::Row { stack: "other".into(), samples: rest, folded: None })
    }
}

export_plugin!(Stacks: stacks_stack);
