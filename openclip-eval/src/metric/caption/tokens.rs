//! Captions as tokens of the Penn Treebank, as the tokenizer behind pycocoevalcap makes them (Stanford's PTBTokenizer of
//! CoreNLP 3.4.1, lower case), without punctuation.
//!
//! Written from its behaviour, for what captions consist of: words, contractions, abbreviations, numbers, punctuation, addresses.

/// Tokens that pycocoevalcap drops.
const PUNCTUATION: &[&str] = &["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"];

/// Abbreviations that keep their dot, whatever follows.
const TITLES: &[&str] = &[
    "mr", "mrs", "ms", "dr", "prof", "gen", "sen", "rep", "gov", "lt", "col", "sgt", "capt", "st", "mt",
    "ft", "rev", "hon", "pres", "supt", "maj", "cmdr", "adm", "messrs", "mme", "mlle", "insp", "det", "cpl",
    "pvt", "pfc", "treas", "ave", "dept", "assoc", "mfg", "cie", "vs", "cf", "ph.d", "m.d",
];
/// Abbreviations behind which a sentence may end: before a capital the dot is a token once more.
const ENDINGS: &[&str] = &[
    "sr", "jr", "jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec", "mon",
    "tue", "tues", "wed", "thu", "thurs", "fri", "blvd", "rd", "ct", "sq", "bldg", "al", "inc", "co", "corp",
    "ltd", "plc", "bros", "assn", "intl", "univ", "ala", "ariz", "calif", "colo", "conn", "fla", "ga", "ind",
    "kan", "kans", "ky", "md", "mich", "minn", "mo", "mont", "neb", "nev", "okla", "penn", "tenn", "va",
    "vt", "wis", "wisc", "wyo", "etc", "est", "seq", "tel", "ext",
];
/// The same where they are written with a capital: otherwise they are words.
const CAPITAL_ENDINGS: &[&str] = &["Ark", "Del", "Ill", "La", "Mass", "Miss", "Ore", "Pa", "Tex", "Wash"];
/// Abbreviations of what has a number: they keep their dot before one.
const NUMBERED: &[&str] = &["no", "nos", "fig", "figs", "art", "pp", "ca"];
/// Words that are two.
const JOINED: &[(&str, usize)] =
    &[("cannot", 3), ("gonna", 3), ("wanna", 3), ("gotta", 3), ("lemme", 3), ("gimme", 3)];
/// What stands behind an apostrophe as a token with it.
const CLITICS: &[&str] = &["s", "m", "d", "ll", "re", "ve"];

/// The tokens of a text with a space between, in lower case and without punctuation.
pub fn tokenize(text: &str) -> String {
    let kept: Vec<String> =
        tokens(text).into_iter().filter(|token| !PUNCTUATION.contains(&token.as_str())).collect();
    kept.join(" ")
}

/// The tokens of a text in lower case, punctuation included.
pub fn tokens(text: &str) -> Vec<String> {
    let text = plain(text);
    let mut scanner = Scanner { rest: &text, before: None, tokens: Vec::new() };
    while let Some(first) = scanner.rest.chars().next() {
        scanner.next(first);
    }
    scanner.tokens
}

/// Entities and typographic signs as the plain ones that they stand for.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.replace("&amp;", "&").chars() {
        match character {
            '‘' | '’' | '‛' => plain.push('\''),
            '“' | '”' | '„' | '«' | '»' => plain.push('"'),
            '–' | '—' | '―' => plain.push_str(" -- "),
            '…' => plain.push_str(" ... "),
            '½' => plain.push_str("1/2"),
            '¼' => plain.push_str("1/4"),
            '¾' => plain.push_str("3/4"),
            '€' => plain.push('$'),
            '£' => plain.push('#'),
            // What isn't in the basic plane can't be a token.
            '\u{10000}'.. | '\u{200d}' | '\u{fe0e}' | '\u{fe0f}' => plain.push(' '),
            _ => plain.push(character),
        }
    }
    plain
}

struct Scanner<'a> {
    rest: &'a str,
    /// The character before the rest.
    before: Option<char>,
    tokens: Vec<String>,
}

