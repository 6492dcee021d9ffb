//! What the spool promises: that lines survive the collector's end, a full disk and a broken one.

#[path = "system_spool/damage.rs"]
mod damage;
#[path = "system_spool/disk.rs"]
mod disk;
#[path = "system_spool/kills.rs"]
mod kills;
#[path = "system_spool/records.rs"]
mod records;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use system_tests::Stored;
use system_tests::arrived::numbers_by_run;
use system_tests::contract::{Contract, V2};
use system_tests::faults::{Mode, Proxy};
use system_tests::running::Home;

/// Series of every load here.
const SERIES: u64 = 10;

/// A server, out of reach at first, and what stands in a configuration to write to it.
struct Server {
    contract: Contract,
    proxy: Proxy,
}

impl Server {
    fn out_of_reach() -> Self {
        let contract = Contract::v2(V2::default());
        let proxy = Proxy::tcp(contract.address());
        proxy.set(Mode::Closed);
        Self { contract, proxy }
    }

    /// The section of an output with a spool; `more` are further keys.
    fn output(&self, home: &Home, spool: &Path, more: &str) -> String {
        let V2 { org, bucket, token, .. } = V2::default();
        let token_file = home.path("token");
        fs::write(&token_file, token).expect("a file for the token");
        fs::set_permissions(&token_file, fs::Permissions::from_mode(0o600)).expect("its mode");
        format!(
            "[[output]]\nkind = \"influxdb2\"\nurl = \"{}\"\norg = \"{org}\"\n\
             bucket = \"{bucket}\"\ntoken_file = \"{}\"\nbatch_time = \"10ms\"\nspool = \"{}\"\n{more}\n",
            self.proxy.url(),
            token_file.display(),
            spool.display()
        )
    }

    /// How many lines of the load arrived.
    fn count(&self) -> u64 {
        self.contract.numbers("stream", "value").len() as u64
    }

    /// The numbers of a run's lines that arrived, each of which is checked.
    fn has(&self, run: &str) -> Vec<u64> {
        let mut runs = numbers_by_run(&self.contract.lines("stream"), SERIES);
        runs.remove(run).unwrap_or_default().into_iter().collect()
    }
}

/// The section of the load, with further keys.
fn load(home: &Home, run: &str, more: &str) -> String {
    let progress = home.path(&format!("progress-{run}"));
    format!(
        "[plugin.stream]\nseries = {SERIES}\nrun = \"{run}\"\nprogress = \"{}\"\n{more}\n",
        progress.display()
    )
}

/// The number of the last line that a run has pushed.
fn pushed(home: &Home, run: &str) -> u64 {
    let progress = fs::read_to_string(home.path(&format!("progress-{run}"))).unwrap_or_default();
    progress.parse().unwrap_or(0)
}
