//! The scoped view that models are built from.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    ChannelAxis, LoadReport, MismatchedTensor, MissingTensor, Table, TensorData, TensorInfo, WeightSource,
    WeightsError, table::Place,
};
use crate::{HostTensor, Result};

/// Computes a tensor in the dimensions that the model needs from the one that the checkpoint has.
type Adapt = Arc<dyn Fn(&TensorData<'_>) -> Result<HostTensor> + Send + Sync>;

/// How a tensor that the model needs comes from the one that the checkpoint has.
#[derive(Clone)]
struct Adapted {
    /// The dimensions that the checkpoint has to have it in; whatever it has where absent.
    stored: Option<Vec<usize>>,
    compute: Adapt,
}

/// A view of a checkpoint below a scope such as `visual.transformer.resblocks.3.attn`.
///
/// Cheap to clone. All views of one checkpoint share the account of what was asked for, which
/// [`report`](Self::report) evaluates.
#[derive(Clone)]
pub struct Weights {
    shared: Arc<Shared>,
    scope: String,
    /// Full name -> how its stored tensor becomes the one that the model needs.
    adapted: Arc<HashMap<String, Adapted>>,
}

struct Shared {
    source: Arc<dyn WeightSource>,
    survey: bool,
    requests: Mutex<Vec<Request>>,
    mismatched: Mutex<Vec<MismatchedTensor>>,
    missing: Mutex<Vec<MissingTensor>>,
}

/// A tensor that was asked for.
#[derive(Clone)]
struct Request {
    name: String,
    dims: Vec<usize>,
    /// The channels that have a scale each where the layer takes a rounded tensor.
    quantizable: Option<ChannelAxis>,
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

    /// The view of a neighbour: `w.scope("layer1").scope("conv1").sibling("bn1")` is `layer1.bn1`.
    pub fn sibling(&self, name: &str) -> Self {
        let parent = self.scope.rsplit_once('.').map_or("", |(parent, _)| parent);
        let above = Self { scope: parent.to_owned(), ..self.scope("") };
        above.scope(name)
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
        self.with_adapted(name, Adapted { stored: None, compute: Arc::new(adapt) })
    }

    /// A view in which `name` is computed by `compute` from the tensor that a checkpoint has in dimensions `stored`, and only
    /// in these.
    pub fn derive(
        &self,
        name: &str,
        stored: &[usize],
        compute: impl Fn(&TensorData<'_>) -> Result<HostTensor> + Send + Sync + 'static,
    ) -> Self {
        self.with_adapted(name, Adapted { stored: Some(stored.to_vec()), compute: Arc::new(compute) })
    }

    fn with_adapted(&self, name: &str, adapt: Adapted) -> Self {
        let mut adapted = HashMap::clone(&self.adapted);
        adapted.insert(self.path(name), adapt);
        Self { shared: Arc::clone(&self.shared), scope: self.scope.clone(), adapted: Arc::new(adapted) }
    }

    /// Declares that the model needs `name` in dimensions `dims`, without reading it.
    ///
    /// # Errors
    /// [`WeightsError::Missing`] or [`WeightsError::Mismatched`], unless this is a survey.
    pub fn require(&self, name: &str, dims: &[usize]) -> Result<()> {
        self.request(name, dims, None)
    }

    /// As [`require`](Self::require), for a matrix that may be stored in integers with a scale per place of `axis`.
    ///
    /// # Errors
    /// As [`require`](Self::require).
    pub fn require_quantizable(&self, name: &str, dims: &[usize], axis: ChannelAxis) -> Result<()> {
        self.request(name, dims, Some(axis))
    }

    fn request(&self, name: &str, dims: &[usize], quantizable: Option<ChannelAxis>) -> Result<()> {
        let path = self.path(name);
        let adapted = self.adapted.get(&path);
        let derived = adapted.and_then(|adapted| adapted.stored.as_deref());
        let dims = derived.unwrap_or(dims);
        lock(&self.shared.requests).push(Request { name: path.clone(), dims: dims.to_vec(), quantizable });
        if self.shared.source.is_generative() {
            return Ok(());
        }
        match self.shared.source.info(&path) {
            Some(info) if info.dims == dims || (adapted.is_some() && derived.is_none()) => Ok(()),
            Some(info) => {
                if self.shared.survey {
                    let tensor = MismatchedTensor { name: path, expected: dims.to_vec(), found: info.dims };
                    lock(&self.shared.mismatched).push(tensor);
                    return Ok(());
                }
                Err(self.mismatched(&path, dims, info.dims).into())
            }
            None => {
                if self.shared.survey {
                    let tensor = MissingTensor { name: path, dims: dims.to_vec(), hint: None };
                    lock(&self.shared.missing).push(tensor);
                    return Ok(());
                }
                let names = self.shared.source.names();
                if names.contains(&path) {
                    // Stored, but not describable: the source's own error says why.
                    return self.shared.source.read(&path, dims).map(drop).map_err(Into::into);
                }
                Err(WeightsError::Missing {
                    origin: self.origin(),
                    name: self.shared.source.display_name(&path),
                    dims: dims.to_vec(),
                    hint: nearest(&path, &names).map(|near| self.shared.source.display_name(&near)),
                }
                .into())
            }
        }
    }

    fn mismatched(&self, path: &str, expected: &[usize], found: Vec<usize>) -> WeightsError {
        let name = self.shared.source.display_name(path);
        WeightsError::Mismatched { origin: self.origin(), name, expected: expected.to_vec(), found }
    }

    /// Reads `name`, which must have dimensions `dims`.
    ///
    /// # Errors
    /// [`WeightsError`] when the tensor is missing, of other dimensions, or can't be read.
    pub fn read(&self, name: &str, dims: &[usize]) -> Result<TensorData<'_>> {
        self.require(name, dims)?;
        let path = self.path(name);
        let adapted = self.adapted.get(&path);
        let stored = adapted.and_then(|adapted| adapted.stored.as_deref());
        let data = self.shared.source.read(&path, stored.unwrap_or(dims))?;
        let data = match adapted {
            Some(adapt) if data.info.dims != dims || stored.is_some() => {
                let adapted = (adapt.compute)(&data).map_err(|error| {
                    tracing::debug!(%error, tensor = path, "not adaptable");
                    self.mismatched(&path, dims, data.info.dims.clone())
                })?;
                TensorData::from_f32(adapted.dims(), adapted.data())
            }
            _ => data,
        };
        if data.info.dims != dims {
            return Err(self.mismatched(&path, dims, data.info.dims).into());
        }
        Ok(data)
    }

    /// The values of `name`, which must have dimensions `dims`, as `f32`. The tensor's own memory is given back.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_f32(&self, name: &str, dims: &[usize]) -> Result<Vec<f32>> {
        let values = self.values(name, dims)?.into_owned();
        self.release(name);
        Ok(values)
    }

    /// The values of `name`, which must have dimensions `dims`: where they lie in the checkpoint's own memory, unless it
    /// has them in another form.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn values(&self, name: &str, dims: &[usize]) -> Result<Cow<'_, [f32]>> {
        Ok(self.read(name, dims)?.into_f32())
    }

    /// Says that `name` won't be read again soon, so that memory which holds it can be given back.
    pub fn release(&self, name: &str) {
        self.shared.source.release(&self.path(name));
    }

    /// The matrix `name`, which must have dimensions `dims`, to be read row by row. It stays where it lies in the
    /// checkpoint's own memory, unless the source had to compute it.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn table(&self, name: &str, dims: [usize; 2]) -> Result<Table> {
        let data = self.read(name, &dims)?;
        let place = match data.bytes {
            Cow::Borrowed(_) => {
                Place::Stored { source: Arc::clone(&self.shared.source), name: self.path(name) }
            }
            Cow::Owned(_) => Place::Own(data.to_f32().into()),
        };
        Ok(Table::new(dims, place))
    }

    /// What tells the checkpoint from any other and from its own other states; see [`WeightSource::fingerprint`].
    pub fn fingerprint(&self) -> Option<String> {
        self.shared.source.fingerprint()
    }

    /// Whether `name` isn't taken as it is stored when its dimensions are others; see [`adapt`](Self::adapt).
    pub fn is_adapted(&self, name: &str) -> bool {
        self.adapted.contains_key(&self.path(name))
    }

    /// Every tensor that was asked for so far, in order and once each, with the dimensions that the model needs.
    pub fn requests(&self) -> Vec<(String, Vec<usize>)> {
        let mut seen = HashSet::new();
        let mut requests: Vec<_> = lock(&self.shared.requests)
            .iter()
            .map(|request| (request.name.clone(), request.dims.clone()))
            .collect();
        // A tensor that several layers are packed into is asked for by each of them.
        requests.retain(|(name, _)| seen.insert(name.clone()));
        requests
    }

    /// The tensors that may be stored in integers: all who asked for them so far did so by
    /// [`require_quantizable`](Self::require_quantizable) with the same axis.
    pub fn quantizable(&self) -> HashMap<String, ChannelAxis> {
        let mut axes: HashMap<String, Option<ChannelAxis>> = HashMap::new();
        for request in &*lock(&self.shared.requests) {
            let axis = axes.entry(request.name.clone()).or_insert(request.quantizable);
            if *axis != request.quantizable {
                *axis = None;
            }
        }
        axes.into_iter().filter_map(|(name, axis)| Some((name, axis?))).collect()
    }

    /// The account so far. Stored tensors count as unused when they lie below one of `scopes` (all of them when
    /// `scopes` is empty) and weren't asked for. Names are those of the file, where the source presents its tensors
    /// under others ([`WeightSource::display_name`]).
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
        let mut mismatched = lock(&self.shared.mismatched).clone();
        let failed: HashSet<&str> = missing
            .iter()
            .map(|tensor| tensor.name.as_str())
            .chain(mismatched.iter().map(|tensor| tensor.name.as_str()))
            .collect();
        let display = |name: &String| self.shared.source.display_name(name);
        let applied = requests
            .iter()
            .map(|(name, _)| name)
            .filter(|name| !failed.contains(name.as_str()))
            .map(display)
            .collect();
        unused.iter_mut().for_each(|name| *name = display(name));
        for tensor in &mut missing {
            tensor.name = display(&tensor.name);
            tensor.hint = tensor.hint.as_ref().map(display);
        }
        for tensor in &mut mismatched {
            tensor.name = display(&tensor.name);
        }
        LoadReport { applied, missing, mismatched, unused }
    }
}

