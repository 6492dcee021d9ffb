//! Commands and queries in the READMEs and docs/: each block of them says who runs it, in a comment before it.
//!
//! - `<!-- runs -->`: tests/tests/system_documents.rs runs it as it is, the blocks of a page one after another in
//!   one shell. `<!-- runs, prints: WORDS -->`: and WORDS are in what it prints.
//! - `<!-- run by NAME -->`: tests/tests/NAME.rs, with its folder, or the script tests/NAME.sh: it names the page, or
//!   has each line.
//! - `<!-- not run here: WHY -->`.

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};
use std::fs;
use std::path::{Path, PathBuf};

/// Languages whose blocks are commands.
const COMMANDS: [&str; 4] = ["sh", "shell", "console", "bash"];
/// Languages whose blocks are queries.
const QUERIES: [&str; 5] = ["influxql", "flux", "sql", "metricsql", "promql"];
/// How a line of a command begins, to find those that stand in other blocks.
const PROGRAMS: [&str; 12] = [
    "apt",
    "apt-get",
    "cargo",
    "collector",
    "curl",
    "dnf",
    "make",
    "promtool",
    "sysctl",
    "systemctl",
    "tar",
    "target/dist/collector",
];

/// A block of code in a page.
#[derive(Debug)]
pub struct Block {
    /// Relative to the repository.
    pub page: PathBuf,
    pub line: usize,
    pub language: String,
    pub text: String,
    /// The comment right before it, without its marks.
    pub comment: Option<String>,
}

/// Who runs a block.
#[derive(Debug, PartialEq, Eq)]
pub enum Run<'a> {
    Here { prints: Option<&'a str> },
    By(&'a str),
    Nowhere { why: &'a str },
}

/// The repository.
///
/// # Panics
/// Never: this crate lies in it.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

/// The README, those of the plugins, and the pages of docs/.
///
/// # Panics
/// They cannot be read.
#[must_use]
pub fn pages() -> Vec<PathBuf> {
    let in_folder = |folder: &str| {
        let entries = fs::read_dir(root().join(folder)).expect("a folder");
        let paths = entries.map(|entry| Path::new(folder).join(entry.expect("one").file_name()));
        paths.collect::<Vec<PathBuf>>()
    };
    let mut pages = in_folder("docs");
    pages.extend(in_folder("plugins").into_iter().map(|plugin| plugin.join("README.md")));
    pages.push("README.md".into());
    pages.retain(|page| {
        page.extension().is_some_and(|extension| extension == "md") && root().join(page).exists()
    });
    pages.sort();
    pages
}

/// All blocks of a page.
///
/// # Panics
/// It cannot be read.
#[must_use]
pub fn blocks(page: &Path) -> Vec<Block> {
    let text = fs::read_to_string(root().join(page)).expect("a page");
    blocks_of(page, &text)
}

fn blocks_of(page: &Path, text: &str) -> Vec<Block> {
    let (mut blocks, mut comment, mut open) = (Vec::new(), None, None::<Block>);
    let parser = Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter();
    for (event, range) in parser {
        match event {
            Event::Start(Tag::CodeBlock(kind)) => {
                let language = match &kind {
                    CodeBlockKind::Fenced(info) => {
                        info.split([' ', ',']).next().unwrap_or_default()
                    }
                    CodeBlockKind::Indented => "",
                };
                open = Some(Block {
                    page: page.to_owned(),
                    line: text[..range.start].matches('\n').count() + 1,
                    language: language.to_owned(),
                    text: String::new(),
                    comment: comment.take(),
                });
            }
            Event::Text(words) => match &mut open {
                Some(block) => block.text.push_str(&words),
                None => comment = None,
            },
            Event::End(TagEnd::CodeBlock) => blocks.extend(open.take()),
            Event::Html(html) => {
                let inside = html.trim().strip_prefix("<!--").and_then(|h| h.strip_suffix("-->"));
                comment = inside.map(|words| words.trim().to_owned());
            }
            _ => {}
        }
    }
    blocks
}

impl Block {
    /// `docs/lines.md:12`.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}:{}", self.page.display(), self.line)
    }

    /// Whether it has to say who runs it.
    #[must_use]
    pub fn is_to_be_run(&self) -> bool {
        let language = self.language.as_str();
        COMMANDS.contains(&language) || QUERIES.contains(&language)
    }

    /// Lines that are neither empty nor comments; without `$` and without a comment behind them.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        let lines = self.text.lines().map(|line| {
            let line = line.trim().strip_prefix("$ ").unwrap_or(line.trim());
            line.split("  #").next().unwrap_or_default().trim()
        });
        lines.filter(|line| !line.is_empty() && !line.starts_with('#') && !line.starts_with("--"))
    }

    /// Who runs it.
    ///
    /// # Errors
    /// It does not say so, or in other words.
    pub fn run(&self) -> Result<Run<'_>, String> {
        let place = self.place();
        let Some(comment) = &self.comment else {
            return Err(format!(
                "{place}: nothing says who runs this block (tests/src/documents.rs)"
            ));
        };
        let rest =
            |begin: &str| comment.strip_prefix(begin).map(str::trim).filter(|s| !s.is_empty());
        if comment == "runs" {
            Ok(Run::Here { prints: None })
        } else if let Some(words) = rest("runs, prints:") {
            Ok(Run::Here { prints: Some(words) })
        } else if let Some(name) = rest("run by ") {
            Ok(Run::By(name))
        } else if let Some(why) = rest("not run here:") {
            Ok(Run::Nowhere { why })
        } else {
            Err(format!("{place}: `{comment}` does not say who runs this block"))
        }
    }

    /// What is wrong with what it says.
    #[must_use]
    pub fn wrong(&self) -> Option<String> {
        if !self.is_to_be_run() {
            // Columns of a table have more than one space between them.
            let is_command = |line: &&str| {
                let mut words = line.trim().split(' ');
                PROGRAMS.contains(&words.next().unwrap_or_default()) && words.next() != Some("")
            };
            let command = self.text.lines().find(is_command)?;
            // What they print, what they are called by, and what others run.
            let is_other = ["describe", "text", "toml", "yaml", "ini", "c", "rust"];
            let is_other = is_other.contains(&self.language.as_str());
            let why =
                format!("{}: `{command}` is a command: put it into a block ```sh", self.place());
            return (!is_other).then_some(why);
        }
        match self.run() {
            Ok(Run::By(name)) => self.wrong_test(name),
            Ok(_) => None,
            Err(why) => Some(why),
        }
    }

    fn wrong_test(&self, name: &str) -> Option<String> {
        let source = source(name);
        if source.is_empty() {
            return Some(format!("{}: there is no test {name}", self.place()));
        }
        let page = self.page.file_name().expect("a name").to_string_lossy();
        if source.contains(&*page) {
            return None;
        }
        let line = self.lines().find(|line| !source.contains(line))?;
        Some(format!("{}: {name} does not have the line `{line}`", self.place()))
    }
}

