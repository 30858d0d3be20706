//! Compares Hugging Face tokenizers with the reference's outputs in `conformance/tokenizer/huggingface` of the workspace.

use std::{fs, path::Path};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{HuggingFaceOptions, HuggingFaceTokenizer, TokenizerFiles};
use crate::tokenizer::{Tokenizer, conformance::Differences};

#[derive(Deserialize)]
struct Header {
    files: String,
    tokenizer_mode: Option<String>,
    options: Map<String, Value>,
    vocab_size: usize,
    pad: u32,
    eos: Option<u32>,
}

#[derive(Deserialize)]
struct Encoding {
    ids: Vec<u32>,
    decoded: Option<String>,
}

#[derive(Deserialize)]
struct Batch {
    context_length: usize,
    texts: Vec<usize>,
    ids: Vec<Vec<u32>>,
}

/// The texts that are in every batch, after those that it has of its own. They are those of the script.
fn common_texts() -> Vec<String> {
    let long = "caf\u{c3}\u{a9} &amp; na\u{ef}ve \u{201c}quotes\u{201d} \u{1f600} ".repeat(400);
    vec![
        String::new(),
        "a photo of a cat".to_owned(),
        "a photo of a dog ".repeat(600),
        "x".repeat(10_000),
        "\u{6f22}\u{5b57}".repeat(5_000),
        long.chars().take(10_000).collect(),
        "!?".repeat(5_000),
    ]
}

fn check(folder: &Path, case: &str, texts: &[String], differences: &mut Differences) {
    let expected = fs::read_to_string(folder.join(case).join("expected.jsonl")).unwrap();
    let mut lines = expected.lines();
    let header: Header = serde_json::from_str(lines.next().unwrap()).unwrap();
    if !cfg!(feature = "sentencepiece") && header.options.contains_key("use_fast") {
        return;
    }
    let options = HuggingFaceOptions {
        context_length: 77,
        mode: header.tokenizer_mode,
        arguments: header.options,
        language: None,
    };
    let files = TokenizerFiles::in_folder(&folder.join(&header.files));
    let tokenizer = HuggingFaceTokenizer::open(&files, &options).unwrap();
    let found = (tokenizer.vocab_size(), tokenizer.pad_token_id(), tokenizer.special.eos);
    differences.check((case, "vocabulary, pad and eos"), found, (header.vocab_size, header.pad, header.eos));
    for text in texts {
        let expected: Encoding = serde_json::from_str(lines.next().unwrap()).unwrap();
        differences.check((case, text), tokenizer.encode(text).unwrap(), expected.ids.clone());
        if let Some(decoded) = expected.decoded {
            differences.check((case, text, "decoded"), tokenizer.decode(&expected.ids).unwrap(), decoded);
        }
    }
    let mut batches = 0;
    for line in lines {
        let Batch { context_length, texts: own, ids } = serde_json::from_str(line).unwrap();
        let inputs: Vec<String> =
            own.iter().map(|&index| texts[index].clone()).chain(common_texts()).collect();
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let batch = tokenizer.tokenize_with_context_length(&inputs, context_length).unwrap();
        for ((text, found), expected) in inputs.iter().zip(batch.iter()).zip(&ids) {
            let start: String = text.chars().take(60).collect();
            differences.check((case, context_length, start), found, expected.as_slice());
        }
        assert_eq!(batch.rows(), ids.len());
        batches += 1;
    }
    assert!(batches > 0, "{case}");
}

#[test]
fn tokenizers_of_every_kind_give_the_ids_of_the_reference() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/tokenizer/huggingface");
    let texts: Vec<String> =
        serde_json::from_str(&fs::read_to_string(folder.join("texts.json")).unwrap()).unwrap();
    let mut differences = Differences::default();
    let mut cases: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.is_dir());
    cases.sort();
    for case in &cases {
        let case = case.file_name().unwrap().to_str().unwrap();
        check(&folder, case, &texts, &mut differences);
    }
    assert!(cases.len() >= 15);
    differences.report(cases.len() * texts.len());
}
