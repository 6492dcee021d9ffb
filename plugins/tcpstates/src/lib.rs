//! States of TCP sockets: transitions, and time in each state.
//!
//! Hooks: inet_sock_set_state and tcp_destroy_sock, by tp_btf, else raw_tp, else tp. Three filters, and the names
//! of states, make it longer than other tools.

use plugin_bpf::{kernel_at_least, prelude::*};
use std::collections::BTreeMap;

skeleton!(tcpstates);

/// Ports of each list that can be chosen (`PORTS` in the program).
const PORTS: usize = 16;
/// As include/net/tcp_states.h numbers them, from 1.
const STATES: [&str; 12] = [
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "NEW_SYN_RECV",
];

table! {
    /// Transitions of sockets from one state to another; a line for each that was.
    tcpstates {
        tags {
            family "`ipv4` or `ipv6`; IPv4 by a socket of IPv6 is `ipv4`.",
            from "The state that they left, such as `SYN_SENT`.",
            to "The state that they entered.",
        }
        transitions: counter "Transitions, with and without a known time.",
        older: counter "Of these: of sockets that were in the state already when the tool attached.",
        time: histogram(us) "Time in the state that they left; first transitions of sockets have none.",
    }
}
table! {
    /// What is in no line of the table above, or without a time.
    tcpstates_lost {
        unended: counter "Sockets that are gone, and their way to CLOSE was not seen.",
        dropped: counter "Sockets that found no room: their next transition is `older`.",
        dropped_cells: counter "Transitions that found no room in the kernel's map of histograms.",
    }
}
choice! {
    /// Which sockets.
    pub enum Family {
        /// Both.
        Any = "",
        /// IPv4, by whichever kind of socket.
        Ipv4 = "ipv4",
        /// IPv6.
        Ipv6 = "ipv6",
    }
}
options! {
    /// What `[plugin.tcpstates]` takes.
    pub struct Options {
        /// Only connections of this family; empty: both.
        family: Family = Family::Any,
        /// Only sockets with these ports on this host, at most 16; empty: all.
        local_port: Vec<u64> [1..=65_535] = Vec::new(),
        /// Only sockets with these ports at the other end, at most 16; empty: all.
        remote_port: Vec<u64> [1..=65_535] = Vec::new(),
        /// Room for so many sockets at a time; 0: 16384, or 2048 before Linux 6.1, which takes the memory at once.
        sockets: u64 [0..=4_194_304] = 0,
    }
}

/// The tool.
pub struct Tcpstates;

impl Tool for Tcpstates {
    type Options = Options;
    type Object = skel::Object;

    fn new(options: Options, setup: &mut Setup<skel::Object>) -> Result<Self> {
        let consts = &mut setup.consts;
        consts.family = options.family as u32;
        (consts.local_ports, consts.local_port) = ports("local_port", &options.local_port)?;
        (consts.remote_ports, consts.remote_port) = ports("remote_port", &options.remote_port)?;
        let is_old = !kernel_at_least(6, 1);
        let sockets = match options.sockets {
            0 if is_old => 2_048,
            0 => 16_384,
            sockets => sockets as u32,
        };
        setup.entries(skel::Map::sockets, sockets);
        setup.entries(skel::Map::durations, if is_old { 1_024 } else { 2_048 });
        Ok(Self)
    }

    fn rows(&mut self, _: &Tick, maps: &mut skel::Maps, lines: &mut Lines) -> Result<()> {
        // Measured ones, first ones, older ones.
        let mut rows = BTreeMap::<_, [Snapshot; 3]>::new();
        for (change, time) in maps.durations.take() {
            let row = rows.entry((change.family, change.from, change.to)).or_default();
            row[usize::from(change.age)] = time;
        }
        for ((family, from, to), [time, first, older]) in rows {
            let older = older.count();
            lines.push(tcpstates::Row {
                family: net::FAMILIES[usize::from(family)].into(),
                from: state(from),
                to: state(to),
                transitions: time.count() + first.count() + older,
                older,
                time,
            })?;
        }
        let Lost { twice, died, full, busy, .. } = maps.sockets.lost();
        let (unended, dropped) = (twice + died, full + busy);
        let dropped_cells = maps.durations.lost().events();
        lines.push(tcpstates_lost::Row { unended, dropped, dropped_cells })
    }
}

fn ports(option: &str, list: &[u64]) -> Result<(u32, [u16; PORTS])> {
    ensure!(list.len() <= PORTS, "{option}: {} ports, at most {PORTS} can be chosen", list.len());
    let mut ports = [0; PORTS];
    ports.iter_mut().zip(list).for_each(|(to, port)| *to = *port as u16);
    Ok((list.len() as u32, ports))
}

/// A state's name, as `ss` and the kernel have it.
fn state(number: u8) -> Text {
    let name = STATES.get(usize::from(number).wrapping_sub(1));
    name.map_or_else(|| number.to_string().into(), |name| (*name).into())
}

export_tool!(Tcpstates: tcpstates, tcpstates_lost);
