//! SentencePiece models read as what they are, protocol buffers, and made into tokenizers of the crate `tokenizers`.

use std::cmp::Ordering;

use ahash::{AHashMap, AHashSet};
use openclip_core::{Error, Result};
use prost::Message;
use serde_json::json;
use tokenizers::{
    AddedToken, ModelWrapper, NormalizerWrapper, Tokenizer,
    models::{bpe::BPE, unigram::Unigram},
    normalizers::{Precompiled, Sequence},
};

use super::{
    assemble::{component, surround},
    charsmap,
    class::Class,
    convert::{Parts, missing},
    files::TokenizerFiles,
    settings::Settings,
};

/// What stands for a space.
const SPACE: &str = "\u{2581}";
/// Gemma's tokens that are special although their model doesn't say so.
const TURNS: [&str; 2] = ["<start_of_turn>", "<end_of_turn>"];

/// The parts of SentencePiece's `ModelProto` that matter here.
#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<Piece>,
    #[prost(message, optional, tag = "2")]
    trainer: Option<Trainer>,
    #[prost(message, optional, tag = "3")]
    normalizer: Option<Normalizer>,
}

#[derive(Clone, PartialEq, Message)]
struct Piece {
    #[prost(string, optional, tag = "1")]
    piece: Option<String>,
    #[prost(float, optional, tag = "2")]
    score: Option<f32>,
    #[prost(enumeration = "PieceKind", optional, tag = "3", default = "Normal")]
    kind: Option<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
enum PieceKind {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

#[derive(Clone, PartialEq, Message)]
struct Trainer {
    #[prost(enumeration = "ModelKind", optional, tag = "3", default = "Unigram")]
    kind: Option<i32>,
    #[prost(int32, optional, tag = "40", default = "0")]
    unk_id: Option<i32>,
    #[prost(string, optional, tag = "45", default = "<unk>")]
    unk_piece: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
enum ModelKind {
    Unigram = 1,
    Bpe = 2,
    Word = 3,
    Char = 4,
}

#[derive(Clone, PartialEq, Message)]
struct Normalizer {
    #[prost(bytes = "vec", optional, tag = "2")]
    charsmap: Option<Vec<u8>>,
}

/// Makes a tokenizer of the class in `settings` from the first of the files `names` that is there.
pub(super) fn convert(files: &TokenizerFiles, settings: &Settings, names: &[&str]) -> Result<Tokenizer> {
    for name in names {
        if let Some((origin, bytes)) = files.read(name)? {
            let damaged = |message: String| Error::config(&origin, message);
            let model = Model::decode(bytes.as_slice())
                .map_err(|error| damaged(format!("not a SentencePiece model: {error}")))?;
            return tokenizer(&model, settings, &damaged);
        }
    }
    missing(settings, &[&["tokenizer.json"], names].concat())
}

fn tokenizer(model: &Model, settings: &Settings, damaged: &dyn Fn(String) -> Error) -> Result<Tokenizer> {
    let class = settings.class;
    let trainer = model.trainer.clone().unwrap_or_default();
    let vocabulary = vocabulary(model, settings)?;
    let bytes = class == Class::Gemma;
    let made: ModelWrapper = match trainer.kind() {
        ModelKind::Unigram => {
            let unk = match class {
                Class::XlmRoberta | Class::Nllb | Class::Gemma => 3,
                _ => trainer.unk_id().unsigned_abs() as usize,
            };
            if unk >= vocabulary.len() {
                return Err(damaged(format!(
                    "the unknown token {unk} is not one of {} pieces",
                    vocabulary.len()
                )));
            }
            let made = Unigram::from(vocabulary, Some(unk), bytes);
            made.map_err(|error| damaged(error.to_string()))?.into()
        }
        ModelKind::Bpe => {
            let merges = merges(model, &vocabulary);
            let ids: AHashMap<String, u32> =
                vocabulary.into_iter().map(|(piece, _)| piece).zip(0..).collect();
            let made = BPE::builder()
                .vocab_and_merges(ids, merges)
                .unk_token(trainer.unk_piece().to_owned())
                .fuse_unk(true)
                .byte_fallback(bytes)
                .build();
            made.map_err(|error| damaged(error.to_string()))?.into()
        }
        other => return Err(damaged(format!("a SentencePiece model of the kind {other:?} isn't supported"))),
    };
    let mut tokenizer = parts(model, settings, damaged)?.around(made, settings)?;
    let added = model.pieces.iter().filter_map(|piece| {
        let special = match piece.kind() {
            PieceKind::Control => true,
            PieceKind::UserDefined => class == Class::Gemma && TURNS.contains(&piece.piece()),
            _ => return None,
        };
        Some(AddedToken::from(piece.piece(), special).normalized(false))
    });
    tokenizer.add_tokens(added).map_err(|error| damaged(error.to_string()))?;
    let tokens = |roles: &[&str]| -> Result<Vec<String>> {
        let token = |role: &&str| settings.token(role).transpose().map(|token| Ok(token?.content));
        roles.iter().filter_map(token).collect()
    };
    match class {
        Class::T5 => surround(&mut tokenizer, settings, &[], &tokens(&["eos_token"])?)?,
        Class::XlmRoberta => {
            surround(&mut tokenizer, settings, &tokens(&["cls_token"])?, &tokens(&["sep_token"])?)?;
        }
        // These two put tokens around a text as their arguments say, whatever file they come from.
        _ => {}
    }
    Ok(tokenizer)
}

/// The pieces and scores in the order of the tokenizer's ids, which isn't the file's for every class.
fn vocabulary(model: &Model, settings: &Settings) -> Result<Vec<(String, f64)>> {
    let pieces = |from: usize| {
        let rest = model.pieces.get(from..).unwrap_or_default();
        rest.iter().map(|piece| (piece.piece().to_owned(), f64::from(piece.score())))
    };
    let fixed = |names: &[&str]| names.iter().map(|&name| (name.to_owned(), 0.0)).collect::<Vec<_>>();
    Ok(match settings.class {
        Class::XlmRoberta => {
            let mut all = fixed(&["<s>", "<pad>", "</s>", "<unk>"]);
            all.extend(pieces(3));
            all.extend(fixed(&["<mask>"]));
            all
        }
        Class::Nllb => {
            let mut all = fixed(&["<s>", "<pad>", "</s>", "<unk>"]);
            all.extend(pieces(3));
            all
        }
        Class::Gemma => {
            let mut all = Vec::new();
            for role in ["pad_token", "eos_token", "bos_token"] {
                let Some(token) = settings.token(role)? else {
                    return settings.fail(format!("there is no `{role}`"));
                };
                all.push((token.content, 0.0));
            }
            all.extend(pieces(3));
            // Old models have no tab but the byte.
            if !all.iter().any(|(piece, _)| piece == "\t")
                && let Some(tab) = all.iter_mut().find(|(piece, _)| piece == "<0x09>")
            {
                *tab = ("\t".to_owned(), 0.0);
            }
            all
        }
        Class::T5 => {
            let mut all: Vec<_> = pieces(0).collect();
            all.extend((0..settings.extra_ids()?).rev().map(|index| (format!("<extra_id_{index}>"), 0.0)));
            all
        }
        _ => pieces(0).collect(),
    })
}

/// The pairs that byte-pair encoding merges, best first: every way to split a piece into two others, by the piece's
/// score.
fn merges(model: &Model, vocabulary: &[(String, f64)]) -> Vec<(String, String)> {
    let mut ids: AHashMap<&str, usize> = model.pieces.iter().map(Piece::piece).zip(0..).collect();
    if let Some(&byte) = ids.get("<0x09>") {
        ids.entry("\t").or_insert(byte);
    }
    // Of a piece that is there twice the first place and the last score count.
    let scores: AHashMap<&str, f64> =
        vocabulary.iter().map(|(piece, score)| (piece.as_str(), *score)).collect();
    let mut seen = AHashSet::new();
    let mut found: Vec<(f64, usize, usize, &str, &str)> = Vec::new();
    for (piece, _) in vocabulary.iter().filter(|(piece, _)| seen.insert(piece.as_str())) {
        let score = scores.get(piece.as_str()).copied().unwrap_or_default();
        let length = piece.chars().count();
        let mut splits = Vec::new();
        for (at, (place, _)) in piece.char_indices().enumerate().skip(1) {
            let (left, right) = piece.split_at(place);
            if let (Some(a), Some(b)) = (ids.get(left), ids.get(right)) {
                splits.push(((a, b), (score, at, length - at, left, right)));
            }
        }
        splits.sort_by_key(|&(ids, _)| ids);
        found.extend(splits.into_iter().map(|(_, split)| split));
    }
    found.sort_by(|a, b| b.0.partial_cmp(&a.0).unwrap_or(Ordering::Equal).then((b.1, b.2).cmp(&(a.1, a.2))));
    found.into_iter().map(|(.., left, right)| (left.to_owned(), right.to_owned())).collect()
}

/// What goes around the model.
fn parts(model: &Model, settings: &Settings, damaged: &dyn Fn(String) -> Error) -> Result<Parts> {
    if settings.class == Class::Gemma {
        return Ok(Parts {
            normalizer: Some(component(
                json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE}),
            )?),
            pre_tokenizer: json!({
                "type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false,
            }),
            decoder: json!({"type": "Sequence", "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ]}),
        });
    }
    let mut steps: Vec<NormalizerWrapper> = Vec::new();
    let map = model.normalizer.as_ref().map(Normalizer::charsmap).unwrap_or_default();
    if !map.is_empty() {
        charsmap::check(map).map_err(damaged)?;
        let precompiled = Precompiled::from(map);
        steps.push(
            precompiled.map_err(|error| damaged(format!("its character map is damaged: {error}")))?.into(),
        );
    }
    steps.push(component(json!({"type": "Strip", "strip_left": false, "strip_right": true}))?);
    steps.push(component(json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": SPACE}))?);
    let t5 = settings.class == Class::T5;
    let prefixed = !t5 || settings.flag("add_prefix_space")?.unwrap_or(true);
    let legacy = !t5 || settings.flag("legacy")?.unwrap_or(true);
    let scheme = match (prefixed, legacy) {
        (false, _) => "never",
        (true, true) => "always",
        (true, false) => "first",
    };
    let metaspace =
        json!({"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": true});
    Ok(Parts {
        normalizer: Some(Sequence::new(steps).into()),
        pre_tokenizer: metaspace.clone(),
        decoder: metaspace,
    })
}
