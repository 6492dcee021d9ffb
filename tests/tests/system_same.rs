//! Each receiver has the counts of the file, through a restart of the collector. `cargo xtask bench same` is the same
//! for ten minutes.

use std::time::Duration;
use system_tests::same::{Plan, run};

#[test]
fn every_receiver_has_the_counts_of_the_file_through_a_restart() {
    let plan = Plan {
        interval: Duration::from_millis(500),
        scrape: Duration::from_millis(500),
        time: Duration::from_secs(14),
    };
    println!("TABLE: {}", run(plan));
}
