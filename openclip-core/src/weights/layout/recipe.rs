//! How one tensor is made of stored ones: each is sliced, transposed or reshaped without moving an element, and the
//! results are put one after the other. Only what has to be moved is copied, and only when the tensor is read.

use std::borrow::Cow;

use super::super::{TensorData, TensorInfo, WeightSource, WeightsError, strided::Strided};

/// A change of a stored tensor's axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The axis of this place and the next become one.
    Merge(usize),
    /// The axes in another order: place `i` has the axis `order[i]`.
    Permute(&'static [usize]),
    /// The first axis, cut into three equal parts, from the part `.0` to before the part `.1`.
    Thirds(usize, usize),
    /// The first place of the first axis, without that axis.
    First,
    /// Without axes of one place.
    Squeeze,
    /// With an axis of one place in front.
    Unsqueeze,
    /// Zeros instead of the elements.
    Zeros,
}

/// The transposition of a matrix.
pub(super) const TRANSPOSE: &[Step] = &[Step::Permute(&[1, 0])];

/// How a tensor is made of stored ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recipe {
    /// The stored tensors, which end up one after the other along the first axis.
    pub(super) stored: Vec<String>,
    /// The place of the first axis of each that is taken before all else, without that axis.
    pub(super) slice: Option<usize>,
    /// What is done to each of them.
    pub(super) steps: &'static [Step],
}

impl Recipe {
    /// The stored tensor `name` as it is.
    pub(super) fn plain(name: String) -> Self {
        Self { stored: vec![name], slice: None, steps: &[] }
    }

    /// Where the elements of a part lie in a stored tensor. `None` if its axes don't allow the steps.
    fn view(&self, stored: &TensorInfo) -> Option<Strided> {
        let mut view = Strided::row_major(stored.dtype.size(), &stored.dims)?;
        if let Some(index) = self.slice {
            view = view.slice(index)?;
        }
        for step in self.steps {
            view = match *step {
                Step::Merge(axis) => view.merge(axis)?,
                Step::Permute(order) => view.permute(order)?,
                Step::Thirds(start, end) => {
                    let rows = *view.dims.first()?;
                    let third = rows.is_multiple_of(3).then_some(rows / 3)?;
                    view.narrow(third.checked_mul(start)?..third.checked_mul(end)?)?
                }
                Step::First => view.slice(0)?,
                Step::Squeeze => view.squeeze(),
                Step::Unsqueeze => view.unsqueeze(),
                Step::Zeros => view,
            };
        }
        Some(view)
    }

    /// Element type and dimensions of the whole, and of its parts where they lie in the tensors `stored`. `None` if they
    /// don't go together.
    fn assemble(&self, stored: &[TensorInfo]) -> Option<(TensorInfo, Vec<Strided>)> {
        let views: Vec<Strided> = stored.iter().map(|info| self.view(info)).collect::<Option<_>>()?;
        let dtype = stored.first()?.dtype;
        let mut dims = views.first()?.dims.clone();
        for (view, info) in views.iter().zip(stored).skip(1) {
            let ((rows, others), (more, same)) = (dims.split_first_mut()?, view.dims.split_first()?);
            if others != same || info.dtype != dtype {
                return None;
            }
            *rows = rows.checked_add(*more)?;
        }
        Some((TensorInfo { dtype, dims }, views))
    }

    /// Element type and dimensions of the tensor. `None` if a part is missing or can't be read. Where the parts don't go
    /// together these are what is stored, which is no more what the model needs.
    pub(super) fn info(&self, source: &dyn WeightSource) -> Option<TensorInfo> {
        let stored: Vec<TensorInfo> =
            self.stored.iter().map(|name| source.info(name)).collect::<Option<_>>()?;
        match self.assemble(&stored) {
            Some((info, _)) => Some(info),
            None => stored.into_iter().next(),
        }
    }

