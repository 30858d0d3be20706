//! Texts that share their beginnings: a tree of tokens for each image, and who sees whom in it.
//!
//! A decoder that attends to the tokens of a tree under a mask that shows each token its ancestors computes what it would
//! for each text by itself. Keys and values stay where they are when beams are reordered, and what several texts
//! have in common is there once.

use super::{CaptionInfo, Reading};
use crate::{Error, HostTensor, Result, TokenBatch};

/// A token of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TreeNode {
    /// Place of the token before it; nothing for a text's first token.
    pub parent: Option<usize>,
    /// Token id.
    pub id: u32,
}

/// The trees of some images. All have nodes at the same places; an empty place is a text of its own that nobody continues.
#[derive(Clone, Debug)]
pub struct TextTree {
    images: Vec<Vec<Placed>>,
    length: usize,
}

#[derive(Clone, Copy, Debug)]
struct Placed {
    node: TreeNode,
    /// Tokens before it.
    depth: usize,
}

/// New nodes of a tree as a captioner takes them.
#[derive(Clone, Debug)]
pub struct TreeStep {
    /// Token ids `[N, S]`.
    pub ids: TokenBatch,
    /// One-hot positions `[N, S, positions]`.
    pub positions: HostTensor,
    /// Who sees whom in the text tower: `[N, 1, S, P + S]`, 0 or `-inf`.
    pub text_bias: HostTensor,
    /// Who sees whom in the decoder: `[N, 1, S, P + S]`, 0 or `-inf`.
    pub decoder_bias: HostTensor,
}

impl TextTree {
    /// Trees without nodes for so many images.
    pub fn new(images: usize) -> Self {
        Self { images: vec![Vec::new(); images], length: 0 }
    }

    /// Number of images.
    pub fn images(&self) -> usize {
        self.images.len()
    }

    /// Number of places.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The text that ends at `place` of an image's tree. Empty where there is no such place.
    pub fn text(&self, image: usize, place: usize) -> Vec<u32> {
        let mut ids: Vec<u32> = self.ancestry(image, Some(place)).map(|(_, placed)| placed.node.id).collect();
        ids.reverse();
        ids
    }

