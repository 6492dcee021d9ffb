//! The tests that need a kernel, on the virtual kernels.

use super::executables::{Executable, Group};
use super::stage::Stage;
use crate::vm::{self, Folder, Image, Kernel, Machine};
use crate::{command, workspace};
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// Boots each kernel of a series, or of `all`, once, two at a time, with all executables packed.
pub fn stages(executables: &[Executable], series: &str) -> Vec<Stage> {
    let chosen: Vec<_> =
        executables.iter().filter(|e| matches!(e.group, Group::Kernel | Group::SystemVm)).collect();
    if chosen.is_empty() {
        return Vec::new();
    }
    let prepare = || {
        let folder = Folder::new()?;
        let image = folder.0.join("initramfs");
        pack(&chosen, &folder.0)?.write(&image)?;
        anyhow::Ok((vm::kernels(series)?, folder, image))
    };
    let (kernels, folder, image) = match prepare() {
        Ok(prepared) => prepared,
        Err(why) => {
            let mut stage = Stage::begin("virtual kernels");
            stage.fail("getting kernels and packing the tests", &format!("{why:#}"));
            return vec![stage.end()];
        }
    };
    let last = kernels.len().saturating_sub(1);
    let kernels: Vec<_> = kernels.iter().enumerate().collect();
    two_at_a_time(&kernels, |(at, kernel)| {
        let between = *at > 0 && *at < last;
        Run { kernel, between, chosen: &chosen, image: &image, folder: &folder.0 }.stage()
    })
}

/// What `work` makes of each item, in their order. Whoever is done takes the next item.
fn two_at_a_time<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let take = || {
        let mut done = Vec::new();
        while let Some(at) = Some(next.fetch_add(1, Relaxed)).filter(|at| *at < items.len()) {
            done.push((at, work(&items[at])));
        }
        done
    };
    let mut done = thread::scope(|scope| {
        let other = scope.spawn(take);
        let mut done = take();
        done.extend(other.join().expect("a stage does not panic"));
        done
    });
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

/// The image with the executables, without the debug sections that would fill the guest's memory.
fn pack(chosen: &[&Executable], folder: &Path) -> Result<Image> {
    // The kernel hands words of its command line that it does not know to the first process.
    let mut script = String::from("cd /tmp\n");
    writeln!(script, "[ -z \"${BETWEEN}\" ] || export COLLECTOR_BETWEEN=${BETWEEN}")?;
    for (index, executable) in chosen.iter().enumerate() {
        let name = workspace::file_name(&executable.path);
        writeln!(script, "if [ {index} -ge ${{{FIRST}:-0}} ]; then")?;
        writeln!(script, "echo '{BEGIN}{}'", executable.label)?;
        let arguments = executable.arguments().join(" ");
        writeln!(script, "/tests/{name} {arguments} ${{{ONLY}:+--exact ${ONLY}}} </dev/null 2>&1")?;
        // The output's last line may lack its newline.
        writeln!(script, "code=$?; echo; echo \"{END}$code\"")?;
        writeln!(script, "[ -z \"${ONLY}\" ] || {FIRST}=1000")?;
        writeln!(script, "fi")?;
    }
    let mut image = Image::new(&script)?;
    if chosen.iter().any(|executable| executable.group == Group::SystemVm) {
        image.install_tree()?;
    }
    for file in chosen.iter().flat_map(|executable| executable.files()).collect::<BTreeSet<_>>() {
        image.file(&file, &file.to_string_lossy())?;
    }
    for executable in chosen {
        let name = workspace::file_name(&executable.path);
        let small = folder.join(&name);
        let mut strip = Command::new("strip");
        command::run(strip.arg("--strip-debug").arg("-o").arg(&small).arg(&executable.path))?;
        image.file(&small, &format!("/tests/{name}"))?;
        std::fs::remove_file(&small).context("removing a stripped test")?;
    }
    Ok(image)
}

const BEGIN: &str = "\u{2}begin ";
const END: &str = "\u{2}end ";

/// The number of the first executable that a machine runs.
const FIRST: &str = "first_test";
/// The only test that it runs, of its first executable.
const ONLY: &str = "only_test";
/// Set where tests that take long are left to other kernels.
const BETWEEN: &str = "between";

/// Longer than all tests take in two machines at once.
const LIMIT: Duration = Duration::from_secs(30 * 60);
/// Longer than any test takes there.
const SILENCE: Duration = Duration::from_secs(150);
/// How often a machine may die of the emulator within one executable. What fails by itself fails each time.
const DEATHS: u32 = 4;

/// All executables on one kernel.
struct Run<'a> {
    kernel: &'a Kernel,
    /// An older and a newer kernel have the tests that take long.
    between: bool,
    chosen: &'a [&'a Executable],
    image: &'a Path,
    folder: &'a Path,
}

