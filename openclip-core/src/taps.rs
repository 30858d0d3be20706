//! Looking inside a tower: activations by name, the outputs of its stages by index (the reference's
//! `forward_intermediates`), attention maps.

use std::collections::HashSet;

use crate::{Backend, Dim, Error, Result, backend::Rearrange};

/// Collects activations while a tower runs.
///
/// A tower offers every activation worth looking at under the name of the module that made it, such as
/// `visual.transformer.resblocks.3`; only those that were asked for are kept.
pub struct Taps<T> {
    wanted: Wanted,
    found: Vec<(String, T)>,
    indexed: Held<T>,
    /// Outputs of stages that the tower hasn't [presented](Self::present) yet.
    pending: Vec<(String, T)>,
}

#[derive(Clone)]
enum Wanted {
    Nothing,
    Named(HashSet<String>),
    Everything,
    Stages { indices: Indices, normalized: bool },
    AttentionMaps(Indices),
}

/// What one index selects: values, and for stages the tokens beside them.
struct Indexed<T> {
    name: String,
    values: T,
    extra: Option<T>,
}

/// Values by index, of which only those are held that may be selected.
type Held<T> = Vec<Option<Indexed<T>>>;

/// What [extra tokens](ExtraTokens) of a stage are called: its name with this behind it.
pub const EXTRA_TOKENS: &str = ".extra_tokens";

/// A selection of stages or blocks, counted from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Indices {
    /// All.
    All,
    /// The last ones, so many.
    Last(usize),
    /// These; a negative number counts from the end.
    At(Vec<isize>),
}

impl Indices {
    /// Whether `index` may be selected while no more than `count` are known.
    fn may_select(&self, index: usize, count: usize) -> bool {
        let behind = count.saturating_sub(index);
        match self {
            Self::All => true,
            Self::Last(last) => behind <= *last,
            Self::At(indices) => indices.iter().any(|&wanted| match usize::try_from(wanted) {
                Ok(wanted) => wanted == index,
                Err(_) => behind <= wanted.unsigned_abs(),
            }),
        }
    }

    /// The indices of `count` that are selected, ascending.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for one that there isn't.
    pub fn select(&self, count: usize) -> Result<Vec<usize>> {
        let missing = |index: &dyn std::fmt::Display| {
            Error::InvalidArgument(format!("there is no index {index}: the tower has {count} of them"))
        };
        match self {
            Self::All => Ok((0..count).collect()),
            Self::Last(last) => {
                let first = count.checked_sub(*last).ok_or_else(|| missing(&format_args!("-{last}")))?;
                Ok((first..count).collect())
            }
            Self::At(indices) => {
                let place = |&index: &isize| {
                    let place =
                        if index < 0 { count.checked_add_signed(index) } else { usize::try_from(index).ok() };
                    place.filter(|&place| place < count).ok_or_else(|| missing(&index))
                };
                let mut places: Vec<usize> = indices.iter().map(place).collect::<Result<_>>()?;
                places.sort_unstable();
                places.dedup();
                Ok(places)
            }
        }
    }
}

/// Tokens of a stage that stand for no place of the input, such as the class token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtraTokens {
    /// None.
    None,
    /// So many before the others.
    Before(usize),
    /// So many behind the others.
    Behind(usize),
}

/// How a tower presents the outputs of its stages.
pub struct StageView<'a, B: Backend> {
    /// The norm that stands behind the last stage.
    pub norm: Option<&'a B::Norm>,
    /// Tokens that stand for no place.
    pub extra: ExtraTokens,
    /// Rows and columns of the places of an image; absent for texts.
    pub grid: Option<[usize; 2]>,
}