impl Scanner<'_> {
    /// Takes `length` bytes of the rest as a token that is spelled `as_text`.
    fn take_as(&mut self, length: usize, as_text: &str) {
        self.tokens.push(as_text.to_lowercase());
        self.skip(length);
    }

    fn take(&mut self, length: usize) {
        let token = self.rest.get(..length).unwrap_or(self.rest).to_owned();
        self.take_as(token.len(), &token);
    }

    fn skip(&mut self, length: usize) {
        let (taken, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
        self.before = taken.chars().next_back();
        self.rest = rest;
    }

    fn run(&self, belongs: impl Fn(char) -> bool) -> usize {
        self.rest.find(|character| !belongs(character)).unwrap_or(self.rest.len())
    }

    fn next(&mut self, first: char) {
        if first.is_whitespace() {
            return self.skip(first.len_utf8());
        }
        if let Some(length) = tag(self.rest).or_else(|| address(self.rest)) {
            return self.take(length);
        }
        let starts_word = !self.before.is_some_and(char::is_alphanumeric);
        if let Some(length) = number(self.rest, starts_word) {
            return self.take(length);
        }
        match first {
            _ if is_word(first) => self.word(),
            '\'' => self.apostrophe(),
            '.' => match self.run(|character| character == '.') {
                1 | 2 => self.take(1),
                dots => self.take_as(dots.min(5), "..."),
            },
            '!' | '?' => self.take(self.run(|character| matches!(character, '!' | '?'))),
            '-' => match self.run(|character| character == '-') {
                dashes @ 2..=4 => self.take_as(dashes, "--"),
                dashes => self.take(dashes),
            },
            '@' | '#' if self.rest.chars().nth(1).is_some_and(char::is_alphabetic) => {
                self.take(
                    1 + self.rest.get(1..).map_or(0, |rest| rest.find(|c| !is_word(c)).unwrap_or(rest.len())),
                );
            }
            '"' => self.take_as(1, "''"),
            '(' => self.take_as(1, "-lrb-"),
            ')' => self.take_as(1, "-rrb-"),
            '[' => self.take_as(1, "-lsb-"),
            ']' => self.take_as(1, "-rsb-"),
            '{' => self.take_as(1, "-lcb-"),
            '}' => self.take_as(1, "-rcb-"),
            _ => self.take(first.len_utf8()),
        }
    }

    /// A word, with what belongs to it.
    fn word(&mut self) {
        let length = word(self.rest);
        let word = self.rest.get(..length).unwrap_or_default();
        let lower = word.to_lowercase();
        let after = self.rest.get(length..).unwrap_or_default();
        if let Some((_, split)) = JOINED.iter().find(|(joined, _)| *joined == lower) {
            self.take(*split);
            return self.take(length - split);
        }
        // n't is a token by itself.
        if let Some(stem) = lower.strip_suffix('n')
            && !stem.is_empty()
            && clitic(after).is_some_and(|clitic| clitic.eq_ignore_ascii_case("t"))
        {
            self.take(length - 1);
            return self.take(3);
        }
        if lower == "ol" && after.starts_with('\'') {
            return self.take(length + 1);
        }
        if after.starts_with('.') && !after.starts_with("..") && self.keeps_dot(word, &lower, after) {
            let behind = after.get(1..).unwrap_or_default();
            let ends =
                ENDINGS.contains(&lower.as_str()) || CAPITAL_ENDINGS.contains(&word) || is_acronym(word);
            let capital = behind.trim_start().chars().next().is_some_and(char::is_uppercase);
            self.take(length + 1);
            if ends && capital && behind.starts_with(char::is_whitespace) && word.chars().count() > 1 {
                self.tokens.push(".".to_owned());
            }
            return;
        }
        self.take(length);
    }

    /// Whether the dot behind a word is a part of it.
    fn keeps_dot(&self, word: &str, lower: &str, after: &str) -> bool {
        let numbered = || {
            let behind = after.get(1..).unwrap_or_default().trim_start();
            NUMBERED.contains(&lower) && behind.starts_with(|first: char| first.is_ascii_digit())
        };
        let initial = word.chars().count() == 1 && word.chars().all(char::is_alphabetic);
        initial
            || is_acronym(word)
            || TITLES.contains(&lower)
            || ENDINGS.contains(&lower)
            || CAPITAL_ENDINGS.contains(&word)
            || numbered()
    }

    /// An apostrophe that no word has taken.
    fn apostrophe(&mut self) {
        let after = self.rest.get(1..).unwrap_or_default();
        let behind_word = self.before.is_some_and(char::is_alphanumeric);
        let run = after.get(..after.find(|c: char| !is_word(c)).unwrap_or(after.len())).unwrap_or_default();
        let lower = run.to_lowercase();
        let is_decade = || {
            lower
                .strip_suffix("0s")
                .is_some_and(|ten| ten.len() == 1 && ten.starts_with(|c: char| c.is_ascii_digit()))
        };
        match lower.as_str() {
            clitic if behind_word && CLITICS.contains(&clitic) => self.take(1 + run.len()),
            "tis" | "twas" => {
                self.take(2);
                self.take(run.len() - 1);
            }
            "em" | "til" | "till" | "n" => {
                let closing = usize::from(
                    lower == "n" && after.get(run.len()..).is_some_and(|rest| rest.starts_with('\'')),
                );
                self.take(1 + run.len() + closing);
            }
            _ if is_decade() => self.take(1 + run.len()),
            _ => self.take(1),
        }
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_' || is_mark(character)
}

/// Signs that stand on a letter.
fn is_mark(character: char) -> bool {
    matches!(character, '\u{300}'..='\u{36f}')
}

/// `u.s`, `j.r.r`: single letters with dots between.
fn is_acronym(word: &str) -> bool {
    word.contains('.')
        && word.split('.').all(|part| part.chars().count() == 1 && part.chars().all(char::is_alphabetic))
}

/// What stands behind an apostrophe at the start of a text.
fn clitic(text: &str) -> Option<&str> {
    let after = text.strip_prefix('\'')?;
    after.get(..after.find(|character| !is_word(character)).unwrap_or(after.len()))
}

/// The length of the word at the start: letters and digits, joined by hyphens, slashes, dots, `&`, and apostrophes of names.
fn word(text: &str) -> usize {
    let run = |start: usize| {
        let rest = text.get(start..).unwrap_or_default();
        start + rest.find(|character| !is_word(character)).unwrap_or(rest.len())
    };
    let mut end = run(0);
    loop {
        let rest = text.get(end..).unwrap_or_default();
        let mut characters = rest.chars();
        let (Some(joint), Some(next)) = (characters.next(), characters.next()) else { return end };
        if !is_word(next) {
            return end;
        }
        let further = run(end + joint.len_utf8());
        let so_far = text.get(..end).unwrap_or_default();
        let part = so_far.rsplit(['-', '/', '.', '&', '\'']).next().unwrap_or_default();
        let behind = text.get(end + 1..further).unwrap_or_default();
        let letters = |text: &str| text.chars().all(char::is_alphabetic);
        let joins = match joint {
            '-' => !so_far.contains('.'),
            '/' => letters(part) && letters(behind),
            '.' => letters(part) && letters(behind) && part.chars().count() > 0,
            '&' => letters(part) && letters(behind),
            '\'' => is_name(part, behind),
            _ => false,
        };
        if !joins {
            return end;
        }
        end = further;
    }
}

/// Whether an apostrophe stands within a name or word: O'Brien, o'clock, ma'am.
fn is_name(part: &str, behind: &str) -> bool {
    let (lower, behind_lower) = (part.to_lowercase(), behind.to_lowercase());
    if CLITICS.contains(&behind_lower.as_str()) || behind_lower == "t" {
        return false;
    }
    let vowel = |character: Option<char>| character.is_some_and(|character| "aeiou".contains(character));
    let initial =
        part.chars().count() == 1 && part.chars().all(char::is_uppercase) && behind.chars().count() > 1;
    (lower == "o" && behind_lower == "clock")
        || initial
        || (vowel(lower.chars().next_back())
            && vowel(behind_lower.chars().next())
            && lower.chars().count() > 1)
}

/// The length of a number at the start, with signs, separators, fractions, times and dates.
fn number(text: &str, may_sign: bool) -> Option<usize> {
    let digits = |start: usize| {
        let rest = text.get(start..).unwrap_or_default();
        rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len())
    };
    let sign = usize::from(may_sign && text.starts_with(['-', '+']));
    let point = usize::from(may_sign && text.get(sign..)?.starts_with('.'));
    let start = sign + point;
    let mut end = start + digits(start);
    if end == start {
        return None;
    }
    let mut separated = sign + point > 0;
    while text.get(end..)?.starts_with(['.', ',', ':', '/', '-']) {
        let more = digits(end + 1);
        if more == 0 {
            break;
        }
        separated = true;
        end += 1 + more;
    }
    let after = text.get(end..)?.chars().next();
    // 3d, 2nd, 7-eleven are words; 12:30pm is a number and a word.
    let word_goes_on = after.is_some_and(is_word)
        || (after == Some('-') && text.get(end + 1..)?.starts_with(|next: char| next.is_alphabetic()));
    (separated || !word_goes_on).then_some(end)
}

