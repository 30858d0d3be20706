//! Byte-pair encoding with the vocabulary of CLIP: the bytes of a word, the last of them marked as such, are merged
//! pair by pair, the earliest learnt pair first.
//!
//! Ids 0 to 255 are bytes, 256 to 511 bytes that end a word, and each further id is the merge of two smaller ones, in
//! the order in which they were learnt. So the id of a merge is its rank too. And since whatever a merge makes possible has a
//! larger id, merging one least pair at a time, the leftmost first, gives what the reference's merging of all occurrences
//! at once gives.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io::Read;
use std::sync::LazyLock;

use flate2::read::GzDecoder;
use openclip_core::{Error, Result};
use rustc_hash::FxHashMap;

const FILE: &str = "bpe_simple_vocab_16e6.txt.gz";
const COMPRESSED: &[u8] = include_bytes!("data/bpe_simple_vocab_16e6.txt.gz");
/// How many merges of the file belong to the vocabulary of CLIP.
const MERGES: usize = 49152 - 256 - 2;
/// Size of the lines before and with those merges, in bytes; the file goes on with as many again, and more.
const MERGES_SIZE: usize = 524_645;
/// Number of ids that are bytes, ending a word or not.
const BYTES: usize = 512;
/// Stands at the end of the bytes of a word.
const END_OF_WORD: &str = "</w>";
/// Longest word, in bytes, for which looking through all pairs again and again is faster than a queue.
const SHORT: usize = 128;
/// No merge. Larger than any id, so it is never the least.
const NONE: u32 = u32::MAX;

/// Ids of the bytes: those that are printable in Latin-1 come first.
const BYTE_IDS: [u8; 256] = {
    let mut ids = [0; 256];
    let (mut byte, mut printable, mut other) = (0, 0, 188_u8);
    while byte < 256 {
        if is_printable(byte as u8) {
            ids[byte] = printable;
            printable += 1;
        } else {
            ids[byte] = other;
            other = other.wrapping_add(1);
        }
        byte += 1;
    }
    ids
};

const fn is_printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)
}

/// How `byte`, whose id is `id`, is written in the file: the printable ones as themselves, the others as the characters
/// from U+0100 on.
fn byte_name(byte: u8, id: u8) -> char {
    if is_printable(byte) { byte.into() } else { char::from_u32(u32::from(id) + 68).unwrap_or_default() }
}

/// The part of a compressed file that has the merges of CLIP.
fn unpack(compressed: impl Read) -> std::result::Result<Vec<u8>, String> {
    let mut text = Vec::with_capacity(MERGES_SIZE);
    GzDecoder::new(compressed)
        .take(MERGES_SIZE as u64)
        .read_to_end(&mut text)
        .map_err(|error| format!("after {} bytes: {error}", text.len()))?;
    Ok(text)
}

/// The merges in an unpacked file, each with the number of lines before it.
fn lines(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let lines = text.strip_suffix(b"\n").unwrap_or(text).split(|&byte| byte == b'\n');
    lines.enumerate().skip(1).take(MERGES)
}

/// The merges of the CLIP vocabulary.
pub(super) struct Bpe {
    merged: FxHashMap<(u32, u32), u32>,
    /// The two ids that each id from [`BYTES`] on is made of.
    parts: Vec<(u32, u32)>,
    /// The byte of each id below 256.
    bytes: [u8; 256],
}

