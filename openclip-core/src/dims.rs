//! Dimensions that may be symbolic. An eager backend has numbers only; a recording backend runs a model once with
//! symbols for the batch size and the sequence length, and every dimension derived from them stays an expression.
//!
//! An expression is a polynomial over symbols with integer coefficients, kept in a normal form so that equal
//! expressions compare equal: `(n + 1) * 2 == 2 * n + 2`.

use std::{collections::BTreeMap, fmt, ops, sync::Arc};

/// A dimension that is known when a model runs, not when it is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Symbol(pub &'static str);

impl Symbol {
    /// Number of inputs that run together, `N`.
    pub const BATCH: Self = Self("batch");
    /// Number of tokens per text, `L`.
    pub const SEQUENCE: Self = Self("sequence");
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// One dimension of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dim {
    /// A number.
    Fixed(usize),
    /// An expression with at least one symbol in it.
    Sym(Arc<Expression>),
}

/// The dimensions of a tensor, outermost first.
pub type Dims = Vec<Dim>;

/// A product of symbols with repetition, sorted; empty for the constant term.
type Monomial = Vec<Symbol>;

/// A polynomial over symbols that isn't a constant. Made by arithmetic on [`Dim`] alone, which keeps it normal: no
/// term has coefficient zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression {
    terms: BTreeMap<Monomial, i64>,
}

impl Dim {
    /// The symbol by itself.
    pub fn symbol(symbol: Symbol) -> Self {
        Self::from_terms(BTreeMap::from([(vec![symbol], 1)]))
    }

    /// The number, if it is one.
    pub fn fixed(&self) -> Option<usize> {
        match self {
            Self::Fixed(value) => Some(*value),
            Self::Sym(_) => None,
        }
    }

    /// The value once every symbol has one. `None` when a symbol has no value, or the result is negative or too large.
    pub fn evaluate(&self, value: impl Fn(Symbol) -> Option<usize>) -> Option<usize> {
        let mut total = 0_i64;
        for (monomial, &coefficient) in &self.terms() {
            let mut product = coefficient;
            for &symbol in monomial {
                product = product.checked_mul(i64::try_from(value(symbol)?).ok()?)?;
            }
            total = total.checked_add(product)?;
        }
        usize::try_from(total).ok()
    }

    /// `self / divisor` where that leaves no remainder whatever the symbols' values.
    pub fn checked_div(&self, divisor: usize) -> Option<Self> {
        let divisor = i64::try_from(divisor).ok().filter(|&divisor| divisor > 0)?;
        let mut terms = self.terms();
        for coefficient in terms.values_mut() {
            if *coefficient % divisor != 0 {
                return None;
            }
            *coefficient /= divisor;
        }
        Some(Self::from_terms(terms))
    }

    /// `self - other`, if that can be a dimension: not a negative number.
    pub fn checked_sub(&self, other: &Self) -> Option<Self> {
        let mut terms = self.terms();
        for (monomial, coefficient) in other.terms() {
            *terms.entry(monomial).or_default() -= coefficient;
        }
        match Self::constant(&terms) {
            Some(value) if value < 0 => None,
            _ => Some(Self::from_terms(terms)),
        }
    }

    /// The dimension as a sum: products of symbols with their coefficients, the constant term as an empty product.
    pub fn to_sum(&self) -> Vec<(Vec<Symbol>, i64)> {
        self.terms().into_iter().collect()
    }

    fn terms(&self) -> BTreeMap<Monomial, i64> {
        match self {
            Self::Fixed(0) => BTreeMap::new(),
            Self::Fixed(value) => BTreeMap::from([(Monomial::new(), *value as i64)]),
            Self::Sym(expression) => expression.terms.clone(),
        }
    }

    /// The value of a polynomial without symbols.
    fn constant(terms: &BTreeMap<Monomial, i64>) -> Option<i64> {
        let mut nonzero = terms.iter().filter(|&(_, &coefficient)| coefficient != 0);
        match (nonzero.next(), nonzero.next()) {
            (None, _) => Some(0),
            (Some((monomial, &value)), None) if monomial.is_empty() => Some(value),
            _ => None,
        }
    }

