//! `test`: all that CI checks, or one plugin.

mod checks;
mod dependencies;
mod executables;
mod libtest;
mod machines;
mod matrix;
mod rights;
mod stage;
mod todo;

use crate::deps::{self, Need};
use crate::{build, charts, dist, docs, engines, root, servers, verify, workspace};
use anyhow::Result;
use executables::Group;
pub use stage::{Stage, summary};
use std::process::ExitCode;

/// All stages; only a failed build ends the run early.
pub fn everything() -> Result<ExitCode> {
    deps::ensure(Need::Test)?;
    deps::mount_filesystems();
    let mut stages = vec![checks::format(), checks::lint(), checks::written(&all_plugins()?)];
    stages.push(dependencies::stage());

    let mut stage = Stage::begin("build");
    let tree = stage.check("install tree", build::everything());
    let executables = stage.check("test executables", executables::compile(&["--workspace"]));
    stages.push(stage.end());
    let (Some(()), Some(executables)) = (tree, executables) else {
        return Ok(summary(&stages));
    };

    stages.push(docs::stage());
    stages.push(executables::live("unit tests", &executables, &[Group::Unit]));
    stages.push(executables::doc());
    stages.push(executables::live(&live_kernel(), &executables, &[Group::Kernel]));
    stages.extend(machines::stages(&executables, "all"));
    stages.push(verify::stage(&stages));
    let mut stage = Stage::begin("servers");
    stage.check("InfluxDB, VictoriaMetrics and Prometheus", servers::fetch());
    stage.check("Grafana's types, DataFusion and the compiler of Flux", engines::fetch());
    stages.push(stage.end());
    let mut stage = Stage::begin("packages");
    stage.check("two packings are equal", dist::twice());
    stage.check("a Debian root", root::fetch());
    stage.check("Helm and Kubernetes' schemas", charts::fetch());
    stages.push(stage.end());
    stages.push(executables::live("whole system", &executables, &[Group::System, Group::SystemVm]));
    Ok(summary(&stages))
}

/// In Rust and in C.
fn all_plugins() -> Result<Vec<String>> {
    Ok([workspace::plugins()?, workspace::c_plugins()?].concat())
}

/// One plugin: on this machine's kernel, on a virtual one, or on `all` of them.
pub fn one_plugin(name: &str, kernel: Option<&str>) -> Result<ExitCode> {
    let in_c = workspace::is_c_plugin(name)?;
    deps::ensure(Need::Test)?;
    if in_c {
        let mut stages = vec![checks::c_plugin(name), checks::written(&[name.to_owned()])];
        let mut stage = Stage::begin("build");
        stage.check("install tree", build::everything());
        stages.push(stage.end());
        return Ok(summary(&stages));
    }
    deps::mount_filesystems();
    let mut stages = vec![checks::plugin(name), checks::written(&[name.to_owned()])];
    let mut stage = Stage::begin("build");
    let executables = stage.check("test executables", executables::compile(&["--package", name]));
    stages.push(stage.end());
    if let Some(executables) = executables {
        if kernel.is_none_or(|kernel| kernel == "all") {
            stages.push(executables::live(&live_kernel(), &executables, &[Group::Kernel]));
        }
        stages.extend(kernel.into_iter().flat_map(|kernel| machines::stages(&executables, kernel)));
    }
    Ok(summary(&stages))
}

/// One test of the libraries of all plugins, on the live kernel and on the virtual ones.
pub fn of_plugins(test: &'static str) -> Result<Vec<Stage>> {
    deps::ensure(Need::Test)?;
    deps::mount_filesystems();
    let plugins = workspace::plugins()?;
    let mut packages = vec!["--lib"];
    packages.extend(plugins.iter().flat_map(|plugin| ["--package", plugin]));
    let mut executables = executables::compile(&packages)?;
    executables.iter_mut().for_each(|executable| executable.only = Some(test));
    let mut stages = vec![executables::live(&live_kernel(), &executables, &[Group::Kernel])];
    stages.extend(machines::stages(&executables, "all"));
    Ok(stages)
}

/// Heading of what runs on this machine's kernel: `live kernel 6.18.44`.
fn live_kernel() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("live kernel {}", release.split('-').next().unwrap_or_default().trim())
}
