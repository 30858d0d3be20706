//! The quick subset of the conformance suite, as `cargo test` runs it.

use openclip_core::Precision;
use openclip_zoo::build::Families;
use xtask::conformance::{Options, cases, check, columns, largest_change};

#[test]
fn quick_subset_equals_the_reference() {
    let families = Families::default();
    let (columns, _) = columns(|_, _| true);
    assert!(!columns.is_empty(), "nothing can run");
    let cases = cases(&Options::default()).unwrap();
    assert!(cases.len() > 80, "only {} references found", cases.len());
    let failures: Vec<String> = cases
        .iter()
        .flat_map(|case| check(case, &families, &columns))
        .flatten()
        .filter(|line| !line.passes())
        .map(|line| format!("{} {} on {:?}: {:?}", line.case, line.tower, line.options, line.outcome))
        .collect();
    assert!(failures.is_empty(), "{} towers differ:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn work_that_is_left_out_changes_nothing() {
    let families = Families::default();
    let made = Options { filter: Some("made-".to_owned()), ..Options::default() };
    let (columns, _) = columns(|_, precision| precision == Precision::F32);
    let mut failures = Vec::new();
    for case in cases(&made).unwrap() {
        for column in &columns {
            let change = largest_change(&case, &families, &column.options).unwrap();
            if change > 1e-6 {
                failures.push(format!("{} on {}: {change:.1e}", case.name, column.name()));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