/// The name among `names` that is most like `name`, if any is near enough to be a likely slip. Another layer of the
/// same model isn't: a name that differs only in its numbers is no slip.
fn nearest(name: &str, names: &[String]) -> Option<String> {
    let pattern = numbers_erased(name);
    names
        .iter()
        .filter(|candidate| numbers_erased(candidate) != pattern && may_be_meant(name, candidate))
        .map(|candidate| (strsim::normalized_damerau_levenshtein(name, candidate), candidate))
        .filter(|(similarity, _)| *similarity >= 0.7)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate.clone())
}

/// Towers are alike inside, so a tensor of one looks like a tensor of the other; but nobody means that one.
fn may_be_meant(name: &str, candidate: &str) -> bool {
    const TOWERS: [&str; 2] = ["visual.", "text."];
    TOWERS.iter().all(|tower| !candidate.starts_with(tower) || name.starts_with(tower))
}

/// `name` with every number in it replaced by `#`.
fn numbers_erased(name: &str) -> String {
    let mut erased = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '0'..='9' if erased.ends_with('#') => {}
            '0'..='9' => erased.push('#'),
            c => erased.push(c),
        }
    }
    erased
}

#[cfg(test)]
mod tests {
    use super::{super::fixture::MemorySource, *};

    const TENSORS: [(&str, &[usize]); 5] = [
        ("visual.conv1.weight", &[4, 3, 2, 2]),
        ("visual.blocks.0.weight", &[4]),
        ("visual.blocks.1.weight", &[4]),
        ("text.ln_final.bias", &[2]),
        ("logit_scale", &[]),
    ];