impl Bpe {
    /// The vocabulary that comes with the crate, read once.
    ///
    /// # Errors
    /// [`Error::Config`] when the file was damaged when the crate was built.
    pub(super) fn bundled() -> Result<&'static Self> {
        static BUNDLED: LazyLock<std::result::Result<Bpe, String>> = LazyLock::new(|| Bpe::read(COMPRESSED));
        BUNDLED.as_ref().map_err(|message| Error::config(FILE, message))
    }

    /// Whether `merges`, one a line, are those of the vocabulary that comes with the crate.
    pub(super) fn is_bundled<'a>(merges: impl IntoIterator<Item = &'a str>) -> bool {
        let Ok(text) = unpack(COMPRESSED) else { return false };
        lines(&text).map(|(_, merge)| merge).eq(merges.into_iter().map(str::as_bytes))
    }

    /// Reads merges, one a line after a line of comment, from a gzip stream.
    fn read(compressed: impl Read) -> std::result::Result<Self, String> {
        let text = unpack(compressed)?;
        let mut tokens = Vec::with_capacity(text.len());
        let mut ends = Vec::with_capacity(MERGES);
        let mut pairs = Vec::with_capacity(MERGES);
        for (line, merge) in lines(&text) {
            let space = merge.iter().position(|&byte| byte == b' ');
            let Some((left, [_, right @ ..])) = space.and_then(|at| merge.split_at_checked(at)) else {
                let merge = String::from_utf8_lossy(merge);
                return Err(format!("line {}: expected two tokens, found {merge:?}", line + 1));
            };
            tokens.extend_from_slice(left);
            tokens.extend_from_slice(right);
            ends.push(tokens.len());
            pairs.push((left, right));
        }
        if pairs.len() < MERGES {
            return Err(format!("ends at line {}; {} lines are needed", pairs.len() + 1, MERGES + 1));
        }
        Self::resolve(&tokens, &ends, &pairs)
    }

    /// Gives every token its id: `tokens` are the merged ones, up to `ends`, and `pairs` what they are made of.
    fn resolve(tokens: &[u8], ends: &[usize], pairs: &[(&[u8], &[u8])]) -> std::result::Result<Self, String> {
        let mut bytes = [0; 256];
        let mut names = Vec::with_capacity(BYTES);
        for (byte, &id) in (0..=255_u8).zip(&BYTE_IDS) {
            if let Some(place) = bytes.get_mut(usize::from(id)) {
                *place = byte;
            }
            let name = byte_name(byte, id).to_string();
            names.push((format!("{name}{END_OF_WORD}"), u32::from(id) + 256));
            names.push((name, u32::from(id)));
        }
        let mut ids: FxHashMap<&[u8], u32> =
            HashMap::with_capacity_and_hasher(BYTES + pairs.len(), Default::default());
        ids.extend(names.iter().map(|(name, id)| (name.as_bytes(), *id)));
        let mut start = 0;
        for (id, &end) in (BYTES as u32..).zip(ends) {
            let token = tokens.get(start..end).unwrap_or_default();
            if ids.insert(token, id).is_some() {
                return Err(format!("token {:?} occurs twice", String::from_utf8_lossy(token)));
            }
            start = end;
        }
        let mut merged = HashMap::with_capacity_and_hasher(pairs.len(), Default::default());
        let mut parts = Vec::with_capacity(pairs.len());
        for (id, &(left, right)) in (BYTES as u32..).zip(pairs) {
            // Merging looks for the least id, which is right only if no merge needs a later one.
            let find = |token| {
                ids.get(token).copied().filter(|&part| part < id).ok_or_else(|| {
                    format!("token {:?} is used before it is made", String::from_utf8_lossy(token))
                })
            };
            let pair = (find(left)?, find(right)?);
            merged.insert(pair, id);
            parts.push(pair);
        }
        Ok(Self { merged, parts, bytes })
    }

    /// Number of ids.
    pub(super) fn len(&self) -> usize {
        BYTES + self.parts.len()
    }

    /// Whether one of the ids stands for `token`.
    pub(super) fn has_token(&self, token: &str) -> bool {
        let mut bytes = Vec::new();
        (0..self.len() as u32).any(|id| {
            bytes.clear();
            self.decode(id, &mut bytes) && bytes == token.as_bytes()
        })
    }

    fn merge(&self, left: u32, right: u32) -> u32 {
        self.merged.get(&(left, right)).copied().unwrap_or(NONE)
    }

    /// Appends the ids of `word` to `ids`.
    pub(super) fn encode(&self, word: &[u8], ids: &mut Vec<u32>) {
        let start = ids.len();
        ids.extend(word.iter().map(|&byte| BYTE_IDS.get(usize::from(byte)).map_or(0, |&id| u32::from(id))));
        if let Some(last) = ids.get_mut(start..).and_then(<[u32]>::last_mut) {
            *last += 256;
        }
        let kept = match ids.get_mut(start..) {
            Some(symbols) if symbols.len() <= SHORT => self.merge_short(symbols),
            Some(symbols) => self.merge_long(symbols),
            None => 0,
        };
        ids.truncate(start + kept);
    }

    /// Merges `symbols`, at most [`SHORT`] of them, in place; returns how many are left, at the front.
    fn merge_short(&self, symbols: &mut [u32]) -> usize {
        let mut length = symbols.len();
        // What each symbol merges to with the next one.
        let mut merges = [NONE; SHORT];
        for (merge, pair) in merges.iter_mut().zip(symbols.windows(2)) {
            if let [left, right] = *pair {
                *merge = self.merge(left, right);
            }
        }
        loop {
            let pairs = length.saturating_sub(1);
            let Some((at, &merged)) =
                merges.iter().take(pairs).enumerate().min_by_key(|&(_, &merged)| merged)
            else {
                return length;
            };
            if merged == NONE {
                return length;
            }
            symbols.copy_within(at + 2..length, at + 1);
            merges.copy_within(at + 1..pairs, at);
            length -= 1;
            symbols[at] = merged;
            if at > 0 {
                merges[at - 1] = self.merge(symbols[at - 1], merged);
            }
            merges[at] = if at + 1 < length { self.merge(merged, symbols[at + 1]) } else { NONE };
        }
    }

    /// Merges `symbols` in place in a time that hardly grows faster than their number; returns how many are left, at
    /// the front.
    fn merge_long(&self, symbols: &mut [u32]) -> usize {
        let length = symbols.len();
        let mut next: Vec<usize> = (1..=length).collect();
        // Of the first symbol: itself.
        let mut previous: Vec<usize> = (0..length).map(|at| at.saturating_sub(1)).collect();
        let mut queue = BinaryHeap::with_capacity(length);
        for (at, pair) in symbols.windows(2).enumerate() {
            if let [left, right] = *pair {
                queue.push(Reverse((self.merge(left, right), at)));
            }
        }
        while let Some(Reverse((merged, at))) = queue.pop() {
            if merged == NONE {
                break;
            }
            let right = next[at];
            // The pair may have been merged with a neighbour since.
            if symbols[at] == NONE || right == length || self.merge(symbols[at], symbols[right]) != merged {
                continue;
            }
            symbols[at] = merged;
            symbols[right] = NONE;
            let behind = next[right];
            next[at] = behind;
            if behind < length {
                previous[behind] = at;
                queue.push(Reverse((self.merge(merged, symbols[behind]), at)));
            }
            if at > 0 {
                let before = previous[at];
                queue.push(Reverse((self.merge(symbols[before], merged), before)));
            }
        }
        let mut kept = 0;
        for at in 0..length {
            if symbols[at] != NONE {
                symbols[kept] = symbols[at];
                kept += 1;
            }
        }
        kept
    }

    /// Appends the bytes that `id` stands for to `bytes`, `</w>` where it ends a word. False when there is no such id.
    #[must_use]
    pub(super) fn decode(&self, id: u32, bytes: &mut Vec<u8>) -> bool {
        if id as usize >= self.len() {
            return false;
        }
        let mut pending = vec![id];
        while let Some(id) = pending.pop() {
            match self.parts.get((id as usize).wrapping_sub(BYTES)) {
                Some(&(left, right)) => pending.extend([right, left]),
                None => {
                    bytes.extend(self.bytes.get(id as usize % 256));
                    if id >= 256 {
                        bytes.extend_from_slice(END_OF_WORD.as_bytes());
                    }
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    fn compressed(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_file_is_told_from_others_by_its_merges() {
        let text = String::from_utf8(unpack(COMPRESSED).unwrap()).unwrap();
        let merges: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(merges.len(), MERGES);
        assert!(Bpe::is_bundled(merges.iter().copied()));
        assert!(!Bpe::is_bundled(merges.iter().copied().skip(1)));
        assert!(!Bpe::is_bundled(merges.iter().copied().take(MERGES - 1)));
        assert!(!Bpe::is_bundled(merges.iter().copied().chain(["a b"])));
        assert!(!Bpe::is_bundled([]));
    }

    #[test]
    fn damaged_vocabularies_are_errors() {
        let lines = |line: &str| compressed(&("#version\n".to_owned() + &format!("{line}\n").repeat(MERGES)));
        let cases = [
            (b"no gzip".to_vec(), "after 0 bytes: "),
            (compressed("#version\na b\n"), "ends at line 2"),
            (lines("ab"), "line 2: expected two tokens, found \"ab\""),
            (lines("a b"), "token \"ab\" occurs twice"),
        ];
        for (file, expected) in cases {
            let error = Bpe::read(file.as_slice()).err().unwrap();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn bytes_have_ids() {
        assert_eq!(BYTE_IDS[usize::from(b'!')], 0);
        assert_eq!(BYTE_IDS[0xff], 187);
        assert_eq!(BYTE_IDS[0], 188);
        assert_eq!(BYTE_IDS[0xad], 255);
    }

    #[test]
    fn words() {
        let bpe = Bpe::bundled().unwrap();
        let mut ids = Vec::new();
        for word in ["hello", "world", "!", ""] {
            bpe.encode(word.as_bytes(), &mut ids);
        }
        assert_eq!(ids, [3306, 1002, 256]);
    }

    #[test]
    fn unknown_ids_are_told() {
        let bpe = Bpe::bundled().unwrap();
        assert_eq!(bpe.len(), 49406);
        assert!(bpe.decode(49405, &mut Vec::new()));
        assert!(!bpe.decode(49406, &mut Vec::new()));
        assert!(!bpe.decode(u32::MAX, &mut Vec::new()));
    }

    proptest! {
        #[test]
        fn both_ways_of_merging_agree(word in "[a-e]{1,128}|[a-zéя漢]{1,20}|\\PC{1,20}") {
            let bpe = Bpe::bundled().unwrap();
            let mut symbols: Vec<_> = word.bytes().map(|byte| u32::from(BYTE_IDS[usize::from(byte)])).collect();
            *symbols.last_mut().unwrap() += 256;
            let (mut short, mut long) = (symbols.clone(), symbols);
            let kept = bpe.merge_short(&mut short);
            short.truncate(kept);
            let kept = bpe.merge_long(&mut long);
            long.truncate(kept);
            prop_assert_eq!(short, long);
        }

        #[test]
        fn decoding_gives_the_word_back(word in "\\PC{1,300}") {
            let bpe = Bpe::bundled().unwrap();
            let mut ids = Vec::new();
            bpe.encode(word.as_bytes(), &mut ids);
            let mut bytes = Vec::new();
            for id in ids {
                prop_assert!(bpe.decode(id, &mut bytes));
            }
            prop_assert_eq!(String::from_utf8(bytes).unwrap(), word + END_OF_WORD);
        }
    }
}
