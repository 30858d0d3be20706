//! SentencePiece's compiled character maps, checked before they are used: the crate that walks them trusts every offset.
//!
//! A map is the size of a trie in bytes, the trie as units of 32 bits (a double array in the manner of Darts), and the texts
//! that characters become, each ended by a zero byte.

use base64::{Engine, prelude::BASE64_STANDARD};
use openclip_core::{Error, Result};
use serde::Deserialize;
use serde_json::Value;

/// The key of a map in tokenizer.json.
const KEY: &str = "precompiled_charsmap";
/// Marks a unit as a value: a place in the texts.
const IS_VALUE: usize = 1 << 31;

/// Checks the maps in `json`, the contents of a tokenizer.json called `origin`.
pub(super) fn check_json(origin: &str, json: &[u8]) -> Result<()> {
    /// All that is looked at; the rest of a large file is passed over.
    #[derive(Deserialize)]
    struct Part {
        #[serde(default)]
        normalizer: Value,
    }
    if !json.windows(KEY.len()).any(|window| window == KEY.as_bytes()) {
        return Ok(());
    }
    let part: Part =
        serde_json::from_slice(json).map_err(|error| Error::config(origin, error.to_string()))?;
    let mut open = vec![&part.normalizer];
    while let Some(value) = open.pop() {
        match value {
            Value::Array(items) => open.extend(items),
            Value::Object(fields) => {
                if let Some(map) = fields.get(KEY) {
                    let map = map.as_str().and_then(|text| BASE64_STANDARD.decode(text).ok());
                    check(map.as_deref().unwrap_or_default())
                        .map_err(|message| Error::config(origin, message))?;
                }
                open.extend(fields.values());
            }
            _ => {}
        }
    }
    Ok(())
}

/// Says what is wrong with `map`, if anything is.
pub(super) fn check(map: &[u8]) -> Result<(), String> {
    let damaged = |what: &str| Err(format!("the map of characters is damaged: {what}"));
    let Some((size, rest)) = map.split_first_chunk() else { return damaged("it has no size") };
    let size = u32::from_le_bytes(*size) as usize;
    let Some((trie, texts)) = rest.split_at_checked(size) else { return damaged("it is cut off") };
    let (units, odd) = trie.as_chunks();
    if units.is_empty() || !odd.is_empty() {
        return damaged("its trie has no whole units");
    }
    let Ok(texts) = std::str::from_utf8(texts) else { return damaged("its texts are not UTF-8") };
    let units: Vec<usize> = units.iter().map(|unit| u32::from_le_bytes(*unit) as usize).collect();
    for (place, &unit) in units.iter().enumerate() {
        if unit & IS_VALUE != 0 {
            if !texts.is_char_boundary(unit & !IS_VALUE) {
                return damaged("a value lies outside its texts");
            }
            continue;
        }
        // Any byte may follow, so the whole block of 256 units has to be there.
        let next = place ^ ((unit >> 10) << ((unit & (1 << 9)) >> 6));
        if next | 0xff >= units.len() {
            return damaged("an offset leads out of its trie");
        }
        let is_leaf = unit & 1 << 8 != 0;
        if is_leaf && units.get(next).is_none_or(|unit| unit & IS_VALUE == 0) {
            return damaged("the end of a key has no value");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A map whose trie has `units` in front and is filled up to 256.
    fn map(units: &[u32], texts: &str) -> Vec<u8> {
        let mut trie = units.to_vec();
        trie.resize(256, 0);
        let mut map = (trie.len() as u32 * 4).to_le_bytes().to_vec();
        map.extend(trie.iter().flat_map(|unit| unit.to_le_bytes()));
        map.extend(texts.as_bytes());
        map
    }

    #[test]
    fn what_leads_nowhere_is_refused() {
        let value = |place: u32| place | 1 << 31;
        assert_eq!(check(&map(&[0, value(0), value(3)], "é\0")), Ok(()));
        for (bytes, part) in [
            (Vec::new(), "no size"),
            (vec![0; 4], "no whole units"),
            (vec![255; 7], "cut off"),
            (map(&[256 << 10], ""), "an offset leads out"),
            (map(&[1 << 10 | 1 << 9], ""), "an offset leads out"),
            (map(&[1 << 8], ""), "has no value"),
            (map(&[value(1)], "é\0"), "a value lies outside"),
            (map(&[value(4)], "é\0"), "a value lies outside"),
        ] {
            let message = check(&bytes).unwrap_err();
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn maps_are_found_in_a_tokenizer() {
        let of = |map: &[u8]| {
            let map = BASE64_STANDARD.encode(map);
            format!(
                r#"{{"normalizer": {{"type": "Sequence", "normalizers": [{{"precompiled_charsmap": "{map}"}}]}}}}"#
            )
        };
        assert!(check_json("t", of(&map(&[0], "")).as_bytes()).is_ok());
        let error = check_json("t", of(&map(&[256 << 10], "")).as_bytes()).unwrap_err().to_string();
        assert!(error.contains("an offset leads out"), "{error}");
        assert!(check_json("t", br#"{"normalizer": {"precompiled_charsmap": "?"}}"#).is_err());
        assert!(check_json("t", br#"{"model": 1}"#).is_ok());
    }
}
