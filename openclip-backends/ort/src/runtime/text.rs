//! Text towers on ONNX Runtime.

use std::path::Path;

use openclip_core::{Error, HostTensor, Precision, Result, Taps, TextEncoder, TextInfo, TokenBatch};

use super::{
    OrtOptions,
    interface::Interface,
    model::{Model, Record},
    rows::Rows,
};
use crate::{OnnxModel, RecordOptions};

/// A text tower on ONNX Runtime.
pub struct OrtTextEncoder {
    model: Model,
    info: TextInfo,
    pad_id: u32,
}

impl OrtTextEncoder {
    /// The tower that `record` records. It is called again for intermediate activations, which need another graph.
    ///
    /// # Errors
    /// Those of `record`; [`Error::Unsupported`] when ONNX Runtime isn't found or hasn't got the device;
    /// [`Error::Backend`].
    pub fn recorded(
        record: impl Fn(&RecordOptions) -> Result<OnnxModel> + Send + Sync + 'static,
        info: TextInfo,
        precision: Precision,
        options: &OrtOptions,
    ) -> Result<Self> {
        let record: Record = Box::new(record);
        // Recorded towers find out by themselves what is padding.
        Ok(Self { model: Model::recorded(record, precision, options, Interface::of_texts)?, info, pad_id: 0 })
    }

    /// The tower in an ONNX file that takes token ids, perhaps a mask beside them, and gives embeddings in `f32`, for any
    /// number of texts and tokens or fixed ones. What the file fixes goes before `info`; `pad_id` is what the tokenizer
    /// puts behind the end of a text.
    ///
    /// # Errors
    /// As [`recorded`](Self::recorded), and [`Error::Config`] when the graph takes or gives something else.
    pub fn from_file(path: &Path, info: TextInfo, pad_id: u32, options: &OrtOptions) -> Result<Self> {
        let model = Model::file(path, options, Interface::of_texts)?;
        let interface = model.interface();
        let origin = path.display().to_string();
        if let Some(length) = interface.fixed(1)
            && length < info.context_length
        {
            let message = format!(
                "the graph takes {length} tokens, the configuration's context_length is {}",
                info.context_length
            );
            return Err(Error::config(origin, message));
        }
        let embed_dim = interface.embed_dim.unwrap_or(info.embed_dim);
        let length = interface.fixed(1).unwrap_or(info.context_length);
        interface.check_sizes(&origin, &[("context_length", length)], embed_dim)?;
        let info = TextInfo { embed_dim, ..info };
        Ok(Self { model, info, pad_id })
    }

    /// A fact that the file has beside its graph, such as `logit_scale`.
    ///
    /// # Errors
    /// [`Error::Backend`].
    pub fn metadata(&self, key: &str) -> Result<Option<String>> {
        self.model.metadata(key)
    }
}

impl TextEncoder for OrtTextEncoder {
    fn info(&self) -> &TextInfo {
        &self.info
    }

    fn encode_with_taps(
        &self,
        tokens: &TokenBatch,
        taps: Taps<HostTensor>,
    ) -> Result<(HostTensor, Vec<(String, HostTensor)>)> {
        self.info.check(tokens)?;
        if tokens.rows() == 0 {
            return Ok((HostTensor::zeros([0, self.info.embed_dim]), Vec::new()));
        }
        let fixed_length = self.model.interface().fixed(1);
        let rows = |tokens: &TokenBatch, whole: bool| {
            let tokens = self.info.arranged(tokens, whole)?;
            let rows = Rows::texts(&tokens, self.pad_id);
            match fixed_length {
                Some(length) => rows.padded(length),
                None => Ok(rows),
            }
        };
        if !taps.wants_nothing() {
            // Whoever looks inside wants to see all of it.
            return self.model.run_with_taps(&rows(tokens, true)?, &taps);
        }
        let encode = |tokens: &TokenBatch| self.model.run(&rows(tokens, false)?);
        let embeddings = match fixed_length {
            // Short texts take as long as long ones.
            Some(_) => encode(tokens)?,
            None => self.info.in_groups(tokens, encode)?,
        };
        Ok((embeddings, Vec::new()))
    }
}
