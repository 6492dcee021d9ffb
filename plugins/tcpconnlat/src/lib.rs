//! TCP connects: how long they take, and how they fail.
//!
//! Hooks: inet_sock_set_state, tcp_receive_reset and tcp_destroy_sock, by tp_btf, else raw_tp, else tp; for the
//! passive side inet_accept by fexit, else the ends of the system calls accept and accept4.
//! A table for each of the four groupings, and the passive side, make it longer than other tools.

use plugin_bpf::group::Cgroups;
use plugin_bpf::{kernel_at_least, prelude::*};
use skel::types::{connects, group};

skeleton!(tcpconnlat);
by!(By: Comm, Cgroup, RemotePort, RemotePrefix);

/// As the program numbers them; behind these come the two of the passive side.
const RESULTS: [&str; 8] =
    ["connected", "refused", "timed_out", "reset", "aborted", "unreachable", "local", "unknown"];
const KINDS: usize = RESULTS.len() + 2;

table! {
    /// Connects that succeeded; a line for each family.
    tcpconnlat {
        tags { family "`ipv4` or `ipv6`; IPv4 by a socket of IPv6 is `ipv4`." }
        latency: histogram(us) "From the SYN until the connection was established.",
        slow: counter "Of these: took at least `min`.",
        failed: counter "Connects that failed, in tcpconnlat_failed.",
    }
}
table! {
    /// Connects that failed, by how; a line for each that was.
    tcpconnlat_failed {
        tags {
            family "`ipv4` or `ipv6`.",
            /// `refused`; `timed_out`; `reset`, after the other end had sent a SYN; `aborted`: closed or broken off on
            /// this side; `unreachable`, as routers said; `local`: connect() itself failed, as without a free port;
            /// `unknown`, without the kernel's BTF: one of these, but neither `refused` nor `reset`.
            result
        }
        duration: histogram(us) "From the SYN until the connect failed.",
    }
}
macro_rules! by_tables {
    ($($doc:literal $table:ident: $tag:ident $text:literal)+) => { $(table! {
        #[doc = $doc]
        $table {
            tags { $tag $text }
            connected: counter "Connects that succeeded.",
            failed: counter "Connects that failed.",
            slow: counter "Of those that succeeded: took at least `min`.",
            sum_us: counter(us) "Sum of the times of all.",
        }
    })+ };
}
by_tables! {
    " The threads that connected most, by name; with `by = \"comm\"`."
    tcpconnlat_comm: comm "The name of the thread that called connect(); `other` is the sum beyond the first 20."
    " The cgroups that connected most; with `by = \"cgroup\"`."
    tcpconnlat_cgroup: cgroup "Its path in cgroup2; `other` is the sum beyond the first 20."
    " The ports that were connected to most; with `by = \"remote_port\"`."
    tcpconnlat_remote_port: remote_port "The other end's port; `other` is the sum beyond the first 20."
    " The networks that were connected to most; with `by = \"remote_prefix\"`."
    tcpconnlat_remote_prefix: remote_prefix "Such as `192.0.2.0/24`; `other` is the sum beyond the first 20."
}
table! {
    /// Connections that were accepted; with `passive = true`, two lines for each family.
    tcpconnlat_accept {
        tags {
            family "`ipv4` or `ipv6`.",
            /// `syn`: from the first SYN, of those whose handshake the kernel measured; `established`: from the
            /// handshake's end, of all.
            from
        }
        latency: histogram(us) "Until accept() returned.",
    }
}
table! {
    /// What is in no line of the tables above.
    tcpconnlat_lost {
        unmatched: counter "Ends whose begin was not seen: under way when the tool attached.",
        unended: counter "Begins whose end was not seen.",
        dropped: counter "Connects that found no room at their begin; their ends are unmatched.",
        dropped_cells: counter "Durations that found no room in the kernel's map of histograms.",
        dropped_names: counter "Connects in no row of the table of `by`: no room for another name.",
        accept_unmatched: counter "Accepts of connections that were established before the tool attached.",
        accept_unended: counter "Connections that were closed before anybody accepted them.",
        accept_dropped: counter "Connections that found no room while they waited for accept().",
    }
}
options! {
    /// What `[plugin.tcpconnlat]` takes.
    pub struct Options {
        /// `comm`, `cgroup`, `remote_port` or `remote_prefix` adds the table tcpconnlat_comm and so on.
        by: By = By::Nothing,
        /// Bits of an address of IPv4 that `remote_prefix` tells apart.
        ipv4_prefix: u64 [0..=32] = 24,
        /// Bits of an address of IPv6 that `remote_prefix` tells apart.
        ipv6_prefix: u64 [0..=128] = 48,
        /// Connects that take at least so long are slow. A lost SYN costs a second.
        min: Duration [..=Duration::from_secs(1 << 32)] = Duration::from_millis(900),
        /// Also measures connections that are accepted here.
        passive: bool = false,
        /// Room for so many connects at a time; 0: 8192, or 2048 before Linux 6.1, which takes the memory at once.
        connects: u64 [0..=4_194_304] = 0,
        /// Only these processes, at most 16, by their ids in the initial namespace; empty: all.
        pid: Vec<u64> [1..=4_194_304] = Vec::new(),
        /// Only threads with these names, at most 8; empty: all.
        comm: Vec<String> = Vec::new(),
        /// Only this cgroup and those below it, such as `/system.slice`; empty: all.
        cgroup: String = String::new(),
    }
}

/// The tool.
pub struct Tcpconnlat {
    options: Options,
    names: Groups<connects>,
    cgroups: Option<Cgroups>,
}

impl Tool for Tcpconnlat {
    type Options = Options;
    type Object = skel::Object;