    /// The node at `place` with its place, and all before it, the last first.
    fn ancestry(
        &self,
        image: usize,
        place: Option<usize>,
    ) -> impl Iterator<Item = (usize, Placed)> + use<'_> {
        let placed = move |place: usize| Some((place, *self.images.get(image)?.get(place)?));
        std::iter::successors(place.and_then(placed), move |(_, last)| last.node.parent.and_then(placed))
    }

    /// Adds `nodes` to each image's tree.
    ///
    /// # Errors
    /// [`Error::Shape`] for nodes of another number of images, [`Error::InvalidArgument`] for parents that aren't there,
    /// texts longer than the context and ids outside the vocabulary.
    pub fn grow(&mut self, nodes: &[Vec<TreeNode>], info: &CaptionInfo) -> Result<()> {
        if nodes.len() != self.images() {
            let images = |count: usize| format!("nodes of {count} images");
            return Err(Error::shape("grow", images(self.images()), images(nodes.len())));
        }
        let longest = nodes.iter().map(Vec::len).max().unwrap_or(0);
        let mut grown = self.images.clone();
        for (placed, nodes) in grown.iter_mut().zip(nodes) {
            for &node in nodes {
                info.check_id(node.id)?;
                let depth = match node.parent {
                    None => 0,
                    Some(parent) => placed.get(parent).map(|parent| parent.depth + 1).ok_or_else(|| {
                        Error::InvalidArgument(format!(
                            "a text can't go on at place {parent}: nothing is there"
                        ))
                    })?,
                };
                if depth >= info.context_length {
                    let message = format!("a text of more than {} tokens doesn't fit the context", depth);
                    return Err(Error::InvalidArgument(message));
                }
                placed.push(Placed { node, depth });
            }
            let empty = Placed { node: TreeNode { parent: None, id: 0 }, depth: 0 };
            placed.resize(self.length + longest, empty);
        }
        (self.images, self.length) = (grown, self.length + longest);
        Ok(())
    }

    /// The nodes from place `first` on, as a captioner takes them that reads texts causally.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for one that doesn't.
    pub fn step(&self, first: usize, info: &CaptionInfo) -> Result<TreeStep> {
        let Reading::Causal { positions, hides_next } = info.reading else {
            let message =
                "texts of this model can't grow: its text tower sees what follows a token".to_owned();
            return Err(Error::InvalidArgument(message));
        };
        let (images, count, keys) = (self.images(), self.length.saturating_sub(first), self.length);
        let mut ids = Vec::with_capacity(images * count);
        let mut one_hot = vec![0.0; images * count * positions];
        let mut text_bias = vec![f32::NEG_INFINITY; images * count * keys];
        let mut decoder_bias = text_bias.clone();
        let places = (0..images).flat_map(|image| (first..keys).map(move |place| (image, place)));
        let rows = one_hot.chunks_exact_mut(positions.max(1));
        let biases = text_bias.chunks_exact_mut(keys.max(1)).zip(decoder_bias.chunks_exact_mut(keys.max(1)));
        for (((image, place), one_hot), (text, decoder)) in places.zip(rows).zip(biases) {
            let mut ancestry = self.ancestry(image, Some(place)).peekable();
            if let Some((_, placed)) = ancestry.peek() {
                ids.push(placed.node.id);
                one_hot.get_mut(placed.depth).into_iter().for_each(|one| *one = 1.0);
            }
            while let Some((key, _)) = ancestry.next() {
                let before = ancestry.peek().map(|(_, placed)| placed.node.id);
                decoder.get_mut(key).into_iter().for_each(|bias| *bias = 0.0);
                if before.is_none() || before != hides_next {
                    text.get_mut(key).into_iter().for_each(|bias| *bias = 0.0);
                }
            }
        }
        Ok(TreeStep {
            ids: TokenBatch::new(images, count, ids)?,
            positions: HostTensor::new([images, count, positions], one_hot)?,
            text_bias: HostTensor::new([images, 1, count, keys], text_bias)?,
            decoder_bias: HostTensor::new([images, 1, count, keys], decoder_bias)?,
        })
    }

    /// Logits `[N, S, V]` of the nodes from place `first` on, where each text has to be read as a whole: `read` gives logits
    /// `[T, L, V]` of texts `[T, L]` about an image.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn read_whole(
        &self,
        first: usize,
        info: &CaptionInfo,
        read: impl Fn(usize, &TokenBatch) -> Result<HostTensor>,
    ) -> Result<HostTensor> {
        let (images, count) = (self.images(), self.length.saturating_sub(first));
        let mut logits = Vec::with_capacity(images * count * info.logits);
        for image in 0..images {
            let texts: Vec<Vec<u32>> = (first..self.length).map(|place| self.text(image, place)).collect();
            for texts in texts.chunk_by(|a, b| a.len() == b.len()) {
                let length = texts.first().map_or(0, Vec::len);
                let read = read(image, &TokenBatch::new(texts.len(), length, texts.concat())?)?;
                let last = read.rows().filter_map(|text| text.rchunks_exact(info.logits.max(1)).next());
                last.for_each(|last| logits.extend_from_slice(last));
            }
        }
        HostTensor::new([images, count, info.logits], logits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ImageInfo;

    fn info(hides_next: Option<u32>) -> CaptionInfo {
        CaptionInfo {
            image: ImageInfo { image_size: [8, 8], embed_dim: 4 },
            context_length: 3,
            vocab_size: 10,
            logits: 10,
            reading: Reading::Causal { positions: 4, hides_next },
            width: 4,
            text_layers: 1,
            decoder_layers: 1,
            image_tokens: 2,
        }
    }

    fn node(parent: Option<usize>, id: u32) -> TreeNode {
        TreeNode { parent, id }
    }

    /// Which keys each new node sees, image by image.
    fn seen(bias: &HostTensor) -> Vec<Vec<usize>> {
        let keys = *bias.dims().last().unwrap();
        bias.data().chunks(keys).map(|row| (0..keys).filter(|&key| row[key] == 0.0).collect()).collect()
    }

    #[test]
    fn a_node_sees_its_own_text() {
        let info = info(Some(0));
        let mut tree = TextTree::new(2);
        tree.grow(&[vec![node(None, 8), node(Some(0), 0)], vec![node(None, 8)]], &info).unwrap();
        tree.grow(&[vec![node(Some(1), 3), node(Some(0), 4)], vec![node(Some(0), 5)]], &info).unwrap();
        assert_eq!(
            (tree.text(0, 2), tree.text(0, 3), tree.text(1, 2)),
            (vec![8, 0, 3], vec![8, 4], vec![8, 5])
        );
        let step = tree.step(2, &info).unwrap();
        assert_eq!(step.ids.ids(), [3, 4, 5, 0]);
        assert_eq!(seen(&step.decoder_bias), [vec![0, 1, 2], vec![0, 3], vec![0, 2], vec![3]]);
        // What stands behind padding is hidden, not the padding.
        assert_eq!(seen(&step.text_bias), [vec![0, 1], vec![0, 3], vec![0, 2], vec![3]]);
        let depths: Vec<_> =
            step.positions.data().chunks(4).map(|row| row.iter().position(|&x| x == 1.0).unwrap()).collect();
        assert_eq!(depths, [2, 1, 1, 0]);
    }

    #[test]
    fn what_doesnt_fit_is_refused_and_changes_nothing() {
        let info = info(None);
        let mut tree = TextTree::new(1);
        tree.grow(&[vec![node(None, 1), node(Some(0), 2), node(Some(1), 3)]], &info).unwrap();
        for nodes in [vec![node(Some(2), 4)], vec![node(Some(3), 4)], vec![node(None, 10)]] {
            assert!(tree.grow(&[nodes], &info).is_err());
        }
        assert!(tree.grow(&[], &info).is_err());
        assert_eq!(tree.length(), 3);
    }
}
