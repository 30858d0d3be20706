//! Captioners on ONNX Runtime: a graph that looks at images, and one that takes a token at a time.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, PoisonError},
};

use openclip_core::{
    CaptionInfo, CaptionSession, Captioner, Error, HostTensor, ReaderSession, Reading, Result, TextReader,
    TokenBatch, TreeStep,
};
use ort::{
    session::{Session, SessionInputValue, SessionOutputs},
    value::{DynValue, Tensor, TensorRef},
};

use super::{OrtOptions, failed, model::host, pool::SessionPool, session::SessionMaker};
use crate::{
    CaptionGraph, INPUT_IDS, OnnxModel, PIXEL_VALUES,
    captions::{DECODER_BIAS, GROWN, IMAGE, KNOWN, LOGITS, POSITIONS, TEXT_BIAS, layer_names},
};

/// Records one of a captioner's graphs.
type Record = Box<dyn Fn(CaptionGraph) -> Result<OnnxModel> + Send + Sync>;

/// A captioner on ONNX Runtime.
pub struct OrtCaptioner {
    info: CaptionInfo,
    record: Record,
    options: OrtOptions,
    look: SessionPool,
    /// What texts grow with: one token more, or the whole text again.
    step: Arc<SessionPool>,
    /// What reads whole texts, once somebody has asked for it.
    read: Mutex<Option<Arc<SessionPool>>>,
}

impl OrtCaptioner {
    /// The captioner whose graphs `record` records. It is called again when whole texts are read of a model whose texts grow
    /// token by token: that is another graph.
    ///
    /// # Errors
    /// Those of `record`; [`Error::Unsupported`] when ONNX Runtime isn't found or hasn't got the device;
    /// [`Error::Backend`].
    pub fn recorded(
        record: impl Fn(CaptionGraph) -> Result<OnnxModel> + Send + Sync + 'static,
        info: CaptionInfo,
        options: &OrtOptions,
    ) -> Result<Self> {
        let pool = |graph| SessionPool::new(SessionMaker::recorded(&record(graph)?, options)?);
        let step = match info.reading {
            Reading::Causal { .. } => CaptionGraph::Grow,
            Reading::Whole => CaptionGraph::Read,
        };
        let (look, step) = (pool(CaptionGraph::Look)?, Arc::new(pool(step)?));
        let read = match info.reading {
            Reading::Causal { .. } => None,
            Reading::Whole => Some(Arc::clone(&step)),
        };
        Ok(Self { info, record: Box::new(record), options: *options, look, step, read: Mutex::new(read) })
    }

    /// The graph that reads whole texts.
    fn reader(&self) -> Result<Arc<SessionPool>> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(read) = &*read {
            return Ok(Arc::clone(read));
        }
        let model = (self.record)(CaptionGraph::Read)?;
        let pool = Arc::new(SessionPool::new(SessionMaker::recorded(&model, &self.options)?)?);
        *read = Some(Arc::clone(&pool));
        Ok(pool)
    }
}

impl Captioner for OrtCaptioner {
    fn info(&self) -> &CaptionInfo {
        &self.info
    }

    fn look(&self, pixels: &HostTensor) -> Result<Box<dyn CaptionSession + '_>> {
        self.info.image.check(pixels)?;
        let images = pixels.dims().first().copied().unwrap_or(0);
        let names = names(IMAGE, self.info.decoder_layers);
        let image = match images {
            0 => Vec::new(),
            _ => self.look.run(|session| {
                let inputs = vec![(Cow::Borrowed(PIXEL_VALUES), floats(PIXEL_VALUES, pixels)?)];
                let mut outputs = run(session, "look", inputs)?;
                names.iter().map(|name| take(&mut outputs, name)).collect()
            })?,
        };
        // No token is known yet: keys and values of none.
        let nothing = |_| -> Result<DynValue> {
            let dims = [images, 0, self.info.width];
            Ok(Tensor::<f32>::from_array((dims, Vec::new())).map_err(failed(KNOWN))?.into_dyn())
        };
        let known = (0..2 * self.info.known_layers()).map(nothing).collect::<Result<_>>()?;
        let reader = OrtReader { captioner: self, image, known };
        Ok(Box::new(ReaderSession::new(&self.info, images, reader)))
    }
}