    fn source() -> Arc<dyn WeightSource> {
        Arc::new(MemorySource::new("model.bin", &TENSORS))
    }

    #[test]
    fn a_missing_tensor_is_named_with_the_one_that_was_probably_meant() {
        let weights = Weights::new(source()).scope("visual");
        let message = |name: &str| weights.require(name, &[4]).unwrap_err().to_string();
        assert_eq!(
            message("conv.weight"),
            "model.bin: tensor `visual.conv.weight` [4] is missing; did you mean `visual.conv1.weight`?"
        );
        assert_eq!(message("class_embedding"), "model.bin: tensor `visual.class_embedding` [4] is missing");
        // The other layers are there, but they aren't what was meant.
        assert_eq!(message("blocks.2.weight"), "model.bin: tensor `visual.blocks.2.weight` [4] is missing");
    }

    #[test]
    fn a_mismatch_has_both_dimensions() {
        let error =
            Weights::new(source()).read("visual.conv1.weight", &[4, 3, 1, 1]).unwrap_err().to_string();
        assert_eq!(
            error,
            "model.bin: tensor `visual.conv1.weight` has dimensions [4, 3, 2, 2], the model needs [4, 3, 1, 1]"
        );
    }

    #[test]
    fn a_survey_collects_what_would_be_errors() {
        let weights = Weights::survey(source());
        let visual = weights.scope("visual");
        visual.require("conv1.weight", &[4, 3, 2, 2]).unwrap();
        visual.require("blocks.0.weight", &[5]).unwrap();
        visual.require("blocks.1.wieght", &[4]).unwrap();
        let report = weights.report(&["visual"]);
        assert!(!report.is_complete());
        assert_eq!(report.applied, ["visual.conv1.weight"]);
        assert_eq!(report.unused, ["visual.blocks.1.weight"]);
        let [mismatched] = &report.mismatched[..] else { panic!("{report:?}") };
        assert_eq!((&*mismatched.name, &*mismatched.found), ("visual.blocks.0.weight", &[4][..]));
        let [missing] = &report.missing[..] else { panic!("{report:?}") };
        assert_eq!(missing.hint.as_deref(), Some("visual.blocks.1.weight"));
        assert_eq!(
            report.to_string(),
            "  missing `visual.blocks.1.wieght` [4]; did you mean `visual.blocks.1.weight`?\n  \
             mismatched `visual.blocks.0.weight`: [4] in the checkpoint, [5] in the model\n  \
             unused `visual.blocks.1.weight`\n  1 applied, 1 missing, 1 mismatched, 1 unused"
        );
    }

