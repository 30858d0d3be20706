//! What a graph takes and gives, as far as an encoder has to know: for recorded towers, and for files from elsewhere that
//! have the same purpose and perhaps other names.

use openclip_core::{Error, Result, TowerConfig};
use ort::{
    session::Session,
    value::{Outlet, TensorElementType, ValueType},
};

use crate::{IMAGE_EMBEDS, TEXT_EMBEDS};

/// Values of a batch above which a file's claim about its input isn't believed.
const LARGEST_INPUT: usize = 1 << 28;

/// Integers that a graph takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integer {
    Int32,
    Int64,
}

/// What a graph takes and gives.
#[derive(Clone, Debug)]
pub struct Interface {
    /// The input for pixels or ids.
    pub input: String,
    /// The input's dimensions, where they are fixed.
    pub dims: Vec<Option<usize>>,
    /// Type of token ids.
    pub ids: Integer,
    /// The input that says which tokens aren't padding, where there is one.
    pub mask: Option<(String, Integer)>,
    /// The output for embeddings.
    pub output: String,
    /// Width of the embeddings, where it is fixed.
    pub embed_dim: Option<usize>,
}

impl Interface {
    /// Of an image graph: floats `[N, 3, H, W]` to floats `[N, D]`.
    pub fn of_images(model: &str, session: &Session) -> Result<Self> {
        let fits = |outlet: &&Outlet| tensor(outlet) == Some((TensorElementType::Float32, 4));
        let input = the_only(model, session.inputs(), "float32 [N, 3, H, W]", fits)?;
        if session.inputs().len() > 1 {
            return Err(does_not_fit(model, "input", "only float32 [N, 3, H, W]", session.inputs()));
        }
        Self::new(model, session, input, Integer::Int64, None, IMAGE_EMBEDS)
    }

    /// Of a text graph: integers `[N, L]`, and perhaps a mask of the same size, to floats `[N, D]`.
    pub fn of_texts(model: &str, session: &Session) -> Result<Self> {
        let expected = "int64 or int32 [N, L], and perhaps an attention_mask like it";
        let is_mask = |outlet: &Outlet| outlet.name().contains("mask");
        let fits = |outlet: &&Outlet| integer(outlet).is_some() && !is_mask(outlet);
        let input = the_only(model, session.inputs(), expected, fits)?;
        let ids = integer(input).unwrap_or(Integer::Int64);
        let mut others = session.inputs().iter().filter(|outlet| outlet.name() != input.name());
        let mask = match others.next() {
            None => None,
            Some(mask) => match integer(mask) {
                Some(kind) if is_mask(mask) => Some((mask.name().to_owned(), kind)),
                _ => return Err(does_not_fit(model, "input", expected, session.inputs())),
            },
        };
        if others.next().is_some() {
            return Err(does_not_fit(model, "input", expected, session.inputs()));
        }
        Self::new(model, session, input, ids, mask, TEXT_EMBEDS)
    }

    fn new(
        model: &str,
        session: &Session,
        input: &Outlet,
        ids: Integer,
        mask: Option<(String, Integer)>,
        usual_output: &str,
    ) -> Result<Self> {
        let outputs = session.outputs();
        let output = match outputs.iter().find(|outlet| outlet.name() == usual_output) {
            Some(output) => output,
            None => {
                let fits = |outlet: &&Outlet| tensor(outlet) == Some((TensorElementType::Float32, 2));
                the_only(model, outputs, &format!("float32 [N, D], or one called {usual_output}"), fits)?
            }
        };
        Ok(Self {
            input: input.name().to_owned(),
            dims: dims(input),
            ids,
            mask,
            output: output.name().to_owned(),
            embed_dim: dims(output).last().copied().flatten(),
        })
    }

    /// The size of an axis of the input, where it is fixed.
    pub fn fixed(&self, axis: usize) -> Option<usize> {
        self.dims.get(axis).copied().flatten()
    }

    /// The number of rows of every batch, where it is fixed.
    pub fn batch(&self) -> Option<usize> {
        self.fixed(0)
    }

    /// Checks that a batch of such rows, and embeddings of that width, could exist: a file can claim any size.
    ///
    /// # Errors
    /// [`Error::Config`] naming `model`.
    pub fn check_sizes(&self, model: &str, row: &[(&str, usize)], embed_dim: usize) -> Result<()> {
        let batch = ("batch", self.batch().unwrap_or(1));
        TowerConfig::check_sizes(model, &[&[batch, ("embed_dim", embed_dim)], row].concat())?;
        let values = row.iter().try_fold(batch.1, |values, (_, size)| values.checked_mul(*size));
        match values {
            Some(values) if values <= LARGEST_INPUT => Ok(()),
            _ => Err(Error::config(model, format!("its input of {:?} is too large", self.dims))),
        }
    }
}

/// The one outlet that `fits`.
fn the_only<'a>(
    model: &str,
    outlets: &'a [Outlet],
    expected: &str,
    fits: impl Fn(&&Outlet) -> bool,
) -> Result<&'a Outlet> {
    let mut found = outlets.iter().filter(|outlet| fits(outlet));
    match (found.next(), found.next()) {
        (Some(outlet), None) => Ok(outlet),
        _ => Err(does_not_fit(model, "input or output", expected, outlets)),
    }
}

fn does_not_fit(model: &str, what: &str, expected: &str, found: &[Outlet]) -> Error {
    let found: Vec<String> =
        found.iter().map(|outlet| format!("{} {}", outlet.name(), outlet.dtype())).collect();
    Error::config(model, format!("one {what} should be {expected}; the graph has {}", found.join(", ")))
}

/// Element type and number of axes.
fn tensor(outlet: &Outlet) -> Option<(TensorElementType, usize)> {
    match outlet.dtype() {
        ValueType::Tensor { ty, shape, .. } => Some((*ty, shape.len())),
        _ => None,
    }
}

fn integer(outlet: &Outlet) -> Option<Integer> {
    match tensor(outlet) {
        Some((TensorElementType::Int64, 2)) => Some(Integer::Int64),
        Some((TensorElementType::Int32, 2)) => Some(Integer::Int32),
        _ => None,
    }
}

fn dims(outlet: &Outlet) -> Vec<Option<usize>> {
    match outlet.dtype() {
        ValueType::Tensor { shape, .. } => shape.iter().map(|&size| usize::try_from(size).ok()).collect(),
        _ => Vec::new(),
    }
}
