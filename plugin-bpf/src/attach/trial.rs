//! Whether what is attached works.

/// What a tool found when it tried out its hooks.
#[derive(Debug)]
pub enum Trial {
    /// Nothing is wrong.
    Passed,
    /// The kernel attached this program, and does not do with it what it should.
    Failed(&'static str, String),
}
