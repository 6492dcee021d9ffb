//! The files of a package, where the file system hierarchy wants them.

use crate::build;
use crate::docs::{links, paths};
use crate::{command, sdk, workspace};
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where an installed collector has its plugins, and what authors of C plugins need.
const HOME: &str = "usr/lib/collector";
/// What is there to be copied or pointed at.
const SHARE: &str = "usr/share/collector";
const DOC: &str = "usr/share/doc/collector";
/// The configuration, which belongs to who installed it.
pub const CONFIGURATION: &str = "etc/collector/collector.toml";
const UNIT: &str = "usr/lib/systemd/system/collector.service";
/// Folders of etc/ that are shared as they are.
const PARTS: [&str; 7] =
    ["container", "drop-ins", "fleet", "grafana", "helm", "kubernetes", "telegraf"];

/// Lays the files below `root`, all with modes that do not depend on who built them.
pub fn lay(root: &Path, folder: &Path) -> Result<()> {
    let dist = workspace::dist();
    let tree = Tree { root };
    tree.file(&dist.join("collector"), "usr/bin/collector")?;
    for part in ["plugins", "include", "lib", "share"] {
        tree.folder(&dist.join(part), &format!("{HOME}/{part}"))?;
    }
    let etc = workspace::root().join("etc");
    let read = |name: &str| {
        let path = etc.join(name);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    };
    let bpfso = sdk::bpfso_mk(&read("bpfso.mk")?, &Path::new("/").join(HOME));
    tree.text(&bpfso, &format!("{HOME}/etc/bpfso.mk"))?;
    tree.text(&read("package/collector.toml")?, CONFIGURATION)?;
    tree.text(&read("collector.toml")?, &format!("{SHARE}/collector.toml"))?;
    tree.text(&read("collector.service")?, UNIT)?;
    tree.text(&read("collector.sysusers.conf")?, "usr/lib/sysusers.d/collector.conf")?;
    dashboards(&tree)?;
    pages(&tree, &folder.join("pages"))?;
    documents(&tree)?;
    for library in workspace::files(&root.join(HOME).join("plugins"))? {
        strip(&library)?;
    }
    strip(&root.join(HOME).join("lib/libbpf.a"))?;
    close(root)
}

/// The overview and a page for each tool, beside the files by which Grafana finds them.
fn dashboards(tree: &Tree) -> Result<()> {
    let dist = workspace::dist();
    let plugins = workspace::plugins()?;
    for language in ["influxql", "flux", "sql", "metricsql", "promql"] {
        for name in [None].into_iter().chain(plugins.iter().map(Some)) {
            let mut collector = Command::new(dist.join("collector"));
            collector.arg("--plugins").arg(dist.join("plugins"));
            collector.args(["--log", "error", "dashboard", "--for", language]).args(name);
            let json = command::output(&mut collector)?;
            let file = name.map_or("collector", String::as_str);
            tree.text(&json, &format!("{SHARE}/grafana/dashboards/{language}/{file}.json"))?;
        }
    }
    Ok(())
}

/// Manual pages and completions.
fn pages(tree: &Tree, folder: &Path) -> Result<()> {
    command::run(Command::new(build::pages()?).arg(folder))?;
    let places = [
        ("completions/collector.bash", "usr/share/bash-completion/completions/collector"),
        ("completions/collector.fish", "usr/share/fish/vendor_completions.d/collector.fish"),
        ("completions/_collector", "usr/share/zsh/site-functions/_collector"),
    ];
    for (page, place) in places {
        tree.file(&folder.join(page), place)?;
    }
    let pages = workspace::files(&folder.join("man1"))?;
    // Without the name and the time of the file, which differ.
    command::run(Command::new("gzip").args(["-9", "-n"]).args(&pages))?;
    tree.folder(&folder.join("man1"), "usr/share/man/man1")
}

/// Where a file or a folder of the repository is once it is installed, of those that pages name; none if it is not.
fn installed(path: &Path) -> Option<PathBuf> {
    match path.to_str()?.split('/').collect::<Vec<_>>()[..] {
        ["README.md" | "CHANGELOG.md" | "SECURITY.md"]
        | ["docs", ..]
        | ["plugins", _]
        | ["plugins", _, "README.md"] => Some(Path::new(DOC).join(path)),
        ["etc", "collector.service"] => Some(UNIT.into()),
        ["etc", part, ..] if part == "collector.toml" || PARTS.contains(&part) => {
            Some(Path::new(SHARE).join(path.strip_prefix("etc").ok()?))
        }
        _ => None,
    }
}

/// What a link of a page is once both are installed. None where it leads to what is not: the words stay.
fn destination(page: &Path, place: &Path, to: &str) -> Option<String> {
    if links::is_external(to) || to.starts_with('#') {
        return Some(to.to_owned());
    }
    let file = to.split('#').next()?;
    let there = installed(&paths::resolve(page.parent()?, file)?)?;
    Some(paths::relative(place.parent()?, &there) + &to[file.len()..])
}

