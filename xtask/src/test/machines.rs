//! The tests that need a kernel, on the virtual kernels.

use super::executables::{Executable, Group};
use super::stage::Stage;
use crate::vm::{self, Folder, Image, Kernel, Machine};
use crate::{command, workspace};
use anyhow::{Context, Result};
use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

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
    two_at_a_time(&kernels, |kernel| run(kernel, &chosen, &image, &folder.0))
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
    let mut script = String::from("cd /tmp\n");
    for (index, executable) in chosen.iter().enumerate() {
        let name = workspace::file_name(&executable.path);
        // The kernel hands words of its command line that it does not know to the first process.
        writeln!(script, "if [ {index} -ge ${{{FIRST}:-0}} ]; then")?;
        writeln!(script, "echo '{BEGIN}{}'", executable.label)?;
        let arguments = executable.arguments().join(" ");
        writeln!(script, "/tests/{name} {arguments} </dev/null 2>&1")?;
        // The output's last line may lack its newline.
        writeln!(script, "code=$?; echo; echo \"{END}$code\"")?;
        writeln!(script, "fi")?;
    }
    let mut image = Image::new(&script)?;
    if chosen.iter().any(|executable| executable.group == Group::SystemVm) {
        image.install_tree()?;
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

/// Longer than all tests take in two machines at once.
const LIMIT: Duration = Duration::from_secs(30 * 60);
/// Longer than any test takes there.
const SILENCE: Duration = Duration::from_secs(6 * 60);
/// How often a machine may die of the emulator within one executable. What fails by itself fails each time.
const DEATHS: u32 = 5;

fn run(kernel: &Kernel, chosen: &[&Executable], image: &Path, folder: &Path) -> Stage {
    let mut stage = Stage::begin(&format!("virtual kernel {}", kernel.series));
    let mut next = 0;
    let mut deaths = 0;
    while next < chosen.len() {
        let first = next;
        let mut begun = false;
        let mut output = String::new();
        let append = format!("{FIRST}={first}");
        let (limit, silence) = (LIMIT, SILENCE);
        let machine = Machine { kernel, image, append: &append, folder, limit, silence };
        let result = machine.run(&mut |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            if text.starts_with(BEGIN) {
                begun = true;
                output.clear();
            } else if let Some(code) = text.strip_prefix(END) {
                let end = Some(format!("exit code {}", code.trim())).filter(|_| code.trim() != "0");
                if let Some(executable) = chosen.get(next) {
                    stage.tests(&executable.label, &output, end.as_deref());
                }
                (next, begun) = (next + 1, false);
            } else {
                output += &text;
            }
        });
        let Err(why) = result else { break };
        deaths = if next > first { 1 } else { deaths + 1 };
        let label = chosen.get(next).map_or("the end", |executable| &executable.label);
        if vm::is_emulators(&why) && deaths < DEATHS {
            eprintln!("kernel {}: the emulator died in {label}: again from there", kernel.series);
            continue;
        }
        let place = if begun { label } else { "between executables" };
        stage.tests(place, &format!("{output}\n{why:#}"), Some("no end"));
        next += usize::from(begun);
        break;
    }
    for executable in chosen.iter().skip(next) {
        stage.fail(&executable.label, "did not run");
    }
    stage.end()
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
