//! Damaged datasets are errors, never panics.

use std::{fs, path::Path};

use openclip_eval::dataset::{Wanted, open};

/// Damaged files; 20,000 of them took half a minute and were all right, too.
const ROUNDS: usize = 300;

/// Knuth's linear congruential generator.
fn next(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize
}

#[test]
fn damaged_parquet_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.parquet");
    let name = format!("parquet:{}", path.display()).parse().unwrap();
    let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/evaluation/noto-v1-names.parquet");
    let whole = fs::read(whole).unwrap();
    let mut state = 1;
    for round in 0..ROUNDS {
        let mut bytes = whole.clone();
        // The footer, with the layout of all else, is at the end.
        let places = if round % 2 == 0 { 0..bytes.len() } else { bytes.len() - 2000..bytes.len() };
        for _ in 0..=next(&mut state) % 3 {
            let place = places.start + next(&mut state) % places.len();
            bytes[place] = next(&mut state) as u8;
        }
        fs::write(&path, bytes).unwrap();
        for wanted in [Wanted::Classes, Wanted::Captions] {
            if let Ok(dataset) = open(&name, "test", wanted) {
                dataset.samples().unwrap().for_each(drop);
            }
        }
    }
}