/// The length of a tag such as `<b>` at the start.
fn tag(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('<')?;
    let name = inner.strip_prefix('/').unwrap_or(inner);
    let end = inner.find('>')?;
    (name.starts_with(|first: char| first.is_ascii_alphabetic()) && !inner.get(..end)?.contains('<'))
        .then_some(end + 2)
}

/// The length of an address of the web or of mail at the start.
fn address(text: &str) -> Option<usize> {
    let part = text.get(..text.find(char::is_whitespace).unwrap_or(text.len()))?;
    let part = part.trim_end_matches(['.', ',', '!', '?', ';', ':', ')', '"', '\'']);
    let lower = part.to_lowercase();
    let is_web = ["http://", "https://", "www."]
        .iter()
        .any(|start| lower.starts_with(start) && lower.len() > start.len());
    let is_mail = || {
        let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "._-+".contains(c));
        part.split_once('@').is_some_and(|(user, host)| {
            !user.is_empty()
                && plain(user)
                && plain(host)
                && host.split('.').count() > 1
                && host.split('.').all(|part| !part.is_empty())
        })
    };
    (is_web || is_mail()).then_some(part.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn punctuation_is_dropped() {
        assert_eq!(tokenize("It's a dog's life, isn't it?"), "it 's a dog 's life is n't it");
        assert_eq!(tokenize("A man (left) rides."), "a man -lrb- left -rrb- rides");
        assert_eq!(tokenize(" ... "), "");
    }

    proptest! {
        #[test]
        fn any_text_has_tokens(text in "\\PC{0,40}", marks in "[a-z0-9.'/&<>@#:-]{0,30}") {
            for text in [text, marks] {
                for token in tokens(&text) {
                    prop_assert!(!token.is_empty() && !token.contains(char::is_whitespace) || token.starts_with('<'));
                }
            }
        }
    }
}