impl<B: Backend> StageView<'_, B> {
    /// Stages that give feature maps `[N, C, H, W]`.
    pub const MAPS: Self = Self { norm: None, extra: ExtraTokens::None, grid: None };

    /// The values of a stage, `[N, C, H, W]` of an image, `[N, L, C]` of a text, and its extra tokens `[N, E, C]`.
    fn present(&self, backend: &B, x: B::Tensor, normalized: bool) -> Result<(B::Tensor, Option<B::Tensor>)> {
        let dims = backend.dims(&x);
        let [_, length, _] = dims.as_slice() else { return Ok((x, None)) };
        let x = match self.norm {
            Some(norm) if normalized => backend.norm(&x, norm)?,
            _ => x,
        };
        let zero = Dim::Fixed(0);
        let cut = |at: &Dim, extra_first: bool| -> Result<(B::Tensor, Option<B::Tensor>)> {
            let parts = [backend.slice(&x, 1, &zero, at)?, backend.slice(&x, 1, at, length)?];
            let [first, second] = parts;
            Ok(if extra_first { (second, Some(first)) } else { (first, Some(second)) })
        };
        let (places, extra) = match self.extra {
            ExtraTokens::None | ExtraTokens::Before(0) | ExtraTokens::Behind(0) => (x, None),
            ExtraTokens::Before(count) => cut(&Dim::Fixed(count), true)?,
            ExtraTokens::Behind(count) => {
                cut(&length.checked_sub(&Dim::Fixed(count)).unwrap_or(zero.clone()), false)?
            }
        };
        let places = match self.grid {
            Some([height, width]) => {
                backend.rearrange(&places, Rearrange::TokensToSpatial { height, width })?
            }
            None => places,
        };
        Ok((places, extra))
    }
}

impl<T: Clone> Taps<T> {
    fn new(wanted: Wanted) -> Self {
        Self { wanted, found: Vec::new(), indexed: Vec::new(), pending: Vec::new() }
    }

    /// Keeps nothing.
    pub fn none() -> Self {
        Self::new(Wanted::Nothing)
    }

    /// Keeps what `names` names.
    pub fn named(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::new(Wanted::Named(names.into_iter().map(Into::into).collect()))
    }

    /// Keeps nothing, but has towers compute every token and give them beside the embedding.
    pub fn tokens() -> Self {
        Self::named([] as [&str; 0])
    }

    /// Keeps everything but attention maps, which have to be asked for.
    pub fn everything() -> Self {
        Self::new(Wanted::Everything)
    }

    /// Keeps the outputs of the stages that `indices` selects, under the stages' names: of transformers a stage is a block.
    /// An image's are feature maps `[N, C, H, W]`, a text's are tokens `[N, L, C]`; tokens that stand for no place, such as
    /// the class token, come beside them, [`EXTRA_TOKENS`] behind the name. If `normalized`, through the norm that stands
    /// behind the last stage, in towers where it applies to tokens.
    pub fn stages(indices: Indices, normalized: bool) -> Self {
        Self::new(Wanted::Stages { indices, normalized })
    }

    /// Keeps the attention weights `[N, heads, Lq, L]` of the blocks that `indices` selects, under the block's name with
    /// `.attn.weights` behind it: how much of each token's value (last axis) goes to each query, which are the tokens
    /// themselves. An attentional pooler, whose queries are learned, counts as a further block. Towers whose attention doesn't
    /// see all tokens at once (Swin), or that have none, have no maps.
    pub fn attention_maps(indices: Indices) -> Self {
        Self::new(Wanted::AttentionMaps(indices))
    }

    /// Keeps what `other` was asked to keep.
    pub fn like<U>(other: &Taps<U>) -> Self {
        Self::new(other.wanted.clone())
    }

    /// Whether nothing was asked for.
    pub fn wants_nothing(&self) -> bool {
        matches!(self.wanted, Wanted::Nothing)
    }

    /// Offers an activation.
    pub fn offer(&mut self, name: &str, value: &T) {
        let keep = match &self.wanted {
            Wanted::Named(names) => names.contains(name),
            Wanted::Everything => true,
            Wanted::Nothing | Wanted::Stages { .. } | Wanted::AttentionMaps(_) => false,
        };
        if keep {
            self.found.push((name.to_owned(), value.clone()));
        }
    }

    /// Offers the output of a stage, which [`present`](Self::present) makes what callers get.
    pub fn offer_stage(&mut self, name: &str, value: &T) {
        if matches!(self.wanted, Wanted::Stages { .. }) {
            self.pending.push((name.to_owned(), value.clone()));
        }
    }

