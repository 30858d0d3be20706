//! A model that runs: its sessions, and what its graph takes and gives.

use std::path::Path;

use openclip_core::{Error, HostTensor, Precision, Result, Taps};
use ort::{session::Session, value::DynValue};

use super::{OrtOptions, failed, interface::Interface, pool::SessionPool, rows::Rows, session::SessionMaker};
use crate::{OnnxModel, RecordOptions};

/// Records a tower, with the outputs that are asked for.
pub type Record = Box<dyn Fn(&RecordOptions) -> Result<OnnxModel> + Send + Sync>;

/// How the graph's [`Interface`] is found.
type Inspect = fn(&str, &Session) -> Result<Interface>;

/// A model that runs.
pub struct Model {
    pool: SessionPool,
    interface: Interface,
    origin: Origin,
}

enum Origin {
    Recorded { record: Record, precision: Precision, options: OrtOptions },
    File,
}

impl Model {
    /// A recorded tower.
    pub fn recorded(
        record: Record,
        precision: Precision,
        options: &OrtOptions,
        inspect: Inspect,
    ) -> Result<Self> {
        let model = record(&RecordOptions { precision, taps: None })?;
        let origin = Origin::Recorded { record, precision, options: *options };
        Self::new(SessionMaker::recorded(&model, options)?, model.name(), origin, inspect)
    }

    /// An ONNX file.
    pub fn file(path: &Path, options: &OrtOptions, inspect: Inspect) -> Result<Self> {
        let name = path.display().to_string();
        Self::new(SessionMaker::file(path.to_owned(), options)?, &name, Origin::File, inspect)
    }

    fn new(maker: SessionMaker, name: &str, origin: Origin, inspect: Inspect) -> Result<Self> {
        let pool = SessionPool::new(maker)?;
        let interface = pool.run(|session| inspect(name, session))?;
        Ok(Self { pool, interface, origin })
    }

    /// What the graph takes and gives.
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// A fact that is written beside the graph.
    pub fn metadata(&self, key: &str) -> Result<Option<String>> {
        self.pool.run(|session| Ok(session.metadata().map_err(failed("metadata"))?.custom(key)))
    }

    /// The embeddings of `rows`, of which there is at least one.
    pub fn run(&self, rows: &Rows) -> Result<HostTensor> {
        self.pool.run(|session| {
            let Some(batch) = self.interface.batch() else { return self.embeddings(session, rows) };
            let (mut dims, mut values) = (Vec::new(), Vec::new());
            for start in (0..rows.count()).step_by(batch.max(1)) {
                let part = self.embeddings(session, &rows.part(start, batch))?;
                dims = part.dims().to_vec();
                values.extend(part.into_data());
            }
            if let Some(first) = dims.first_mut() {
                *first = rows.count();
            }
            values.truncate(dims.iter().product());
            HostTensor::new(dims, values)
        })
    }

    fn embeddings(&self, session: &mut Session, rows: &Rows) -> Result<HostTensor> {
        let outputs = run(session, &self.interface, rows)?;
        let found = outputs.into_iter().find(|(name, _)| *name == self.interface.output);
        found
            .map(|(_, value)| value)
            .ok_or_else(|| Error::shape("encode", format!("an output {}", self.interface.output), "none"))
    }

    /// The embeddings of `rows` and the activations that `taps` asks for. The graph that gives these is another one: it is
    /// recorded and loaded for this call.
    pub fn run_with_taps(
        &self,
        rows: &Rows,
        taps: &Taps<HostTensor>,
    ) -> Result<(HostTensor, Vec<(String, HostTensor)>)> {
        let Origin::Recorded { record, precision, options } = &self.origin else {
            let message = "an ONNX file gives embeddings only; load the model from its weights to see inside";
            return Err(Error::Unsupported { backend: "ort", message: message.to_owned() });
        };
        let model = record(&RecordOptions { precision: *precision, taps: Some(taps) })?;
        let mut session = SessionMaker::recorded(&model, options)?.make()?;
        let mut outputs = run(&mut session, &self.interface, rows)?.into_iter();
        let first = outputs.next().ok_or_else(|| Error::shape("encode", "an output", "none"))?;
        Ok((first.1, outputs.collect()))
    }
}

/// All outputs of the graph by name, in its order.
fn run(session: &mut Session, interface: &Interface, rows: &Rows) -> Result<Vec<(String, HostTensor)>> {
    let outputs = session.run(rows.inputs(interface)?).map_err(failed("encode"))?;
    outputs.iter().map(|(name, value)| Ok((name.to_owned(), host(name, &value)?))).collect()
}

/// The value `name` in host memory.
pub fn host(name: &str, value: &DynValue) -> Result<HostTensor> {
    let (dims, values) = value.try_extract_tensor::<f32>().map_err(failed(name))?;
    let dims: Vec<usize> = dims.iter().map(|&size| usize::try_from(size).unwrap_or(0)).collect();
    HostTensor::new(dims, values.to_vec())
}
