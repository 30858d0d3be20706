//! Image towers on ONNX Runtime.

use std::path::Path;

use openclip_core::{Error, HostTensor, ImageEncoder, ImageInfo, Precision, Result, Taps};

use super::{
    OrtOptions,
    interface::Interface,
    model::{Model, Record},
    rows::Rows,
};
use crate::{OnnxModel, RecordOptions};

/// An image tower on ONNX Runtime.
pub struct OrtImageEncoder {
    model: Model,
    info: ImageInfo,
}

impl OrtImageEncoder {
    /// The tower that `record` records. It is called again for intermediate activations, which need another graph.
    ///
    /// # Errors
    /// Those of `record`; [`Error::Unsupported`] when ONNX Runtime isn't found or
    /// hasn't got the device; [`Error::Backend`].
    pub fn recorded(
        record: impl Fn(&RecordOptions) -> Result<OnnxModel> + Send + Sync + 'static,
        info: ImageInfo,
        precision: Precision,
        options: &OrtOptions,
    ) -> Result<Self> {
        let record: Record = Box::new(record);
        Ok(Self { model: Model::recorded(record, precision, options, Interface::of_images)?, info })
    }

    /// The tower in an ONNX file that takes pixels in `f32` and gives embeddings in `f32`, for any number of images or a
    /// fixed one. What the file fixes goes before `info`.
    ///
    /// # Errors
    /// As [`recorded`](Self::recorded), and [`Error::Config`] when the graph takes or gives
    /// something else.
    pub fn from_file(path: &Path, info: ImageInfo, options: &OrtOptions) -> Result<Self> {
        let model = Model::file(path, options, Interface::of_images)?;
        let interface = model.interface();
        let origin = path.display().to_string();
        if let Some(channels) = interface.fixed(1).filter(|&channels| channels != 3) {
            let message = format!("the graph takes {channels} channels on axis 1; images are [N, 3, H, W]");
            return Err(Error::config(origin, message));
        }
        let [height, width] = info.image_size;
        let [height, width] = [interface.fixed(2).unwrap_or(height), interface.fixed(3).unwrap_or(width)];
        let embed_dim = interface.embed_dim.unwrap_or(info.embed_dim);
        interface.check_sizes(
            &origin,
            &[("channels", 3), ("height", height), ("width", width)],
            embed_dim,
        )?;
        Ok(Self { model, info: ImageInfo { image_size: [height, width], embed_dim } })
    }

    /// A fact that the file has beside its graph, such as `logit_scale`.
    ///
    /// # Errors
    /// [`Error::Backend`].
    pub fn metadata(&self, key: &str) -> Result<Option<String>> {
        self.model.metadata(key)
    }
}

impl ImageEncoder for OrtImageEncoder {
    fn info(&self) -> &ImageInfo {
        &self.info
    }

    fn encode_with_taps(
        &self,
        pixels: &HostTensor,
        taps: Taps<HostTensor>,
    ) -> Result<(HostTensor, Vec<(String, HostTensor)>)> {
        self.info.check(pixels)?;
        if pixels.dims().first() == Some(&0) {
            return Ok((HostTensor::zeros([0, self.info.embed_dim]), Vec::new()));
        }
        let rows = Rows::images(pixels, self.info.image_size);
        match taps.wants_nothing() {
            true => Ok((self.model.run(&rows)?, Vec::new())),
            false => self.model.run_with_taps(&rows, &taps),
        }
    }
}