/// README, the manuals and the shared files of etc/.
fn documents(tree: &Tree) -> Result<()> {
    let root = workspace::root();
    for name in ["README.md", "CHANGELOG.md", "SECURITY.md"] {
        tree.page(Path::new(name))?;
    }
    tree.part(Path::new("docs"))?;
    PARTS.iter().try_for_each(|part| tree.part(&Path::new("etc").join(part)))?;
    for plugin in workspace::list(&root.join("plugins"))? {
        if plugin.join("README.md").exists() {
            tree.page(&plugin.strip_prefix(root)?.join("README.md"))?;
        }
    }
    let mut copyright = String::from(
        "The collector and its plugins: MIT or Apache-2.0, as you like. BPF programs: MIT or GPL-2.0.\n\
         libbpf, which is part of each plugin: LGPL-2.1 or BSD-2-Clause.\n",
    );
    for name in ["LICENSE-MIT", "LICENSE-APACHE"] {
        let text =
            fs::read_to_string(root.join(name)).with_context(|| format!("reading {name}"))?;
        copyright += &format!("\n{text}");
    }
    tree.text(&copyright, &format!("{DOC}/copyright"))
}

/// Takes out what is for debuggers: it names the folders of the build.
fn strip(file: &Path) -> Result<()> {
    let mut strip = Command::new("strip");
    command::run(strip.args(["--strip-debug", "--enable-deterministic-archives"]).arg(file))
}

/// The modes of folders, and of files that were not laid by hand.
fn close(path: &Path) -> Result<()> {
    if !path.is_dir() {
        return Ok(());
    }
    workspace::list(path)?.iter().try_for_each(|entry| close(entry))?;
    mode(path, 0o755)
}

fn mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("setting the mode of {}", path.display()))
}

fn place_of(file: &Path) -> Result<String> {
    let place = installed(file).with_context(|| format!("{} has no place", file.display()))?;
    Ok(place.to_string_lossy().into_owned())
}

struct Tree<'a> {
    root: &'a Path,
}

impl Tree<'_> {
    /// A copy of a file; programs and scripts stay such.
    fn file(&self, source: &Path, place: &str) -> Result<()> {
        let target = self.place(place)?;
        fs::copy(source, &target)
            .with_context(|| format!("copying {} to {}", source.display(), target.display()))?;
        let runs = fs::metadata(&target)?.permissions().mode() & 0o100 != 0;
        let library = place.ends_with(".so");
        mode(&target, if runs && !library { 0o755 } else { 0o644 })
    }

    /// Copies of all files of a folder.
    fn folder(&self, source: &Path, place: &str) -> Result<()> {
        for file in workspace::files(source)? {
            let below = file.strip_prefix(source)?.display();
            self.file(&file, &format!("{place}/{below}"))?;
        }
        Ok(())
    }

    /// A folder of the repository, whose pages keep their links.
    fn part(&self, folder: &Path) -> Result<()> {
        for source in workspace::files(&workspace::root().join(folder))? {
            let file = source.strip_prefix(workspace::root())?;
            if file.extension().is_some_and(|extension| extension == "md") {
                self.page(file)?;
            } else {
                self.file(&source, &place_of(file)?)?;
            }
        }
        Ok(())
    }

    /// A page of the repository, with links to where its targets are installed.
    fn page(&self, page: &Path) -> Result<()> {
        let source = workspace::root().join(page);
        let text =
            fs::read_to_string(&source).with_context(|| format!("reading {}", source.display()))?;
        let place = place_of(page)?;
        let text = links::rewritten(&text, |to| destination(page, Path::new(&place), to));
        self.text(&text, &place)
    }

    fn text(&self, text: &str, place: &str) -> Result<()> {
        let target = self.place(place)?;
        fs::write(&target, text).with_context(|| format!("writing {}", target.display()))?;
        mode(&target, 0o644)
    }

    fn place(&self, place: &str) -> Result<PathBuf> {
        let target = self.root.join(place);
        let parent = target.parent().unwrap_or(self.root);
        fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
        Ok(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_installed_pages_lead_to_installed_files() {
        let root = std::env::temp_dir().join(format!("documents-{}", std::process::id()));
        let tree = Tree { root: &root };
        documents(&tree).unwrap();
        let etc = workspace::root().join("etc");
        tree.file(&etc.join("collector.toml"), &format!("{SHARE}/collector.toml")).unwrap();
        tree.file(&etc.join("collector.service"), UNIT).unwrap();
        let fleet = fs::read_to_string(root.join(SHARE).join("fleet/README.md")).unwrap();
        assert!(fleet.contains("(../../doc/collector/docs/fleet.md)"), "{fleet}");
        let (mut pages, mut broken) = (0, Vec::new());
        for file in workspace::files(&root).unwrap() {
            if file.extension().is_some_and(|extension| extension == "md") {
                broken.extend(links::broken(&root, file.strip_prefix(&root).unwrap()).unwrap());
                pages += 1;
            }
        }
        assert!(pages > 20 && broken.is_empty(), "{broken:#?}");
        fs::remove_dir_all(root).unwrap();
    }
}