    fn new(options: Options, setup: &mut Setup<skel::Object>) -> Result<Self> {
        setup.filter(&Filter::of(&options.pid, &options.comm, &options.cgroup)?);
        setup.consts.by = options.by as u32;
        setup.consts.ipv4_prefix = options.ipv4_prefix as u32;
        setup.consts.ipv6_prefix = options.ipv6_prefix as u32;
        setup.consts.min_ns = options.min.as_nanos() as u64;
        setup.consts.passive = options.passive;
        setup.only_if(options.by != By::Nothing, skel::Map::groups);
        setup.only_if(options.passive, skel::Map::waiting);
        let connects = match options.connects {
            0 if kernel_at_least(6, 1) => 8_192,
            0 => 2_048,
            connects => connects as u32,
        };
        setup.entries(skel::Map::begun, connects);
        setup.entries(skel::Map::waiting, connects);
        let cgroups = (options.by == By::Cgroup).then(Cgroups::find).transpose()?;
        let names = Groups::<connects>::default().divide(|sums| &mut sums.sum_ns, 1000);
        Ok(Self { options, names, cgroups })
    }

    fn hooks(&self) -> Hooks {
        let with = |accept: &[&'static str]| -> Vec<Hook> {
            accept.iter().chain(&["reset", "destroy", "state"]).map(|name| Hook::of(name)).collect()
        };
        let hooks = match self.options.passive {
            true => Hooks::all(with(&["accept"])).or(with(&["accept_call", "accept4_call"])),
            false => Hooks::all(with(&[])),
        };
        hooks.without_others()
    }

    fn rows(&mut self, _: &Tick, maps: &mut skel::Maps, lines: &mut Lines) -> Result<()> {
        let mut kinds: [Snapshot; 2 * KINDS] = std::array::from_fn(|_| Snapshot::default());
        for (kind, times) in maps.durations.take() {
            kinds[kind as usize] = times;
        }
        for (i, (kinds, family)) in kinds.chunks_mut(KINDS).zip(net::FAMILIES).enumerate() {
            let mut kinds = kinds.iter_mut().map(std::mem::take);
            let (latency, slow) = (kinds.next().unwrap_or_default(), maps.slow.take(i));
            let failures: Vec<_> = kinds.by_ref().take(RESULTS.len() - 1).collect();
            let failed = failures.iter().map(Snapshot::count).sum();
            lines.push(tcpconnlat::Row { family: family.into(), latency, slow, failed })?;
            for (duration, result) in failures.into_iter().zip(&RESULTS[1..]) {
                if duration.count() > 0 {
                    let (family, result) = (family.into(), (*result).into());
                    lines.push(tcpconnlat_failed::Row { family, result, duration })?;
                }
            }
            if self.options.passive {
                for (latency, from) in kinds.zip(["syn", "established"]) {
                    let (family, from) = (family.into(), from.into());
                    lines.push(tcpconnlat_accept::Row { family, from, latency })?;
                }
            }
        }
        if self.options.by != By::Nothing {
            self.named(maps.groups.take(), lines)?;
        }
        let (connects, accepts) = (maps.begun.lost(), maps.waiting.lost());
        lines.push(tcpconnlat_lost::Row {
            unmatched: connects.unmatched,
            unended: connects.twice + connects.died,
            dropped: connects.events(),
            dropped_cells: maps.durations.lost().events(),
            dropped_names: maps.groups.lost().events(),
            accept_unmatched: accepts.unmatched,
            accept_unended: accepts.twice + accepts.died,
            accept_dropped: accepts.events(),
        })
    }
}

impl Tcpconnlat {
    fn named(&mut self, groups: Vec<(group, connects)>, lines: &mut Lines) -> Result<()> {
        let Self { options, names, cgroups } = self;
        cgroups.iter_mut().for_each(Cgroups::refresh);
        let named: Vec<_> =
            groups.iter().map(|(g, sums)| (name(options, cgroups, &g.name), *sums)).collect();
        for (name, sums) in names.rows(named, |sums| sums.connected + sums.failed) {
            let connects { connected, failed, slow, sum_ns: sum_us } = sums;
            macro_rules! push {
                ($table:ident, $tag:ident) => {
                    lines.push($table::Row { $tag: name, connected, failed, slow, sum_us })?
                };
            }
            match options.by {
                By::Cgroup => push!(tcpconnlat_cgroup, cgroup),
                By::RemotePort => push!(tcpconnlat_remote_port, remote_port),
                By::RemotePrefix => push!(tcpconnlat_remote_prefix, remote_prefix),
                _ => push!(tcpconnlat_comm, comm),
            }
        }
        Ok(())
    }
}

/// What a row is named by.
fn name(options: &Options, cgroups: &mut Option<Cgroups>, group: &[i8; 16]) -> String {
    let bytes = group.map(|c| c as u8);
    let number: u64 = plugin_bpf::from_bytes(&bytes);
    match (options.by, cgroups) {
        (By::Cgroup, Some(cgroups)) => cgroups.text(number),
        (By::RemotePort, _) => number.to_string(),
        (By::RemotePrefix, _) => {
            let (v4, v6) = (options.ipv4_prefix as u32, options.ipv6_prefix as u32);
            net::prefix(plugin_bpf::from_bytes(&bytes), v4, v6)
        }
        _ => text(group),
    }
}

export_tool!(
    Tcpconnlat: tcpconnlat, tcpconnlat_failed, tcpconnlat_comm, tcpconnlat_cgroup, tcpconnlat_remote_port,
    tcpconnlat_remote_prefix, tcpconnlat_accept, tcpconnlat_lost
);