    fn from_terms(mut terms: BTreeMap<Monomial, i64>) -> Self {
        terms.retain(|_, coefficient| *coefficient != 0);
        match Self::constant(&terms) {
            Some(value) => Self::Fixed(value.max(0) as usize),
            None => Self::Sym(Arc::new(Expression { terms })),
        }
    }
}

impl From<usize> for Dim {
    fn from(value: usize) -> Self {
        Self::Fixed(value)
    }
}

impl PartialEq<usize> for Dim {
    fn eq(&self, other: &usize) -> bool {
        self.fixed() == Some(*other)
    }
}

impl ops::Add for &Dim {
    type Output = Dim;

    fn add(self, other: &Dim) -> Dim {
        if let (Dim::Fixed(a), Dim::Fixed(b)) = (self, other) {
            return Dim::Fixed(a + b);
        }
        let mut terms = self.terms();
        for (monomial, coefficient) in other.terms() {
            *terms.entry(monomial).or_default() += coefficient;
        }
        Dim::from_terms(terms)
    }
}

impl ops::Mul for &Dim {
    type Output = Dim;

    fn mul(self, other: &Dim) -> Dim {
        if let (Dim::Fixed(a), Dim::Fixed(b)) = (self, other) {
            return Dim::Fixed(a * b);
        }
        let mut terms = BTreeMap::new();
        for (left, a) in self.terms() {
            for (right, b) in other.terms() {
                let mut monomial = left.clone();
                monomial.extend(right);
                monomial.sort_unstable();
                *terms.entry(monomial).or_default() += a * b;
            }
        }
        Dim::from_terms(terms)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let expression = match self {
            Self::Fixed(value) => return write!(f, "{value}"),
            Self::Sym(expression) => expression,
        };
        // The constant term sorts first; people expect it last.
        let (constant, symbolic): (Vec<_>, Vec<_>) =
            expression.terms.iter().partition(|(monomial, _)| monomial.is_empty());
        for (index, (monomial, &coefficient)) in symbolic.into_iter().chain(constant).enumerate() {
            match (index, coefficient < 0) {
                (0, true) => f.write_str("-")?,
                (0, false) => {}
                (_, true) => f.write_str(" - ")?,
                (_, false) => f.write_str(" + ")?,
            }
            let magnitude = coefficient.unsigned_abs();
            let mut factors: Vec<String> = monomial.iter().map(Symbol::to_string).collect();
            if magnitude != 1 || factors.is_empty() {
                factors.insert(0, magnitude.to_string());
            }
            f.write_str(&factors.join("*"))?;
        }
        Ok(())
    }
}

/// Dimensions as error messages show them: `[batch, 77, 512]`.
pub struct DisplayDims<'a>(pub &'a [Dim]);

