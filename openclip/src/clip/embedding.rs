//! A point of the joint space of images and texts.

/// An embedding of unit length.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding(Vec<f32>);

impl Embedding {
    /// The direction of `values`. A vector of zeros stays one.
    pub fn normalized(values: &[f32]) -> Self {
        let norm = values.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
        // As torch.nn.functional.normalize, which keeps tiny vectors from being blown up.
        let scale = (1.0 / norm.max(1e-12)) as f32;
        Self(values.iter().map(|x| x * scale).collect())
    }

    /// The direction of the mean of `embeddings`.
    pub fn mean<'a>(embeddings: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        let mut embeddings = embeddings.into_iter();
        let mut sum = embeddings.next()?.0.clone();
        for embedding in embeddings {
            sum.iter_mut().zip(&embedding.0).for_each(|(sum, value)| *sum += value);
        }
        Some(Self::normalized(&sum))
    }

    /// The components.
    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }

    /// The components.
    pub fn into_vec(self) -> Vec<f32> {
        self.0
    }

    /// Cosine similarity, from -1 to 1.
    pub fn cosine(&self, other: &Self) -> f32 {
        self.0.iter().zip(&other.0).map(|(a, b)| a * b).sum()
    }
}

impl AsRef<[f32]> for Embedding {
    fn as_ref(&self) -> &[f32] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_one() {
        let embedding = Embedding::normalized(&[3.0, 4.0]);
        assert_eq!(embedding.as_slice(), [0.6, 0.8]);
        assert!((embedding.cosine(&embedding) - 1.0).abs() < 1e-6);
        assert_eq!(Embedding::normalized(&[0.0, 0.0]).as_slice(), [0.0, 0.0]);
    }

    #[test]
    fn the_mean_of_directions_is_between_them() {
        let (x, y) = (Embedding::normalized(&[2.0, 0.0]), Embedding::normalized(&[0.0, 5.0]));
        let mean = Embedding::mean([&x, &y]).unwrap();
        assert!((mean.cosine(&x) - mean.cosine(&y)).abs() < 1e-6);
        assert!(Embedding::mean([]).is_none());
    }
}
