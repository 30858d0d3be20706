//! The scoped view that models are built from.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{LoadReport, MismatchedTensor, MissingTensor, TensorData, TensorInfo, WeightSource, WeightsError};
use crate::{HostTensor, Result};

/// Computes a tensor in the dimensions that the model needs from the one that the checkpoint has.
type Adapt = Arc<dyn Fn(&TensorData<'_>) -> Result<HostTensor> + Send + Sync>;

/// A view of a checkpoint below a scope such as `visual.transformer.resblocks.3.attn`.
///
/// Cheap to clone. All views of one checkpoint share the account of what was asked for, which
/// [`report`](Self::report) evaluates.
#[derive(Clone)]
pub struct Weights {
    shared: Arc<Shared>,
    scope: String,
    /// Full name -> how its stored tensor becomes the one that the model needs.
    adapted: Arc<HashMap<String, Adapt>>,
}

struct Shared {
    source: Arc<dyn WeightSource>,
    survey: bool,
    requests: Mutex<Vec<(String, Vec<usize>)>>,
    mismatched: Mutex<Vec<MismatchedTensor>>,
    missing: Mutex<Vec<MissingTensor>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Weights {
    /// All of `source`; the first tensor that is missing or of other dimensions is an error.
    pub fn new(source: Arc<dyn WeightSource>) -> Self {
        Self::with_mode(source, false)
    }

    /// All of `source`, for building a model on a backend that computes shapes only: nothing is read, and missing or
    /// mismatched tensors are collected for [`report`](Self::report) instead of being errors.
    pub fn survey(source: Arc<dyn WeightSource>) -> Self {
        Self::with_mode(source, true)
    }

    fn with_mode(source: Arc<dyn WeightSource>, survey: bool) -> Self {
        let shared = Shared {
            source,
            survey,
            requests: Mutex::default(),
            mismatched: Mutex::default(),
            missing: Mutex::default(),
        };
        Self { shared: Arc::new(shared), scope: String::new(), adapted: Arc::default() }
    }

    /// The view one level down: `w.scope("visual").scope("conv1")`.
    pub fn scope(&self, name: impl AsRef<str>) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            scope: self.path(name.as_ref()),
            adapted: Arc::clone(&self.adapted),
        }
    }

    /// The view's own scope: the path from the checkpoint's root.
    pub fn scope_name(&self) -> &str {
        &self.scope
    }

    /// The full name of `name` below this scope.
    pub fn path(&self, name: &str) -> String {
        match (self.scope.is_empty(), name.is_empty()) {
            (true, _) => name.to_owned(),
            (false, true) => self.scope.clone(),
            (false, false) => format!("{}.{name}", self.scope),
        }
    }

    /// What error messages call the checkpoint.
    pub fn origin(&self) -> String {
        self.shared.source.origin()
    }

    /// Whether the checkpoint stores a tensor `name` below this scope. False for sources that make any tensor on
    /// request: what a model consists of follows from its configuration, not from its checkpoint.
    pub fn contains(&self, name: &str) -> bool {
        self.stored(name).is_some()
    }

    /// Element type and dimensions of `name` as stored.
    pub fn stored(&self, name: &str) -> Option<TensorInfo> {
        self.shared.source.info(&self.path(name))
    }

    /// A view in which `name` is computed by `adapt` from the stored tensor, for parameters that a checkpoint may
    /// hold at another resolution. `adapt` runs only when the tensor is read.
    pub fn adapt(
        &self,
        name: &str,
        adapt: impl Fn(&TensorData<'_>) -> Result<HostTensor> + Send + Sync + 'static,
    ) -> Self {
        let mut adapted = HashMap::clone(&self.adapted);
        adapted.insert(self.path(name), Arc::new(adapt));
        Self { shared: Arc::clone(&self.shared), scope: self.scope.clone(), adapted: Arc::new(adapted) }
    }

    /// Declares that the model needs `name` in dimensions `dims`, without reading it.
    ///
    /// # Errors
    /// [`WeightsError::Missing`] or [`WeightsError::Mismatched`], unless this is a survey.
    pub fn require(&self, name: &str, dims: &[usize]) -> Result<()> {
        let path = self.path(name);
        lock(&self.shared.requests).push((path.clone(), dims.to_vec()));
        if self.shared.source.is_generative() {
            return Ok(());
        }
        match self.shared.source.info(&path) {
            Some(info) if info.dims == dims || self.adapted.contains_key(&path) => Ok(()),
            Some(info) => {
                let tensor =
                    MismatchedTensor { name: path, expected: dims.to_vec(), found: info.dims };
                if self.shared.survey {
                    lock(&self.shared.mismatched).push(tensor);
                    return Ok(());
                }
                let MismatchedTensor { name, expected, found } = tensor;
                Err(WeightsError::Mismatched { origin: self.origin(), name, expected, found }.into())
            }
            None => {
                if self.shared.survey {
                    let tensor = MissingTensor { name: path, dims: dims.to_vec(), hint: None };
                    lock(&self.shared.missing).push(tensor);
                    return Ok(());
                }
                let hint = nearest(&path, &self.shared.source.names());
                Err(WeightsError::Missing { origin: self.origin(), name: path, dims: dims.to_vec(), hint }
                    .into())
            }
        }
    }

    /// Reads `name`, which must have dimensions `dims`.
    ///
    /// # Errors
    /// [`WeightsError`] when the tensor is missing, of other dimensions, or can't be read.
    pub fn read(&self, name: &str, dims: &[usize]) -> Result<TensorData<'_>> {
        self.require(name, dims)?;
        let path = self.path(name);
        let data = self.shared.source.read(&path, dims)?;
        let data = match self.adapted.get(&path) {
            Some(adapt) if data.info.dims != dims => {
                let adapted = adapt(&data)?;
                TensorData::from_f32(adapted.dims(), adapted.data())
            }
            _ => data,
        };
        if data.info.dims != dims {
            let found = data.info.dims;
            return Err(WeightsError::Mismatched {
                origin: self.origin(),
                name: path,
                expected: dims.to_vec(),
                found,
            }
            .into());
        }
        Ok(data)
    }

    /// Every tensor that was asked for so far, in order, with the dimensions that the model needs.
    pub fn requests(&self) -> Vec<(String, Vec<usize>)> {
        lock(&self.shared.requests).clone()
    }

    /// The account so far. Stored tensors count as unused when they lie below one of `scopes` (all of them when
    /// `scopes` is empty) and weren't asked for.
    pub fn report(&self, scopes: &[&str]) -> LoadReport {
        let requests = self.requests();
        let requested: HashSet<&str> = requests.iter().map(|(name, _)| name.as_str()).collect();
        let within = |name: &str| {
            scopes.is_empty()
                || scopes.iter().any(|scope| {
                    name.strip_prefix(scope).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                })
        };
        let mut unused: Vec<String> = self.shared.source.names();
        unused.retain(|name| !requested.contains(name.as_str()));
        let mut missing = lock(&self.shared.missing).clone();
        for tensor in &mut missing {
            tensor.hint = nearest(&tensor.name, &unused);
        }
        unused.retain(|name| within(name));
        unused.sort();
        let mismatched = lock(&self.shared.mismatched).clone();
        let failed: HashSet<&str> = missing
            .iter()
            .map(|tensor| tensor.name.as_str())
            .chain(mismatched.iter().map(|tensor| tensor.name.as_str()))
            .collect();
        let applied = requests
            .iter()
            .map(|(name, _)| name)
            .filter(|name| !failed.contains(name.as_str()))
            .cloned()
            .collect();
        LoadReport { applied, missing, mismatched, unused }
    }
}

/// The name among `names` that is most like `name`, if any is near enough to be a likely slip.
fn nearest(name: &str, names: &[String]) -> Option<String> {
    names
        .iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(name, candidate), candidate))
        .filter(|(similarity, _)| *similarity >= 0.7)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate.clone())
}