impl fmt::Display for DisplayDims<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (index, dim) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{dim}")?;
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An arithmetic expression, to be computed both symbolically and with numbers.
    #[derive(Clone, Debug)]
    enum Tree {
        Number(usize),
        Batch,
        Sequence,
        Add(Box<Tree>, Box<Tree>),
        Mul(Box<Tree>, Box<Tree>),
    }

    impl Tree {
        fn symbolic(&self) -> Dim {
            match self {
                Self::Number(value) => Dim::Fixed(*value),
                Self::Batch => Dim::symbol(Symbol::BATCH),
                Self::Sequence => Dim::symbol(Symbol::SEQUENCE),
                Self::Add(a, b) => &a.symbolic() + &b.symbolic(),
                Self::Mul(a, b) => &a.symbolic() * &b.symbolic(),
            }
        }

        fn number(&self, batch: usize, sequence: usize) -> usize {
            match self {
                Self::Number(value) => *value,
                Self::Batch => batch,
                Self::Sequence => sequence,
                Self::Add(a, b) => a.number(batch, sequence) + b.number(batch, sequence),
                Self::Mul(a, b) => a.number(batch, sequence) * b.number(batch, sequence),
            }
        }
    }

    fn tree() -> impl Strategy<Value = Tree> {
        let leaf = prop_oneof![(0_usize..5).prop_map(Tree::Number), Just(Tree::Batch), Just(Tree::Sequence)];
        leaf.prop_recursive(4, 12, 2, |inner| {
            let pair = (inner.clone(), inner);
            prop_oneof![
                pair.clone().prop_map(|(a, b)| Tree::Add(Box::new(a), Box::new(b))),
                pair.prop_map(|(a, b)| Tree::Mul(Box::new(a), Box::new(b))),
            ]
        })
    }

    fn at(batch: usize, sequence: usize) -> impl Fn(Symbol) -> Option<usize> {
        move |symbol| Some(if symbol == Symbol::BATCH { batch } else { sequence })
    }

    proptest! {
        #[test]
        fn arithmetic_commutes_with_evaluation(tree in tree(), batch in 0_usize..5, sequence in 0_usize..5) {
            prop_assert_eq!(tree.symbolic().evaluate(at(batch, sequence)), Some(tree.number(batch, sequence)));
        }

        #[test]
        fn the_sum_has_the_value(tree in tree(), batch in 0_usize..5, sequence in 0_usize..5) {
            let value = |symbol| if symbol == Symbol::BATCH { batch } else { sequence } as i64;
            let sum = tree.symbolic().to_sum();
            let total: i64 = sum
                .iter()
                .map(|(symbols, coefficient)| coefficient * symbols.iter().map(|&s| value(s)).product::<i64>())
                .sum();
            prop_assert_eq!(total, tree.number(batch, sequence) as i64);
        }

        #[test]
        fn ring_laws_hold_in_normal_form(a in tree(), b in tree(), c in tree()) {
            let (a, b, c) = (a.symbolic(), b.symbolic(), c.symbolic());
            prop_assert_eq!(&a + &b, &b + &a);
            prop_assert_eq!(&a * &b, &b * &a);
            prop_assert_eq!(&(&a + &b) + &c, &a + &(&b + &c));
            prop_assert_eq!(&(&a * &b) * &c, &a * &(&b * &c));
            prop_assert_eq!(&a * &(&b + &c), &(&a * &b) + &(&a * &c));
            prop_assert_eq!(&a * &Dim::Fixed(1), a.clone());
            prop_assert_eq!(&a + &Dim::Fixed(0), a);
        }

        #[test]
        fn subtraction_and_division_undo(a in tree(), b in tree(), n in 1_usize..9) {
            let (a, b) = (a.symbolic(), b.symbolic());
            prop_assert_eq!((&a + &b).checked_sub(&b), Some(a.clone()));
            prop_assert_eq!((&a * &Dim::Fixed(n)).checked_div(n), Some(a));
        }
    }

    #[test]
    fn display_puts_the_constant_last() {
        let n = Dim::symbol(Symbol::BATCH);
        let l = Dim::symbol(Symbol::SEQUENCE);
        let dim = &(&(&n * &l) * &Dim::Fixed(2)) + &Dim::Fixed(1);
        assert_eq!(dim.to_string(), "2*batch*sequence + 1");
        assert_eq!(l.checked_sub(&Dim::Fixed(1)).unwrap().to_string(), "sequence - 1");
        assert_eq!(DisplayDims(&[n, Dim::Fixed(77)]).to_string(), "[batch, 77]");
    }

    #[test]
    fn impossible_dimensions_are_none() {
        assert_eq!(Dim::Fixed(1).checked_sub(&Dim::Fixed(2)), None);
        assert_eq!(Dim::Fixed(7).checked_div(2), None);
        assert_eq!(Dim::Fixed(7).checked_div(0), None);
        assert_eq!(Dim::symbol(Symbol::BATCH).evaluate(|_| None), None);
    }
}
