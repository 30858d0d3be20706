//! Compares the tokenizer with the reference's outputs in `conformance/tokenizer` of the workspace.

use std::fmt::Debug;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Clean, ClipTokenizer, Tokenizer};

/// The cases of one file. A missing or damaged file fails the test.
fn cases<T: DeserializeOwned>(file: &str) -> Vec<T> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/tokenizer").join(file);
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; run the tests in the workspace", path.display()));
    let parse = |(line, text): (usize, &str)| {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{file}:{}: {error}", line + 1))
    };
    text.lines().enumerate().map(parse).collect()
}

/// The differences between what was found and what was expected, collected to be reported together.
#[derive(Default)]
pub(super) struct Differences(Vec<String>);

impl Differences {
    pub(super) fn check<T: PartialEq + Debug>(&mut self, what: impl Debug, found: T, expected: T) {
        if found != expected {
            self.0.push(format!("{what:?}\n      found {found:?}\n   expected {expected:?}"));
        }
    }

    pub(super) fn report(self, cases: usize) {
        assert!(self.0.is_empty(), "{} differences in {cases} cases:\n{}", self.0.len(), self.0.join("\n"));
    }
}

fn tokenizer(clean: &str) -> ClipTokenizer {
    ClipTokenizer::builder().clean(clean.parse().unwrap()).build().unwrap()
}

#[derive(Deserialize)]
struct Encoding {
    text: String,
    ids: Vec<u32>,
}

#[derive(Deserialize)]
struct EncodeCase {
    group: String,
    text: String,
    lower: Encoding,
    whitespace: Option<Encoding>,
    canonicalize: Option<Encoding>,
}

#[test]
fn texts_are_cleaned_and_encoded_as_by_the_reference() {
    let cases: Vec<EncodeCase> = cases("encode.jsonl");
    assert!(cases.len() >= 1000);
    let mut differences = Differences::default();
    for mode in Clean::ALL {
        let tokenizer = tokenizer(mode.name());
        for case in &cases {
            let expected = match mode {
                Clean::Lower => None,
                Clean::Whitespace => case.whitespace.as_ref(),
                Clean::Canonicalize => case.canonicalize.as_ref(),
            };
            let expected = expected.unwrap_or(&case.lower);
            let what = (mode, &case.group, &case.text);
            differences.check(what, mode.apply(&case.text), expected.text.clone());
            differences.check(what, tokenizer.encode(&case.text).unwrap(), expected.ids.clone());
        }
    }
    differences.report(cases.len());
}

#[derive(Deserialize)]
struct BatchCase {
    context_length: usize,
    clean: String,
    texts: Vec<String>,
    ids: Vec<Vec<u32>>,
}

#[test]
fn batches_are_cut_and_padded_as_by_the_reference() {
    let cases: Vec<BatchCase> = cases("batches.jsonl");
    let mut differences = Differences::default();
    for case in &cases {
        let texts: Vec<_> = case.texts.iter().map(String::as_str).collect();
        let batch = tokenizer(&case.clean).tokenize_with_context_length(&texts, case.context_length).unwrap();
        for ((text, found), expected) in texts.iter().zip(batch.iter()).zip(&case.ids) {
            differences.check((case.context_length, &case.clean, text), found, expected.as_slice());
        }
        assert_eq!((batch.rows(), batch.length()), (case.ids.len(), case.context_length));
    }
    differences.report(cases.len());
}

#[derive(Deserialize)]
struct SpecialTokensCase {
    special_tokens: Vec<String>,
    clean: String,
    text: String,
    ids: Vec<u32>,
}

#[test]
fn additional_special_tokens_are_found_as_by_the_reference() {
    let cases: Vec<SpecialTokensCase> = cases("special_tokens.jsonl");
    let mut differences = Differences::default();
    for case in &cases {
        let builder = ClipTokenizer::builder().additional_special_tokens(case.special_tokens.clone());
        let tokenizer = builder.clean(case.clean.parse().unwrap()).build().unwrap();
        differences.check(&case.text, tokenizer.encode(&case.text).unwrap(), case.ids.clone());
    }
    differences.report(cases.len());
}

#[derive(Deserialize)]
struct DecodeCase {
    ids: Vec<u32>,
    text: String,
}

#[test]
fn ids_are_decoded_as_by_the_reference() {
    let cases: Vec<DecodeCase> = cases("decode.jsonl");
    let tokenizer = ClipTokenizer::new().unwrap();
    let mut differences = Differences::default();
    for case in &cases {
        differences.check(&case.ids, tokenizer.decode(&case.ids).unwrap(), case.text.clone());
    }
    differences.report(cases.len());
}