/// Reads texts about some images.
struct OrtReader<'a> {
    captioner: &'a OrtCaptioner,
    /// Keys and values of the images, in the order of the graph's outputs.
    image: Vec<DynValue>,
    /// Keys and values of the tokens so far.
    known: Vec<DynValue>,
}

impl TextReader for OrtReader<'_> {
    fn extend(&mut self, step: &TreeStep) -> Result<HostTensor> {
        let OrtCaptioner { info, step: pool, .. } = self.captioner;
        let (logits, known) = pool.run(|session| {
            let mut inputs = vec![
                (Cow::Borrowed(INPUT_IDS), ids(&step.ids)?),
                (Cow::Borrowed(POSITIONS), floats(POSITIONS, &step.positions)?),
                (Cow::Borrowed(TEXT_BIAS), floats(TEXT_BIAS, &step.text_bias)?),
                (Cow::Borrowed(DECODER_BIAS), floats(DECODER_BIAS, &step.decoder_bias)?),
            ];
            inputs.extend(named(KNOWN, info.known_layers(), &self.known));
            inputs.extend(named(IMAGE, info.decoder_layers, &self.image));
            let mut outputs = run(session, "grow", inputs)?;
            let logits = host(LOGITS, &take(&mut outputs, LOGITS)?)?;
            let grown = names(GROWN, info.known_layers());
            let known = grown.iter().map(|name| take(&mut outputs, name)).collect::<Result<Vec<_>>>()?;
            Ok((logits, known))
        })?;
        self.known = known;
        Ok(logits)
    }

    fn read(&self, image: usize, texts: &TokenBatch) -> Result<HostTensor> {
        let info = &self.captioner.info;
        let one = |value: &DynValue| -> Result<DynValue> {
            let value = host(IMAGE, value)?;
            let row = value.rows().nth(image).unwrap_or_default().to_vec();
            let dims = [1, info.image_tokens, info.width];
            Ok(Tensor::from_array((dims, row)).map_err(failed(IMAGE))?.into_dyn())
        };
        let image = self.image.iter().map(one).collect::<Result<Vec<_>>>()?;
        self.captioner.reader()?.run(|session| {
            let mut inputs = vec![(Cow::Borrowed(INPUT_IDS), ids(texts)?)];
            inputs.extend(named(IMAGE, info.decoder_layers, &image));
            host(LOGITS, &take(&mut run(session, "read", inputs)?, LOGITS)?)
        })
    }
}

/// A graph's inputs by name.
type Inputs<'a> = Vec<(Cow<'a, str>, SessionInputValue<'a>)>;

/// Names of keys and values, block by block.
fn names(kind: &str, layers: usize) -> Vec<String> {
    (0..layers).flat_map(|layer| layer_names(kind, layer)).collect()
}

/// Keys and values by name.
fn named<'a>(kind: &str, layers: usize, values: &'a [DynValue]) -> Inputs<'a> {
    names(kind, layers).into_iter().map(Cow::Owned).zip(values.iter().map(SessionInputValue::from)).collect()
}

fn floats<'a>(name: &str, value: &'a HostTensor) -> Result<SessionInputValue<'a>> {
    let tensor = TensorRef::from_array_view((value.dims().to_vec(), value.data()));
    Ok(tensor.map_err(failed(name))?.into())
}

fn ids(tokens: &TokenBatch) -> Result<SessionInputValue<'static>> {
    let values: Vec<i64> = tokens.ids().iter().map(|&id| i64::from(id)).collect();
    let dims = [tokens.rows(), tokens.length()];
    Ok(Tensor::from_array((dims, values)).map_err(failed(INPUT_IDS))?.into())
}

fn run<'s>(session: &'s mut Session, op: &str, inputs: Inputs) -> Result<SessionOutputs<'s>> {
    session.run(inputs).map_err(failed(op))
}

fn take(outputs: &mut SessionOutputs, name: &str) -> Result<DynValue> {
    outputs.remove(name).ok_or_else(|| Error::shape("caption", format!("an output {name}"), "none"))
}
