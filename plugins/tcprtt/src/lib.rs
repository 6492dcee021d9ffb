//! Round-trip times of TCP connections, as TCP smooths them.
//!
//! Hooks: tcp_probe, and for `changes` tcp_destroy_sock, by tp_btf, else raw_tp, else tp (which needs no BTF of the
//! kernel). Four tables make it longer than other tools.

use plugin_bpf::prelude::*;
use skel::types::group;

skeleton!(tcprtt);
by!(By: LocalPort, RemotePort, LocalPrefix, RemotePrefix);

/// Bits of an address that are its network's, by IPv4 and by IPv6, as in the program.
const BITS: (u32, u32) = (24, 48);
/// Ports of a list, at most.
const PORTS: usize = 16;

table! {
    /// Round-trip times, smoothed, at each segment that an established connection receives.
    tcprtt {
        tags { family "`ipv4` or `ipv6`: how the connection's packets go, whatever the socket's kind." }
        rtt: histogram(us) "The values since the last tick.",
    }
}
table! {
    /// The same by port; with `by = "local_port"` or `"remote_port"`.
    tcprtt_port {
        tags {
            side "Whose port: `local` or `remote`.",
            port "The port; `other` is the sum of those beyond the 20 with most values.",
        }
        rtt: histogram(us) "The values since the last tick.",
    }
}
table! {
    /// The same by network; with `by = "local_prefix"` or `"remote_prefix"`.
    tcprtt_prefix {
        tags {
            side "Whose network: `local` or `remote`.",
            prefix "24 bits of IPv4, 48 of IPv6; `other` is the sum of those beyond the 20 with most values.",
        }
        rtt: histogram(us) "The values since the last tick.",
    }
}
table! {
    /// Segments that are in no table above, or not in all.
    tcprtt_lost {
        unmeasured: counter "Segments of connections of which TCP has measured no round trip yet.",
        unchanged: counter "Segments of connections whose value was counted already; with `changes = true`.",
        dropped: counter "Segments of connections that found no room in the kernel's map; with `changes = true`.",
        dropped_groups: counter "Segments in no row of tcprtt_port or tcprtt_prefix: no room for another group.",
    }
}
options! {
    /// What `[plugin.tcprtt]` takes.
    pub struct Options {
        /// `local_port` or `remote_port` adds the table tcprtt_port, `local_prefix` or `remote_prefix` the table
        /// tcprtt_prefix.
        by: By = By::Nothing,
        /// Counts a connection's value only when it is another one than at the segment before.
        changes: bool = false,
        /// Only connections with these ports of this host's end, at most 16; empty: all.
        local_port: Vec<u64> [1..=65_535] = Vec::new(),
        /// Only connections with these ports of the other end, at most 16; empty: all.
        remote_port: Vec<u64> [1..=65_535] = Vec::new(),
    }
}

/// The tool.
pub struct Tcprtt {
    by: By,
    changes: bool,
    groups: Groups<Snapshot>,
}

impl Tool for Tcprtt {
    type Options = Options;
    type Object = skel::Object;

    fn new(options: Options, setup: &mut Setup<skel::Object>) -> Result<Self> {
        let Options { by, changes, local_port, remote_port } = options;
        let consts = &mut setup.consts;
        (consts.by, consts.changes) = (by as u32, changes);
        consts.local_ports = ports("local_port", &local_port)?;
        consts.remote_ports = ports("remote_port", &remote_port)?;
        setup.only_if(by != By::Nothing, skel::Map::groups);
        setup.only_if(changes, skel::Map::values);
        Ok(Self { by, changes, groups: Groups::default() })
    }

    fn hooks(&self) -> Hooks {
        // The record knows a connection by its cookie, and the others by its address in memory.
        let destroy = |kind| Hook::of("destroy").only(kind).only_if(self.changes);
        let way = |kind| [destroy(kind), Hook::of("tcp_rcv").only(kind)];
        Hooks::all(way("btf")).or(way("raw")).or(way("tp"))
    }

    fn rows(&mut self, _: &Tick, maps: &mut skel::Maps, lines: &mut Lines) -> Result<()> {
        for (i, family) in net::FAMILIES.into_iter().enumerate() {
            lines.push(tcprtt::Row { family: family.into(), rtt: maps.rtts.take(i) })?;
        }
        let by = self.by;
        if by != By::Nothing {
            let named = maps.groups.take().into_iter().map(|(group, rtt)| (name(by, &group), rtt));
            for (name, rtt) in self.groups.rows(named, Snapshot::count) {
                let local = matches!(by, By::LocalPort | By::LocalPrefix);
                let side = if local { "local" } else { "remote" }.into();
                match by {
                    By::LocalPrefix | By::RemotePrefix => {
                        lines.push(tcprtt_prefix::Row { side, prefix: name, rtt })?;
                    }
                    _ => lines.push(tcprtt_port::Row { side, port: name, rtt })?,
                }
            }
        }
        let skel::counts { unmeasured, unchanged, dropped } = maps.counts.take();
        let dropped_groups = maps.groups.lost().events();
        lines.push(tcprtt_lost::Row { unmeasured, unchanged, dropped, dropped_groups })
    }
}

fn name(by: By, group: &group) -> String {
    match by {
        By::LocalPrefix | By::RemotePrefix => net::prefix(group.ip.word, BITS.0, BITS.1),
        _ => group.port.to_string(),
    }
}

/// As the program has them.
fn ports(option: &str, ports: &[u64]) -> Result<[u16; PORTS]> {
    ensure!(ports.len() <= PORTS, "{option}: {} ports, at most {PORTS} can be chosen", ports.len());
    let mut list = [0; PORTS];
    list.iter_mut().zip(ports).for_each(|(place, port)| *place = *port as u16);
    Ok(list)
}

export_tool!(Tcprtt: tcprtt, tcprtt_port, tcprtt_prefix, tcprtt_lost);