impl Run<'_> {
    /// Boots the machine again where the emulator dies, with the executables that have not ended.
    fn stage(&self) -> Stage {
        let mut stage = Stage::begin(&format!("virtual kernel {}", self.kernel.series));
        let mut watch = Watch::default();
        let mut next = 0;
        let mut deaths = 0;
        while next < self.chosen.len() {
            let first = next;
            let result = self.boot(&mut stage, &mut next, &mut watch);
            let Err(why) = result else { break };
            deaths = if next > first { 1 } else { deaths + 1 };
            let label = self.chosen.get(next).map_or("the end", |executable| &executable.label);
            if vm::is_emulators(&why) && deaths < DEATHS {
                let series = self.kernel.series;
                eprintln!(
                    "kernel {series}: the emulator died in {label}: again from there: {why:#}"
                );
                continue;
            }
            let place = if watch.begun.is_some() { label } else { "between executables" };
            stage.tests(place, &format!("{}\n{why:#}", watch.output), Some("no end"));
            next += usize::from(watch.begun.is_some());
            break;
        }
        for executable in self.chosen.iter().skip(next) {
            stage.fail(&executable.label, "did not run");
        }
        for (index, test) in std::mem::take(&mut watch.failed) {
            self.again(&mut stage, index, &test);
        }
        stage.tell_long(watch.took);
        stage.end()
    }

    /// Runs a test that has failed once more, alone in a machine of its own.
    fn again(&self, stage: &mut Stage, index: usize, test: &str) {
        let mut watch = Watch::default();
        let label = &self.chosen[index].label;
        let append = format!("{FIRST}={index} {ONLY}={test}");
        let ran = self.machine(&append, &mut |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            if let Some(code) = text.strip_prefix(END) {
                stage.again(label, test, &watch.output, bad_end(code).as_deref());
            } else {
                watch.hears(&text);
            }
        });
        if let Err(why) = ran {
            eprintln!("{label}: {test}: no second run: {why:#}");
        }
    }

    /// Boots the machine with some words for its first process, and hands each line to `hear`.
    fn machine(&self, append: &str, hear: &mut dyn FnMut(&[u8])) -> Result<()> {
        let between = if self.between { format!(" {BETWEEN}=1") } else { String::new() };
        let append = format!("{append}{between}");
        let Self { kernel, image, folder, .. } = self;
        let (limit, silence) = (LIMIT, SILENCE);
        let machine = Machine { kernel, image, append: &append, folder, limit, silence };
        machine.run(hear)?;
        Ok(())
    }

    fn boot(&self, stage: &mut Stage, next: &mut usize, watch: &mut Watch) -> Result<()> {
        (watch.begun, watch.output) = (None, String::new());
        self.machine(&format!("{FIRST}={next}"), &mut |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            if let Some(label) = text.strip_prefix(BEGIN) {
                watch.begins(label.trim_end());
            } else if let Some(code) = text.strip_prefix(END) {
                if let Some(executable) = self.chosen.get(*next) {
                    let end = bad_end(code);
                    let failed = stage.tests(&executable.label, &watch.output, end.as_deref());
                    watch.failed.extend(failed.into_iter().map(|test| (*next, test)));
                }
                *next += 1;
                watch.ends();
            } else {
                watch.hears(&text);
            }
        })
    }
}

/// How an executable ended, when it did not end well.
fn bad_end(code: &str) -> Option<String> {
    Some(format!("exit code {}", code.trim())).filter(|_| code.trim() != "0")
}

/// What a machine prints, and how long what took.
#[derive(Default)]
struct Watch {
    /// The executable that runs, and since when.
    begun: Option<(String, Instant)>,
    output: String,
    /// When the last test's line came.
    test: Option<Instant>,
    /// Executables, and their tests.
    took: Vec<(Duration, String)>,
    /// The tests that failed, with the numbers of their executables.
    failed: Vec<(usize, String)>,
}

impl Watch {
    fn begins(&mut self, label: &str) {
        let now = Instant::now();
        self.begun = Some((label.to_owned(), now));
        self.test = Some(now);
        self.output.clear();
    }

    fn hears(&mut self, text: &str) {
        if let (Some(rest), Some((label, _)), Some(test)) =
            (text.strip_prefix("test "), &self.begun, &mut self.test)
        {
            let name = rest.split_once(" ... ").map_or(rest, |(name, _)| name);
            let took = test.elapsed();
            *test += took;
            self.took.push((took, format!("{label}: {name}")));
        }
        self.output += text;
    }

    fn ends(&mut self) {
        if let Some((label, began)) = self.begun.take() {
            self.took.push((began.elapsed(), label));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::two_at_a_time;

    #[test]
    fn results_are_in_the_order_of_the_items_whoever_is_done_first() {
        let slow_first = |n: &u64| {
            std::thread::sleep(std::time::Duration::from_millis(20 / (n + 1)));
            n * n
        };
        assert_eq!(two_at_a_time(&[0, 1, 2, 3, 4], slow_first), [0, 1, 4, 9, 16]);
        assert_eq!(two_at_a_time(&[7], slow_first), [49]);
        assert_eq!(two_at_a_time(&[], slow_first), [0; 0]);
    }
}
