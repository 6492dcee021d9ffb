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
    let one = |kernel: &Kernel| {
        run(kernel, &chosen, &image, &folder.0).unwrap_or_else(|Misread| {
            eprintln!(
                "kernel {}: the emulator did not survive a patched instruction: again",
                kernel.series
            );
            run(kernel, &chosen, &image, &folder.0).unwrap_or_else(|Misread| {
                let mut stage = Stage::begin(&format!("virtual kernel {}", kernel.series));
                stage.fail("the machine", "it died or stood still, twice");
                stage.end()
            })
        })
    };
    two_at_a_time(&kernels, one)
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
    for executable in chosen {
        let name = workspace::file_name(&executable.path);
        writeln!(script, "echo '{BEGIN}{}'", executable.label)?;
        let arguments = executable.arguments().join(" ");
        writeln!(script, "/tests/{name} {arguments} </dev/null 2>&1")?;
        // The output's last line may lack its newline.
        writeln!(script, "code=$?; echo; echo \"{END}$code\"")?;
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

/// The emulator did not survive that the guest's kernel patched its own code. Either the guest died of an int3
/// that was taken out again: the emulator ran what was no longer there. Or both CPUs stood still until the
/// limit (5.10, when many tracepoints come and go). That says nothing about the tests, the first time.
struct Misread;

/// Longer than all tests take in two machines at once.
const LIMIT: Duration = Duration::from_secs(12 * 60);

fn run(
    kernel: &Kernel,
    chosen: &[&Executable],
    image: &Path,
    folder: &Path,
) -> std::result::Result<Stage, Misread> {
    let mut stage = Stage::begin(&format!("virtual kernel {}", kernel.series));
    let mut waiting = chosen.iter();
    let mut current = None;
    let mut output = String::new();
    let mut line = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        if text.starts_with(BEGIN) {
            current = waiting.next();
            output.clear();
        } else if let Some(code) = text.strip_prefix(END) {
            let end = Some(format!("exit code {}", code.trim())).filter(|_| code.trim() != "0");
            if let Some(executable) = current.take() {
                stage.tests(&executable.label, &output, end.as_deref());
            }
        } else {
            output += &text;
        }
    };
    let machine = Machine { kernel, image, append: "", folder, limit: LIMIT };
    let result = machine.run(&mut line);
    if let Err(why) = result {
        let text = format!("{why:#}");
        if text.contains("int3: 0000 [#") || text.contains("not done after") {
            return Err(Misread);
        }
        let executable = current.map_or("between executables", |e| &e.label);
        stage.tests(executable, &format!("{output}\n{why:#}"), Some("no end"));
    }
    for executable in waiting {
        stage.fail(&executable.label, "did not run");
    }
    Ok(stage.end())
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
