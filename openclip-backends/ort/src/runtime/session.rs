//! Making sessions of a model. Sessions of one model share its weights, packed ones too.

use std::{path::PathBuf, sync::Arc};

use openclip_core::{Error, Result, backend::DeviceSpec};
use ort::{
    ep::{self, ExecutionProviderDispatch},
    session::{
        Session,
        builder::{PrepackedWeights, SessionBuilder},
    },
    value::{DynValue, Tensor},
};

use super::{
    OrtOptions, failed,
    library::{Runtime, runtime},
};
use crate::{OnnxModel, values::Values};

/// What sessions are made of.
enum Source {
    Recorded {
        /// The model's message, which refers to the weights by name.
        graph: Vec<u8>,
        weights: Vec<(String, Arc<DynValue>)>,
    },
    File(PathBuf),
}

/// Makes sessions of one model.
pub struct SessionMaker {
    /// What messages call the model.
    name: String,
    source: Source,
    options: OrtOptions,
    runtime: Runtime,
    prepacked: PrepackedWeights,
}

impl SessionMaker {
    /// Of a recorded model, whose weights are read now and once.
    pub fn recorded(model: &OnnxModel, options: &OrtOptions) -> Result<Self> {
        let runtime = runtime(options.threads)?;
        let (graph, weights) = model.with_weights_apart()?;
        let weights = weights
            .into_iter()
            .map(|(name, dims, values)| {
                let value = tensor(&dims, values).map_err(failed(&name))?;
                Ok((name, Arc::new(value)))
            })
            .collect::<Result<_>>()?;
        Ok(Self::new(model.name(), Source::Recorded { graph, weights }, *options, runtime))
    }

    /// Of an ONNX file.
    pub fn file(path: PathBuf, options: &OrtOptions) -> Result<Self> {
        let name = path.display().to_string();
        Ok(Self::new(&name, Source::File(path), *options, runtime(options.threads)?))
    }

    fn new(name: &str, source: Source, options: OrtOptions, runtime: Runtime) -> Self {
        Self { name: name.to_owned(), source, options, runtime, prepacked: PrepackedWeights::new() }
    }

    /// How many sessions can be of use at once.
    pub fn useful_sessions(&self) -> usize {
        match self.options.device {
            // However few threads a call has, calls may be as many as there are cores.
            DeviceSpec::Cpu => std::thread::available_parallelism().map_or(1, usize::from),
            // A device runs one session at a time, and each would have the weights in its memory again.
            DeviceSpec::Cuda(_) | DeviceSpec::Metal => 1,
        }
    }

    /// Another session.
    pub fn make(&self) -> Result<Session> {
        let mut builder = self.builder()?;
        match &self.source {
            Source::Recorded { graph, weights } => {
                for (name, value) in weights {
                    builder =
                        builder.with_external_initializer(name, Arc::clone(value)).map_err(failed(name))?;
                    // Lets sessions share what is packed from it. Only products of matrices can.
                    if value.shape().len() == 2 {
                        builder = builder.with_initializer(name, Arc::clone(value)).map_err(failed(name))?;
                    }
                }
                builder.commit_from_memory(graph)
            }
            Source::File(path) => builder.commit_from_file(path),
        }
        .map_err(failed(&self.name))
    }

    fn builder(&self) -> Result<SessionBuilder> {
        let mut builder = Session::builder(&self.runtime.environment)
            .map_err(failed(&self.name))?
            .with_prepacked_weights(&self.prepacked)
            .map_err(failed(&self.name))?;
        if let Some(threads) = self.options.threads.filter(|_| self.options.threads != self.runtime.threads) {
            builder = builder
                .with_independent_thread_pool()
                .map_err(failed(&self.name))?
                .with_intra_threads(threads)
                .map_err(failed(&self.name))?;
        }
        let device = self.options.device;
        builder.with_execution_providers([provider(device)]).map_err(|error| Error::Unsupported {
            backend: "ort",
            message: format!(
                "device {device} isn't available: {}; use --device cpu, or an ONNX Runtime that has it",
                error.message()
            ),
        })
    }
}

fn provider(device: DeviceSpec) -> ExecutionProviderDispatch {
    match device {
        DeviceSpec::Cpu => ep::CPU::default().build(),
        DeviceSpec::Cuda(number) => {
            ep::CUDA::default().with_device_id(i32::try_from(number).unwrap_or(i32::MAX)).build()
        }
        DeviceSpec::Metal => ep::CoreML::default().build(),
    }
    .error_on_failure()
}

/// A tensor that owns `values`.
fn tensor(dims: &[usize], values: Values) -> ort::Result<DynValue> {
    let dims = dims.to_vec();
    Ok(match values {
        Values::Float(values) => Tensor::from_array((dims, values))?.into_dyn(),
        Values::Float16(values) => Tensor::from_array((dims, values))?.into_dyn(),
        Values::Uint8(values) => Tensor::from_array((dims, values))?.into_dyn(),
        Values::Int64(values) => Tensor::from_array((dims, values))?.into_dyn(),
    })
}