    /// The tensor, which the model needs in dimensions `dims`.
    ///
    /// # Errors
    /// [`WeightsError`] when a part is missing or can't be read, and when the parts don't go together.
    pub(super) fn read<'a>(
        &self,
        source: &'a dyn WeightSource,
        dims: &[usize],
    ) -> Result<TensorData<'a>, WeightsError> {
        if let ([name], None, []) = (&self.stored[..], self.slice, self.steps) {
            return source.read(name, dims);
        }
        let parts: Vec<TensorData<'a>> =
            self.stored.iter().map(|name| source.read(name, dims)).collect::<Result<_, _>>()?;
        let stored: Vec<TensorInfo> = parts.iter().map(|part| part.info.clone()).collect();
        let unfit = |found: Vec<usize>| WeightsError::Mismatched {
            origin: source.origin(),
            name: self.display_name(source),
            expected: dims.to_vec(),
            found,
        };
        let (info, views) = self
            .assemble(&stored)
            .ok_or_else(|| unfit(stored.first().map(|info| info.dims.clone()).unwrap_or_default()))?;
        if self.steps.contains(&Step::Zeros) {
            let bytes = info.count().and_then(|count| count.checked_mul(info.dtype.size()));
            let bytes = bytes.ok_or_else(|| unfit(info.dims.clone()))?;
            return Ok(TensorData { info, bytes: Cow::Owned(vec![0; bytes]) });
        }
        let mut parts = parts.into_iter().zip(&views).map(|(part, view)| {
            elements(part.bytes, view).map_err(|message| {
                tracing::debug!(message, parts = ?self.stored, "not readable in this form");
                unfit(part.info.dims)
            })
        });
        let mut bytes = parts.next().unwrap_or(Ok(Cow::Borrowed(&[])))?;
        for part in parts {
            bytes.to_mut().extend_from_slice(&part?);
        }
        Ok(TensorData { info, bytes })
    }

    /// What error messages call the tensor: the tensors of the file that it is made of, or those of them that the file
    /// doesn't have. Several are written as one, with what differs in braces.
    pub(super) fn display_name(&self, source: &dyn WeightSource) -> String {
        let names = |all: bool| -> Vec<String> {
            let names = self.stored.iter().filter(|name| all || source.info(name).is_none());
            names.map(|name| source.display_name(name)).collect()
        };
        let missing = names(false);
        let shown = braced(&if missing.is_empty() { names(true) } else { missing });
        match self.slice {
            Some(index) => format!("{shown}[{index}]"),
            None => shown,
        }
    }
}

/// The elements of `bytes` that `view` shows, in row-major order.
fn elements<'a>(bytes: Cow<'a, [u8]>, view: &Strided) -> Result<Cow<'a, [u8]>, String> {
    match bytes {
        Cow::Borrowed(bytes) => view.elements(bytes),
        Cow::Owned(bytes) => {
            let moved = match view.elements(&bytes)? {
                Cow::Borrowed(all) if all.len() == bytes.len() => None,
                part => Some(part.into_owned()),
            };
            Ok(Cow::Owned(moved.unwrap_or(bytes)))
        }
    }
}

