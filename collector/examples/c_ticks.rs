//! Calls C plugins as fast as it can, for memory checkers: `c_ticks TICKS:FILE...`. Prints for each what malloc had given
//! out after a tenth of the ticks and after all. For the collector's tests.

use collector::encode::Tags;
use collector::form::Form;
use collector::load;
use collector::sink::{Limits, Reports, Terms};
use plugin_api::Tick;
use std::path::Path;
use std::time::Duration;

const INTERVAL: Duration = Duration::from_secs(1);

fn main() {
    log::set_max_level(log::LevelFilter::Warn);
    for argument in std::env::args().skip(1) {
        let (ticks, file) = argument.split_once(':').expect("TICKS:FILE");
        let ticks: u64 = ticks.parse().expect("a number of ticks");
        let plugin = load::load_here(Path::new(file)).unwrap_or_else(|why| panic!("{file}: {why}"));
        let terms = Terms {
            plugin: plugin.description.name.clone(),
            tables: plugin.tables(),
            forms: vec![Form::default()],
            reports: Reports::Full,
            tags: Tags::new(),
            uint: false,
            limits: Limits { series: 1 << 20, ..Limits::DEFAULT },
            log: |_, _, text| eprintln!("{text}"),
        };
        let name = &plugin.description.name;
        let mut instance = plugin.instance(terms, "{}".to_owned(), INTERVAL);
        if let Err(why) = instance.start() {
            println!("{name}: {why}");
            continue;
        }
        let (mut rows, mut before) = (0, 0);
        for seq in 0..ticks {
            let time_ns = 1_700_000_000_000_000_000 + seq as i64 * 1_000_000_000;
            rows += instance
                .call(&Tick { seq, time_ns, elapsed_ns: INTERVAL.as_nanos() as u64 })
                .closed
                .rows;
            if seq == ticks / 10 {
                before = given_out();
            }
        }
        let after = given_out();
        instance.end().result.expect("deinit");
        println!("{name}: {rows} rows, {before} bytes before, {after} after");
    }
}

fn given_out() -> usize {
    // SAFETY: takes no pointer.
    let info = unsafe { libc::mallinfo2() };
    info.uordblks + info.hblkhd
}
