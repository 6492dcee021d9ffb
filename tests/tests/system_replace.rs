//! A plugin is replaced under load, by its file and by its configuration. `cargo xtask bench replace` does it a thousand
//! times.

use system_tests::replace::{What, replace};

const TIMES: u64 = 20;

#[test]
fn events_are_in_one_line_each_while_a_plugin_is_replaced_and_the_other_one_does_not_notice() {
    for (what, isolated) in [(What::File, false), (What::File, true), (What::Configuration, false)]
    {
        let replaced = replace(TIMES, what, isolated);
        println!("{what:?}, isolated {isolated}: {replaced:?}");
        // A machine may stand still for 2 s.
        assert!(replaced.missed <= 20, "{replaced:?}");
    }
}
