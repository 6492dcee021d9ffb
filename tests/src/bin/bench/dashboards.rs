//! Each query of each panel of `collector dashboard`, on databases with an hour of lines in them: all answer with rows, or
//! it ends with an error.

use anyhow::{Context as _, Result};
use std::time::Duration;
use system_tests::dashboards::{Back, Plan, run as ask};

const SECONDS: usize = 3600;
/// The collector's default.
const INTERVAL: Duration = Duration::from_secs(10);

/// For an hour, or the seconds behind the word `dashboards`.
pub fn run() -> Result<()> {
    let argument = std::env::args().skip_while(|word| word != "dashboards").nth(1);
    let seconds = match argument {
        Some(text) => {
            text.parse().with_context(|| format!("`dashboards {text}`: how many seconds?"))?
        }
        None => SECONDS,
    };
    println!(
        "{}",
        ask(Plan { interval: INTERVAL, ticks: seconds.div_ceil(10), back: Back::Grafana })
    );
    Ok(())
}
