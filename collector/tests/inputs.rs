//! What the collector reads and did not write, from any bytes. The fuzz targets of the same names go on where this ends.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::cell::Cell;

/// Runs a property, which says whether the input was of use; both kinds have to come.
fn from_any_bytes(cases: u32, property: fn(&[u8]) -> bool) {
    let useful = Cell::new(0);
    // A failure is printed as a case of its own, so no file of seeds is kept.
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let result = TestRunner::new(config).run(&vec(any::<u8>(), 0..400), |bytes| {
        useful.set(useful.get() + u32::from(property(&bytes)));
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
    let useful = useful.get();
    println!("{useful} of {cases}");
    assert!((cases / 20..cases).contains(&useful), "one-sided: {useful} of {cases}");
}

#[test]
fn a_configuration_is_read_or_its_faults_have_places() {
    from_any_bytes(10_000, inputs::config);
}

#[test]
fn a_description_is_none_or_its_tables_take_rows() {
    from_any_bytes(10_000, inputs::description);
}

#[test]
fn a_file_is_a_library_or_is_called_what_it_is() {
    from_any_bytes(3_000, inputs::elf);
}

#[test]
fn an_answer_keeps_to_the_lines_that_were_sent() {
    from_any_bytes(10_000, inputs::answer);
}

#[test]
fn lines_of_a_c_plugin_are_lines_or_counted() {
    from_any_bytes(10_000, inputs::c_lines);
}
