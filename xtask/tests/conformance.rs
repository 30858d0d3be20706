//! The quick subset of the conformance suite, as `cargo test` runs it.

use openclip_zoo::build::Families;
use xtask::conformance::{Options, cases, check, columns};

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