    #[test]
    fn a_tensor_is_quantizable_where_every_layer_agrees() {
        let weights = Weights::survey(source());
        let rows = |name: &str| weights.require_quantizable(name, &[4], ChannelAxis::Rows).unwrap();
        rows("visual.blocks.0.weight");
        rows("visual.blocks.0.weight");
        rows("visual.blocks.1.weight");
        weights.require("visual.blocks.1.weight", &[4]).unwrap();
        rows("text.ln_final.bias");
        weights.require_quantizable("text.ln_final.bias", &[4], ChannelAxis::Columns).unwrap();
        weights.require("logit_scale", &[]).unwrap();
        let expected = HashMap::from([("visual.blocks.0.weight".to_owned(), ChannelAxis::Rows)]);
        assert_eq!(weights.quantizable(), expected);
        assert_eq!(weights.requests().len(), 4);
    }

    #[test]
    fn one_tower_does_not_miss_the_others_tensors() {
        let weights = Weights::new(source());
        weights.scope("text").require("ln_final.bias", &[2]).unwrap();
        weights.require("logit_scale", &[]).unwrap();
        assert_eq!(weights.report(&["text", "logit_scale"]).unused, [""; 0]);
        assert_eq!(weights.report(&["vis"]).unused, [""; 0], "a scope is whole components");
        assert_eq!(weights.report(&[]).unused.len(), 3);
    }

    #[test]
    fn a_derived_tensor_is_asked_for_as_it_is_stored() {
        let derived = |stored: &[usize]| {
            Weights::new(source()).derive("text.ln_final.bias", stored, |stored| {
                HostTensor::new([3, 2], stored.to_f32().repeat(3))
            })
        };
        let weights = derived(&[2]);
        assert_eq!(weights.scope("text").read("ln_final.bias", &[3, 2]).unwrap().info.dims, [3, 2]);
        assert_eq!(weights.requests(), [("text.ln_final.bias".to_owned(), vec![2])]);
        let error = derived(&[6]).read("text.ln_final.bias", &[3, 2]).unwrap_err().to_string();
        assert!(error.contains("has dimensions [2], the model needs [6]"), "{error}");
    }

    #[test]
    fn an_adapted_tensor_may_have_other_dimensions() {
        let weights = Weights::new(source())
            .adapt("text.ln_final.bias", |stored| HostTensor::new([1, 2], stored.to_f32()));
        assert_eq!(weights.scope("text").read("ln_final.bias", &[1, 2]).unwrap().info.dims, [1, 2]);
        // Stored as the model needs it: nothing is computed.
        assert_eq!(weights.read("text.ln_final.bias", &[2]).unwrap().info.dims, [2]);
        let error = weights.read("text.ln_final.bias", &[3]).unwrap_err().to_string();
        assert!(error.contains("has dimensions [1, 2], the model needs [3]"), "{error}");
    }
}
