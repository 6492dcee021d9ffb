//! `docs`: the book of all manuals, and a check that each link leads somewhere.

mod anchors;
mod book;
mod html;
pub mod links;
mod pages;
pub mod paths;

use crate::test::{Stage, summary};
use crate::workspace;
use anyhow::{Result, bail};
use std::process::ExitCode;

/// Builds target/book and checks all links; prints where the book begins.
pub fn verb() -> Result<ExitCode> {
    let stages = [stage()];
    let code = summary(&stages);
    if stages.iter().all(Stage::is_good) {
        println!("{}", book::folder().join("index.html").display());
    }
    Ok(code)
}

/// What `cargo xtask test` runs.
pub fn stage() -> Stage {
    let mut stage = Stage::begin("book");
    stage.check("links of all .md files", links_lead_somewhere());
    if stage.check("mdBook", book::build()).is_some() {
        stage.check("links of the book", none(html::broken(&book::folder())));
    }
    stage.end()
}

fn links_lead_somewhere() -> Result<()> {
    let mut broken = Vec::new();
    for page in pages::markdown(workspace::root())? {
        broken.extend(links::broken(workspace::root(), &page)?);
    }
    none(Ok(broken))
}

/// Fails with the list, unless it is empty.
fn none(broken: Result<Vec<String>>) -> Result<()> {
    let broken = broken?;
    if broken.is_empty() {
        return Ok(());
    }
    bail!("{} broken links:\n{}", broken.len(), broken.join("\n"))
}
