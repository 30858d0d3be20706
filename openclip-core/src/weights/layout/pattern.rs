//! Patterns of tensor names, by which a layout says how the names of two programs correspond.
//!
//! `#` stands for a number. `@` stands for the number of a layer in a program that either keeps layers apart, as
//! `layer_3`, or stacks them in one tensor, as `layer`. `*` at the end stands for the rest of a name. Everything else
//! stands for itself.

/// What a pattern's marks stand for in a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Captures {
    pub(super) numbers: Vec<usize>,
    /// The name is that of stacked layers, so that the number of a layer is still to be added.
    pub(super) stacked: bool,
    pub(super) rest: String,
}

const MARKS: [char; 3] = ['#', '@', '*'];

/// What `pattern` takes from `name`, if it fits.
pub(super) fn captures(pattern: &str, name: &str) -> Option<Captures> {
    let (mut pattern, mut name) = (pattern, name);
    let mut captures = Captures::default();
    loop {
        let (literal, marked) = pattern.split_at(pattern.find(MARKS).unwrap_or(pattern.len()));
        name = name.strip_prefix(literal)?;
        let mut marks = marked.chars();
        match marks.next() {
            None => return name.is_empty().then_some(captures),
            Some('#') => {
                let (number, rest) = number(name)?;
                captures.numbers.push(number);
                name = rest;
            }
            Some('@') => match name.strip_prefix('_').and_then(number) {
                Some((number, rest)) => {
                    captures.numbers.push(number);
                    name = rest;
                }
                None => captures.stacked = true,
            },
            Some(_) => {
                captures.rest = name.to_owned();
                return (!name.is_empty()).then_some(captures);
            }
        }
        pattern = marks.as_str();
    }
}

/// The number that `text` starts with, as a program would write it, and what follows.
fn number(text: &str) -> Option<(usize, &str)> {
    let (digits, rest) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number = digits.parse().ok()?;
    (digits == "0" || !digits.starts_with('0')).then_some((number, rest))
}

/// The name that fits `pattern` and from which it takes `captures`.
pub(super) fn name(pattern: &str, captures: &Captures) -> String {
    let mut numbers = captures.numbers.iter();
    let mut name = String::with_capacity(pattern.len() + captures.rest.len());
    for c in pattern.chars() {
        match c {
            '#' => name.extend(numbers.next().map(usize::to_string)),
            '@' if captures.stacked => {}
            '@' => name.extend(numbers.next().map(|number| format!("_{number}"))),
            '*' => name.push_str(&captures.rest),
            c => name.push(c),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_through_patterns_and_back() {
        for (pattern, text, numbers, stacked, rest) in [
            ("a.b", "a.b", &[][..], false, ""),
            ("a.#.b.#", "a.12.b.0", &[12, 0], false, ""),
            ("a.#.b_*", "a.3.b_proj.weight", &[3], false, "proj.weight"),
            ("a/layer@/b", "a/layer_7/b", &[7], false, ""),
            ("a/layer@/b", "a/layer/b", &[], true, ""),
        ] {
            let found = captures(pattern, text).unwrap();
            assert_eq!(found, Captures { numbers: numbers.to_vec(), stacked, rest: rest.to_owned() });
            assert_eq!(name(pattern, &found), text);
        }
    }

    #[test]
    fn other_names_do_not_fit() {
        for (pattern, text) in [
            ("a.b", "a.bc"),
            ("a.b", "a"),
            ("a.#", "a.x"),
            ("a.#", "a.01"),
            ("a.#", "a.99999999999999999999999"),
            ("a.#.b", "a.1"),
            ("a.*", "a."),
            ("a.*", "b.c"),
            ("layer@/b", "layer_x/b"),
            ("layer@/b", "layers/b"),
        ] {
            assert_eq!(captures(pattern, text), None, "{pattern} {text}");
        }
    }
}
