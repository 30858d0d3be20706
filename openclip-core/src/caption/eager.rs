//! Captioners on backends that compute at once.

use super::{
    CaptionInfo, CaptionSession, CaptionTower, Captioner, Growth, ReaderSession, TextReader, TreeStep,
};
use crate::{
    Dim, Error, HostTensor, Result, TokenBatch,
    backend::Eager,
    nn::{Extended, KeyValues},
};

/// A captioner on a backend that computes at once.
pub struct EagerCaptioner<B: Eager> {
    backend: B,
    tower: Box<dyn CaptionTower<B>>,
    info: CaptionInfo,
}

impl<B: Eager> EagerCaptioner<B> {
    /// Puts a tower and its backend together.
    pub fn new(backend: B, tower: Box<dyn CaptionTower<B>>, info: CaptionInfo) -> Self {
        Self { backend, tower, info }
    }
}

impl<B: Eager> Captioner for EagerCaptioner<B> {
    fn info(&self) -> &CaptionInfo {
        &self.info
    }

    fn look(&self, pixels: &HostTensor) -> Result<Box<dyn CaptionSession + '_>> {
        self.info.image.check(pixels)?;
        let images = pixels.dims().first().copied().unwrap_or(0);
        let image = match images {
            0 => Vec::new(),
            _ => self.backend.run(|| self.tower.look(&self.backend, &self.backend.upload(pixels)?))?,
        };
        let reader = EagerReader { captioner: self, image, known: Vec::new() };
        Ok(Box::new(ReaderSession::new(&self.info, images, reader)))
    }
}

/// Reads texts about some images.
struct EagerReader<'a, B: Eager> {
    captioner: &'a EagerCaptioner<B>,
    image: Vec<KeyValues<B::Tensor>>,
    known: Vec<KeyValues<B::Tensor>>,
}

impl<B: Eager> TextReader for EagerReader<'_, B> {
    fn extend(&mut self, step: &TreeStep) -> Result<HostTensor> {
        let EagerCaptioner { backend, tower, .. } = self.captioner;
        let (logits, known) = backend.run(|| {
            let growth = Growth {
                ids: &backend.upload_tokens(&step.ids)?,
                positions: &backend.upload(&step.positions)?,
                text_bias: &backend.upload(&step.text_bias)?,
                decoder_bias: &backend.upload(&step.decoder_bias)?,
                known: &self.known,
                image: &self.image,
            };
            let Extended { output, known } = tower.grow(backend, &growth)?;
            Ok::<_, Error>((backend.download(&output)?, known))
        })?;
        self.known = known;
        Ok(logits)
    }

    fn read(&self, image: usize, texts: &TokenBatch) -> Result<HostTensor> {
        let EagerCaptioner { backend, tower, .. } = self.captioner;
        backend.run(|| {
            let one = |x: &B::Tensor| backend.slice(x, 0, &Dim::Fixed(image), &Dim::Fixed(image + 1));
            let looked: Vec<_> = self
                .image
                .iter()
                .map(|layer| Ok(KeyValues { keys: one(&layer.keys)?, values: one(&layer.values)? }))
                .collect::<Result<_>>()?;
            backend.download(&tower.read(backend, &backend.upload_tokens(texts)?, &looked)?)
        })
    }
}
