//! Connects, counted where they can be refused; those to listed destinations are denied.
//!
//! Hooks: security_socket_connect by lsm; to deny, else connect4 and connect6 by cgroup; else, to observe only,
//! sys_enter_connect by tp. To deny TCP Fast Open too, security_socket_sendmsg by lsm. Three mechanisms and the trial
//! of one make it longer than other tools.

use plugin_bpf::group::Cgroups;
use plugin_bpf::prelude::*;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

skeleton!(lsmconnect);

/// As the program numbers them.
const FAMILIES: [&str; 6] = ["ipv4", "ipv6", "unix", "unspec", "other", "invalid"];
/// Entries of the list, at most.
const ENTRIES: usize = 1024;

table! {
    /// Attempts to connect a socket, whatever becomes of them.
    lsmconnect {
        tags {
            /// Of the address. `ipv4` also where an IPv6 socket has it mapped; `unspec` disconnects; `invalid` is
            /// too short for its family.
            family,
            mode "`lsm` sees all attempts and can deny; `cgroup` sees and can deny those by IPv4 and IPv6; `tp` can deny none.",
        }
        allowed: counter "Attempts that the tool let pass.",
        denied: counter "Attempts that ended with EPERM, for the list has their destination.",
    }
}
table! {
    /// The entries of `deny` with most denied attempts.
    lsmconnect_rule {
        tags { rule "The entry; `other` is the sum of those beyond the first 20." }
        denied: counter "Attempts that it denied.",
    }
}
table! {
    /// What is not in the table lsmconnect.
    lsmconnect_lost {
        unread: counter "Attempts whose address could not be read.",
    }
}
options! {
    /// What `[plugin.lsmconnect]` takes.
    pub struct Options {
        /// Destinations that are denied, at most 1024; empty: all are allowed.
        deny: Vec<Destination> = Vec::new(),
        /// Only these processes, at most 16, by their ids in the initial namespace; empty: all.
        pid: Vec<u64> [1..=4_194_304] = Vec::new(),
        /// Only threads with these names, at most 8; empty: all.
        comm: Vec<String> = Vec::new(),
        /// Only this cgroup and those below it, such as `/system.slice`; empty: all.
        cgroup: String = String::new(),
    }
}

/// The tool.
pub struct Lsmconnect {
    deny: Vec<Destination>,
    cgroup: PathBuf,
    mode: &'static str,
    rules: Groups<u64>,
}

impl Tool for Lsmconnect {
    type Options = Options;
    type Object = skel::Object;

    /// Of programs of cgroups.
    const OPTION_CAPABILITIES: &'static [(&'static str, &'static str)] =
        &[("deny", "CAP_NET_ADMIN")];

    fn new(options: Options, setup: &mut Setup<skel::Object>) -> Result<Self> {
        let Options { deny, pid, comm, cgroup } = options;
        Destination::check(&deny, ENTRIES).context("deny")?;
        setup.filter(&Filter::of(&pid, &comm, &cgroup)?);
        setup.consts.deny = !deny.is_empty();
        setup.only_if(setup.consts.deny, skel::Map::listed);
        // Where none is mounted, attaching says so.
        let tree = Cgroups::find().unwrap_or_else(|_| Cgroups::at("/sys/fs/cgroup"));
        Ok(Self { cgroup: tree.folder(&cgroup), deny, mode: "", rules: Groups::default() })
    }

    fn hooks(&self) -> Hooks {
        let connect = |kind| Hook::of("connect").only(kind);
        let hooks = if self.deny.is_empty() {
            Hooks::all([connect("lsm")])
        } else {
            let target = || Target::Cgroup(self.cgroup.clone());
            let cgroup = ["connect4", "connect6"].map(|name| Hook::of(name).target(target()));
            Hooks::all([connect("lsm"), Hook::of("fastopen")]).or(cgroup)
        };
        hooks.or([connect("tp")]).without_others()
    }

    fn begin(&mut self, attached: &Attached, maps: &mut skel::Maps) -> Result<Trial> {
        let has = |name| attached.programs().iter().any(|program| program.name() == name);
        self.mode = match () {
            () if has("connect_lsm") => "lsm",
            () if has("connect4_cgroup") => "cgroup",
            () => "tp",
        };
        if let Some(listed) = maps.listed.take() {
            Destination::fill(&self.deny, listed).context("deny")?;
        }
        // Nobody is there; the hook is asked before that is known.
        let _ = UnixDatagram::unbound()?.connect("/");
        let skel::counts { runs, .. } = maps.counts.take_now();
        maps.attempts.skip();
        maps.denials.skip();
        if self.mode == "lsm" && runs == 0 {
            let reason = "this kernel never asks it: its list of security modules (/sys/kernel/security/lsm) \
                          lacks `bpf`; boot with `lsm=..,bpf`";
            return Ok(Trial::Failed("connect_lsm", reason.to_owned()));
        }
        if self.mode == "tp" && !self.deny.is_empty() {
            log::warn!(
                "deny: nothing can be denied here, attempts are only counted; collector_program has the reasons"
            );
        }
        Ok(Trial::Passed)
    }

    fn rows(&mut self, _: &Tick, maps: &mut skel::Maps, lines: &mut Lines) -> Result<()> {
        // The programs of cgroups are asked for IPv4 and IPv6 only.
        let seen = if self.mode == "cgroup" { 2 } else { FAMILIES.len() };
        for (i, family) in FAMILIES.into_iter().enumerate().take(seen) {
            let [allowed, denied] = [0, 1].map(|verdict| maps.attempts.take(2 * i + verdict));
            let (family, mode) = (family.into(), self.mode.into());
            lines.push(lsmconnect::Row { family, mode, allowed, denied })?;
        }
        if !self.deny.is_empty() {
            let denials = self.deny.iter().zip(0..);
            let denials = denials.map(|(rule, i)| (rule.to_string(), maps.denials.take(i)));
            for (rule, denied) in self.rules.rows(denials, |denied| *denied) {
                lines.push(lsmconnect_rule::Row { rule, denied })?;
            }
        }
        let skel::counts { unread, .. } = maps.counts.take();
        lines.push(lsmconnect_lost::Row { unread })
    }
}

export_tool!(Lsmconnect: lsmconnect, lsmconnect_rule, lsmconnect_lost);