/// Names that are alike as one: `a.{x,y}.b`.
fn braced(names: &[String]) -> String {
    let [first, others @ ..] = names else { return String::new() };
    if others.is_empty() {
        return first.clone();
    }
    let alike = |pairs: &mut dyn Iterator<Item = (char, char)>| {
        pairs.take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum::<usize>()
    };
    let before = others.iter().map(|other| alike(&mut first.chars().zip(other.chars()))).min().unwrap_or(0);
    let (start, rest) = first.split_at(before);
    let after = others
        .iter()
        .filter_map(|other| other.get(before..))
        .map(|other| alike(&mut rest.chars().rev().zip(other.chars().rev())))
        .min()
        .unwrap_or(0);
    let different: Vec<&str> =
        names.iter().filter_map(|name| name.get(before..name.len().checked_sub(after)?)).collect();
    let end = first.get(first.len().saturating_sub(after)..).unwrap_or_default();
    format!("{start}{{{}}}{end}", different.join(","))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::weights::{DType, SafetensorsFile, save_safetensors};

    /// A file with `a [2, 3]` of 0 to 5, `b [2, 3]` of 10 to 15, and `c [1, 2]` in f16.
    fn source() -> Arc<dyn WeightSource> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("parts.safetensors");
        let values = |start: u8| (0..6).map(|i| f32::from(start + i)).collect::<Vec<f32>>();
        let half = TensorInfo { dtype: DType::F16, dims: vec![1, 2] };
        let tensors = [
            ("a".to_owned(), TensorData::from_f32(&[2, 3], &values(0))),
            ("b".to_owned(), TensorData::from_f32(&[2, 3], &values(10))),
            ("c".to_owned(), TensorData { info: half, bytes: vec![0; 4].into() }),
        ];
        save_safetensors(&path, tensors, None).unwrap();
        Arc::new(SafetensorsFile::from_bytes("parts", std::fs::read(&path).unwrap()).unwrap())
    }

    fn recipe(stored: &[&str], slice: Option<usize>, steps: &'static [Step]) -> Recipe {
        Recipe { stored: stored.iter().map(|&name| name.to_owned()).collect(), slice, steps }
    }

    #[test]
    fn parts_are_cut_turned_and_joined() {
        let source = source();
        let cases: [(Recipe, &[usize], &[f32]); 8] = [
            (recipe(&["a"], None, TRANSPOSE), &[3, 2], &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]),
            (recipe(&["a"], Some(1), &[]), &[3], &[3.0, 4.0, 5.0]),
            (recipe(&["a", "b"], Some(0), &[]), &[6], &[0.0, 1.0, 2.0, 10.0, 11.0, 12.0]),
            (recipe(&["a"], None, &[Step::Merge(0), Step::Thirds(1, 3)]), &[4], &[2.0, 3.0, 4.0, 5.0]),
            (recipe(&["a"], None, &[Step::Unsqueeze]), &[1, 2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]),
            (recipe(&["a"], None, &[Step::Unsqueeze, Step::Squeeze, Step::First]), &[3], &[0.0, 1.0, 2.0]),
            (recipe(&["a"], None, &[Step::First, Step::Zeros]), &[3], &[0.0; 3]),
            (
                recipe(&["b", "a"], None, TRANSPOSE),
                &[6, 2],
                &[10.0, 13.0, 11.0, 14.0, 12.0, 15.0, 0.0, 3.0, 1.0, 4.0, 2.0, 5.0],
            ),
        ];
        for (recipe, dims, values) in cases {
            let data = recipe.read(&*source, dims).unwrap();
            assert_eq!((&data.info.dims[..], &data.to_f32()[..]), (dims, values), "{recipe:?}");
            assert_eq!(recipe.info(&*source), Some(data.info), "{recipe:?}");
        }
    }

    #[test]
    fn what_lies_in_order_is_not_copied() {
        let source = source();
        for steps in [&[][..], &[Step::Unsqueeze], &[Step::First], &[Step::Merge(0), Step::Thirds(1, 2)]] {
            let data = recipe(&["a"], None, steps).read(&*source, &[]).unwrap();
            assert!(matches!(data.bytes, Cow::Borrowed(_)), "{steps:?}");
        }
    }

    #[test]
    fn parts_that_do_not_go_together_are_a_mismatch() {
        let source = source();
        for (recipe, name) in [
            (recipe(&["a", "c"], None, &[]), "`{a,c}`"),
            (recipe(&["a"], Some(2), &[]), "`a[2]`"),
            (recipe(&["a"], None, &[Step::Permute(&[2, 0, 1])]), "`a`"),
            (recipe(&["a"], None, &[Step::Thirds(0, 1)]), "`a`"),
            (recipe(&["a"], None, &[Step::Permute(&[1, 0]), Step::Merge(0)]), "`a`"),
        ] {
            assert_eq!(recipe.info(&*source).unwrap().dims, [2, 3], "{recipe:?}");
            let error = recipe.read(&*source, &[7]).unwrap_err().to_string();
            let expected = format!("parts: tensor {name} has dimensions [2, 3], the model needs [7]");
            assert_eq!(error, expected, "{recipe:?}");
        }
    }

    #[test]
    fn a_missing_part_is_named() {
        let source = source();
        let recipe = recipe(&["a", "q", "b"], None, &[]);
        assert_eq!(recipe.info(&*source), None);
        assert_eq!(recipe.display_name(&*source), "q");
        let error = recipe.read(&*source, &[6, 3]).unwrap_err().to_string();
        assert_eq!(error, "parts: tensor `q` [6, 3] is missing");
    }

    #[test]
    fn names_that_are_alike_are_shown_as_one() {
        let shown = |names: &[&str]| braced(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        assert_eq!(shown(&["attn.q_proj.weight", "attn.k_proj.weight"]), "attn.{q,k}_proj.weight");
        assert_eq!(shown(&["x/query/b", "x/key/b", "x/value/b"]), "x/{query,key,value}/b");
        assert_eq!(shown(&["aa", "a"]), "a{a,}");
        assert_eq!(shown(&["one"]), "one");
        assert_eq!(shown(&["aé", "aè"]), "a{é,è}");
    }
}