/// The text of a test of the whole, or of a script.
fn source(name: &str) -> String {
    let tests = root().join("tests");
    let mut files = vec![tests.join(format!("{name}.sh")), tests.join(format!("tests/{name}.rs"))];
    let folder = fs::read_dir(tests.join("tests").join(name)).into_iter().flatten();
    files.extend(folder.map(|entry| entry.expect("a file").path()));
    files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> Vec<String> {
        let blocks = blocks_of(Path::new("docs/x.md"), text);
        blocks.iter().filter_map(Block::wrong).collect()
    }

    #[test]
    fn a_block_says_who_runs_it() {
        let text =
            "# X\n\n<!-- runs, prints: a b -->\n```sh\n# comment\necho a b   # shows it\n```\n";
        let blocks = blocks_of(Path::new("docs/x.md"), text);
        assert_eq!(blocks[0].run(), Ok(Run::Here { prints: Some("a b") }));
        assert_eq!(blocks[0].lines().collect::<Vec<_>>(), ["echo a b"]);
        assert_eq!(blocks[0].place(), "docs/x.md:4");
        assert_eq!(wrong(text), [""; 0]);
        assert_eq!(wrong("<!-- not run here: because -->\n```flux\nx\n```\n"), [""; 0]);
        assert_eq!(wrong("<!-- run by system_documents -->\n```sh\nunshare\n```\n").len(), 1);
        assert_eq!(wrong("<!-- run by first_hour -->\n```sh\nset -euo pipefail\n```\n"), [""; 0]);
    }

    #[test]
    fn a_block_that_does_not_is_found() {
        for text in [
            "```sh\nls\n```\n",
            "<!-- runs -->\nwords\n\n```promql\nup\n```\n",
            "<!-- not run here: -->\n```sh\nls\n```\n",
            "<!-- run by system_nobody -->\n```sh\nls\n```\n",
            "<!-- walks -->\n```console\n$ ls\n```\n",
            "Indented:\n\n    cargo xtask test\n",
            "```\ncollector --http 127.0.0.1:9435\n```\n",
        ] {
            assert_eq!(wrong(text).len(), 1, "{text}");
        }
        for text in ["runqlat,host=box count=61i", "collector  19 of 20 running"] {
            assert_eq!(wrong(&format!("What is printed:\n\n    {text}\n")), [""; 0], "{text}");
        }
    }
}
