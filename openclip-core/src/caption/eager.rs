//! Captioners on backends that compute at once.

use super::{CaptionInfo, CaptionSession, CaptionTower, Captioner, Growth, Reading, TextTree, TreeNode};
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
        Ok(Box::new(EagerSession { captioner: self, image, known: Vec::new(), tree: TextTree::new(images) }))
    }
}

/// Texts about some images.
struct EagerSession<'a, B: Eager> {
    captioner: &'a EagerCaptioner<B>,
    image: Vec<KeyValues<B::Tensor>>,
    known: Vec<KeyValues<B::Tensor>>,
    tree: TextTree,
}

impl<B: Eager> EagerSession<'_, B> {
    /// Logits of the nodes from place `first` on, which are read causally.
    fn extend(&mut self, first: usize) -> Result<HostTensor> {
        let EagerCaptioner { backend, tower, info } = self.captioner;
        let step = self.tree.step(first, info)?;
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
}

impl<B: Eager> CaptionSession for EagerSession<'_, B> {
    fn tree(&self) -> &TextTree {
        &self.tree
    }

    fn grow(&mut self, nodes: &[Vec<TreeNode>]) -> Result<HostTensor> {
        let info = &self.captioner.info;
        let first = self.tree.length();
        self.tree.grow(nodes, info)?;
        if self.tree.length() == first {
            return Ok(HostTensor::zeros([nodes.len(), 0, info.logits]));
        }
        match info.reading {
            Reading::Causal { .. } => self.extend(first),
            Reading::Whole => self.tree.read_whole(first, info, |image, texts| self.logits(image, texts)),
        }
    }

    fn logits(&self, image: usize, texts: &TokenBatch) -> Result<HostTensor> {
        let EagerCaptioner { backend, tower, info } = self.captioner;
        info.check(texts)?;
        if image >= self.tree.images() {
            return Err(Error::InvalidArgument(format!("there is no image {image}")));
        }
        if texts.rows() == 0 {
            return Ok(HostTensor::zeros([0, texts.length(), info.logits]));
        }
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