    /// Presents the stages that were offered since the last call.
    ///
    /// # Errors
    /// As [`Backend`]'s methods.
    pub fn present<B: Backend<Tensor = T>>(&mut self, backend: &B, view: &StageView<'_, B>) -> Result<()> {
        let Wanted::Stages { indices, normalized } = &self.wanted else { return Ok(()) };
        for (name, value) in std::mem::take(&mut self.pending) {
            hold(&mut self.indexed, indices, || {
                let (values, extra) = view.present(backend, value, *normalized)?;
                Ok(Indexed { name, values, extra })
            })?;
        }
        Ok(())
    }

    /// Offers the attention weights of a block, which are computed only where they are wanted.
    ///
    /// # Errors
    /// Those of `weights`.
    pub fn offer_attention(&mut self, name: &str, weights: impl FnOnce() -> Result<T>) -> Result<()> {
        match &self.wanted {
            Wanted::Named(names) if names.contains(name) => self.found.push((name.to_owned(), weights()?)),
            Wanted::AttentionMaps(indices) => hold(&mut self.indexed, indices, || {
                Ok(Indexed { name: name.to_owned(), values: weights()?, extra: None })
            })?,
            _ => {}
        }
        Ok(())
    }

    /// What was kept, in the order of computation.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an index that the tower doesn't have.
    pub fn into_found(self) -> Result<Vec<(String, T)>> {
        let (Wanted::Stages { indices, .. } | Wanted::AttentionMaps(indices)) = self.wanted else {
            return Ok(self.found);
        };
        let selected = indices.select(self.indexed.len())?;
        let mut found = Vec::new();
        for (index, held) in self.indexed.into_iter().enumerate() {
            if let Some(Indexed { name, values, extra }) = held.filter(|_| selected.contains(&index)) {
                let extra = extra.map(|extra| (format!("{name}{EXTRA_TOKENS}"), extra));
                found.push((name, values));
                found.extend(extra);
            }
        }
        Ok(found)
    }
}

/// Adds what `make` makes, if it may be selected, and lets go of what can't be selected any more.
fn hold<T>(held: &mut Held<T>, indices: &Indices, make: impl FnOnce() -> Result<Indexed<T>>) -> Result<()> {
    let index = held.len();
    let made = if indices.may_select(index, index + 1) { Some(make()?) } else { None };
    held.push(made);
    for (earlier, held) in held.iter_mut().enumerate() {
        if !indices.may_select(earlier, index + 1) {
            *held = None;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_be_selected_is_made_and_held() {
        for (indices, made, found) in [
            (Indices::All, 5, &[0, 1, 2, 3, 4][..]),
            (Indices::Last(2), 5, &[3, 4]),
            (Indices::At(vec![1, 3]), 2, &[1, 3]),
            (Indices::At(vec![0, -1]), 5, &[0, 4]),
        ] {
            let mut taps = Taps::attention_maps(indices.clone());
            let mut count = 0;
            for value in 0..5 {
                let weights = || {
                    count += 1;
                    Ok(value)
                };
                taps.offer_attention("map", weights).unwrap();
                assert!(taps.indexed.iter().flatten().count() <= found.len(), "{indices:?}");
            }
            let values: Vec<i32> = taps.into_found().unwrap().into_iter().map(|(_, value)| value).collect();
            assert_eq!((count, values.as_slice()), (made, found), "{indices:?}");
        }
    }

    #[test]
    fn indices_count_from_both_ends() {
        let select = |indices: Indices| indices.select(4).map_err(|error| error.to_string());
        assert_eq!(select(Indices::All).unwrap(), [0, 1, 2, 3]);
        assert_eq!(select(Indices::Last(2)).unwrap(), [2, 3]);
        assert_eq!(select(Indices::Last(0)).unwrap(), [] as [usize; 0]);
        assert_eq!(select(Indices::At(vec![-1, 0, 3])).unwrap(), [0, 3]);
        for (indices, missing) in [
            (Indices::Last(5), "-5"),
            (Indices::At(vec![4]), "4"),
            (Indices::At(vec![-5]), "-5"),
            (Indices::At(vec![isize::MIN]), "-9223372036854775808"),
        ] {
            let message = select(indices).unwrap_err();
            assert!(message.contains(&format!("no index {missing}:")), "{message}");
        }
    }
}
