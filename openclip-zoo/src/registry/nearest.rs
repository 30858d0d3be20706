//! The nearest right names of a wrong one. What people get wrong is case and punctuation (`vitb32`, `ViT-B/32`), a missing
//! part (`ViT-L-14-quick`), or a letter.

use std::cmp::Ordering;

/// How many names are worth showing.
const MOST: usize = 5;
/// Below this a name isn't like the other at all.
const LEAST_SIMILARITY: f64 = 0.6;

/// The names that are most like `wrong`, best first.
pub(crate) fn nearest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let wrong = letters_and_digits(wrong);
    let mut scored: Vec<_> =
        names.into_iter().map(|name| (similarity(&wrong, &letters_and_digits(name)), name)).collect();
    // Stable: of equally good names the first one listed stays first.
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored
        .into_iter()
        .take_while(|(score, _)| *score >= LEAST_SIMILARITY)
        .take(MOST)
        .map(|(_, name)| name.to_owned())
        .collect()
}

fn letters_and_digits(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// 1 for equal names; a beginning of the other counts more than letters changed within.
fn similarity(a: &str, b: &str) -> f64 {
    if a == b {
        return 1.0;
    }
    let edits = strsim::normalized_damerau_levenshtein(a, b);
    let longest = a.len().max(b.len()).max(1) as f64;
    let shortest = a.len().min(b.len()) as f64;
    if shortest >= 3.0 && (a.starts_with(b) || b.starts_with(a)) {
        return edits.max(0.75 + 0.2 * shortest / longest);
    }
    edits
}

/// Orders names as people do: `ViT-B-16` before `ViT-B-32`, `RN50x4` before `RN50x16`, whatever their case.
pub(crate) fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (chunks(a), chunks(b));
    loop {
        let order = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(a), Some(b)) => a.cmp(&b),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// A run of digits sorts by its number, before any run of other characters.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Chunk {
    Number(u64, String),
    Text(String),
}

fn chunks(name: &str) -> impl Iterator<Item = Chunk> {
    let name: Vec<char> = name.to_lowercase().chars().collect();
    let runs: Vec<String> = name
        .chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit())
        .map(|run| run.iter().collect())
        .collect();
    runs.into_iter().map(|run| match run.parse() {
        Ok(number) => Chunk::Number(number, run),
        Err(_) => Chunk::Text(run),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 9] = [
        "ViT-B-16",
        "ViT-B-32",
        "ViT-B-32-256",
        "ViT-B-32-quickgelu",
        "ViT-L-14",
        "ViT-L-14-336",
        "ViT-bigG-14",
        "RN50",
        "emoji-clip",
    ];

    #[test]
    fn the_name_that_was_meant_comes_first() {
        for (wrong, right) in [
            ("vitb32", "ViT-B-32"),
            ("ViT-B/32", "ViT-B-32"),
            ("vit_b_32", "ViT-B-32"),
            ("ViT-B-32 ", "ViT-B-32"),
            ("ViT-L-14-33", "ViT-L-14-336"),
            ("vit-big-g-14", "ViT-bigG-14"),
            ("VitB32quick", "ViT-B-32-quickgelu"),
            ("rn-50", "RN50"),
            ("emojiclip", "emoji-clip"),
            ("emoji", "emoji-clip"),
            ("ViT-L14@336px", "ViT-L-14-336"),
        ] {
            assert_eq!(
                nearest(wrong, NAMES).first().map(String::as_str),
                Some(right),
                "{wrong}: {:?}",
                nearest(wrong, NAMES)
            );
        }
    }

    #[test]
    fn nothing_is_near_to_nonsense() {
        for wrong in ["", "zzzz", "日本"] {
            assert_eq!(nearest(wrong, NAMES), Vec::<String>::new(), "{wrong}");
        }
        assert!(nearest("ViT", NAMES).len() > 1, "a beginning is near to all that begin so");
    }

    #[test]
    fn numbers_order_by_value() {
        let mut names = ["RN50x16", "ViT-B-32-256", "vit-b-16", "RN50x4", "ViT-B-32", "RN50", "ViT-bigG-14"];
        names.sort_by(|a, b| natural_order(a, b));
        assert_eq!(
            names,
            ["RN50", "RN50x4", "RN50x16", "vit-b-16", "ViT-B-32", "ViT-B-32-256", "ViT-bigG-14"]
        );
    }
}
