//! What competitors run their towers on: random pixels, token ids that fill the context, and captions, in files that every
//! competitor reads.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use openclip_core::{HostTensor, TokenBatch};
use openclip_text::{ClipTokenizer, Tokenizer};

use super::npy::{Array, Values};

/// Captions in the manner of photo captions and alternative texts of web pages, in no order.
const CAPTIONS: &str = include_str!("../../reference/captions.txt");

/// Number of captions.
pub const CAPTION_COUNT: usize = 256;

/// `count` images of random pixels, `[N, 3, H, W]`, the same every time.
pub fn pixels(count: usize, [height, width]: [usize; 2]) -> Array {
    let mut random = SplitMix64(1);
    let values = (0..count * 3 * height * width).map(|_| random.uniform(-1.7, 1.7)).collect();
    Array { dims: vec![count, 3, height, width], values: Values::F32(values) }
}

/// `count` texts of random tokens that fill the context, `[N, L]`, the same every time.
pub fn full_texts(count: usize, context_length: usize, vocab_size: usize) -> Array {
    let mut random = SplitMix64(2);
    let end_of_text = vocab_size.saturating_sub(1) as i64;
    let ids = (0..count * context_length).map(|index| match index % context_length {
        // CLIP's vocabularies close with the end-of-text token. In the last place it lets nobody cut a text.
        last if last + 1 == context_length => end_of_text,
        _ => 1 + random.below(end_of_text.unsigned_abs().saturating_sub(2)) as i64,
    });
    Array { dims: vec![count, context_length], values: Values::I64(ids.collect()) }
}

/// `count` captions, from the first on, as CLIP's tokenizer pads them: `[N, L]`.
///
/// # Errors
/// When the model has another vocabulary.
pub fn captions(count: usize, context_length: usize, vocab_size: usize) -> Result<Array> {
    let tokenizer = ClipTokenizer::builder().context_length(context_length).build()?;
    ensure!(
        tokenizer.vocab_size() == vocab_size,
        "captions are for models with CLIP's {} tokens; this one has {vocab_size}",
        tokenizer.vocab_size()
    );
    let texts: Vec<&str> = CAPTIONS.lines().cycle().take(count).collect();
    let ids = tokenizer.tokenize(&texts)?.ids().iter().copied().map(i64::from).collect();
    Ok(Array { dims: vec![count, context_length], values: Values::I64(ids) })
}

/// A file of inputs, read once.
pub struct Inputs {
    path: PathBuf,
    array: Array,
}

impl Inputs {
    /// Reads a file.
    ///
    /// # Errors
    /// When it can't be read, or isn't an array with rows.
    pub fn read(path: &Path) -> Result<Self> {
        let array = Array::read(path)?;
        ensure!(array.dims.len() > 1, "{} holds no rows", path.display());
        Ok(Self { path: path.to_owned(), array })
    }

    /// Whether these are pixels, not token ids.
    pub fn are_pixels(&self) -> bool {
        matches!(self.array.values, Values::F32(_))
    }

    /// The inputs from `first` on as pixels, `[N, 3, H, W]`.
    ///
    /// # Errors
    /// When the file has fewer, or other things.
    pub fn pixels(&self, first: usize, count: usize) -> Result<HostTensor> {
        let Values::F32(values) = &self.array.values else {
            bail!("{} holds no pixels", self.path.display())
        };
        let row: usize = self.array.dims.iter().skip(1).product();
        let dims: Vec<usize> = [count].into_iter().chain(self.array.dims.iter().skip(1).copied()).collect();
        Ok(HostTensor::new(dims, self.rows(values, row, first, count)?.to_vec())?)
    }

    /// The inputs from `first` on as token ids, `[N, L]`.
    ///
    /// # Errors
    /// When the file has fewer, or other things.
    pub fn tokens(&self, first: usize, count: usize) -> Result<TokenBatch> {
        let Values::I64(values) = &self.array.values else { bail!("{} holds no ids", self.path.display()) };
        let length: usize = self.array.dims.iter().skip(1).product();
        let ids = self.rows(values, length, first, count)?.iter().copied().map(u32::try_from);
        Ok(TokenBatch::new(count, length, ids.collect::<Result<_, _>>()?)?)
    }

    fn rows<'a, T>(&self, values: &'a [T], row: usize, first: usize, count: usize) -> Result<&'a [T]> {
        match values.get(first * row..(first + count) * row) {
            Some(rows) => Ok(rows),
            None => bail!("{} holds fewer than {} inputs", self.path.display(), first + count),
        }
    }
}

/// Vigna's generator `splitmix64` (public domain, <https://prng.di.unimi.it/splitmix64.c>).
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn uniform(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * ((self.next() >> 40) as f32 / (1_u64 << 24) as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_the_published_one() {
        let mut random = SplitMix64(1_234_567);
        assert_eq!([random.next(), random.next()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
        assert!((0..1000).all(|_| random.below(7) < 7 && (-2.0..3.0).contains(&random.uniform(-2.0, 3.0))));
    }

    #[test]
    fn inputs_are_read_as_they_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ids.npy");
        Array { dims: vec![2, 2], values: Values::I64(vec![5, 6, 7, 8]) }.write(&path).unwrap();
        let inputs = Inputs::read(&path).unwrap();
        assert!(!inputs.are_pixels() && inputs.pixels(0, 1).is_err());
        assert_eq!(inputs.tokens(0, 1).unwrap(), TokenBatch::new(1, 2, vec![5, 6]).unwrap());
        assert_eq!(inputs.tokens(1, 1).unwrap(), TokenBatch::new(1, 2, vec![7, 8]).unwrap());
        assert_eq!(inputs.tokens(0, 2).unwrap().rows(), 2);
        assert!(inputs.tokens(1, 2).unwrap_err().to_string().contains("fewer than 3 inputs"));

        Array { dims: vec![1, 1, 1, 2], values: Values::F32(vec![0.5, -1.0]) }.write(&path).unwrap();
        let inputs = Inputs::read(&path).unwrap();
        assert!(inputs.are_pixels());
        assert_eq!(inputs.pixels(0, 1).unwrap(), HostTensor::new([1, 1, 1, 2], vec![0.5, -1.0]).unwrap());
    }

    #[test]
    fn texts_are_full() {
        let Array { dims, values: Values::I64(ids) } = full_texts(3, 5, 100) else { panic!("ids") };
        assert_eq!((dims, ids.len()), (vec![3, 5], 15));
        for text in ids.chunks(5) {
            let (last, others) = text.split_last().unwrap();
            assert!(*last == 99 && others.iter().all(|id| (1..99).contains(id)), "{text:?}");
        }
    }

    /// What `--help` and CONTRIBUTING.md say of the captions.
    #[test]
    fn captions_have_the_lengths_that_are_stated() {
        let count = CAPTIONS.lines().count();
        assert_eq!(count, CAPTION_COUNT);
        let Array { dims, values: Values::I64(ids) } = captions(count, 77, 49408).unwrap() else {
            panic!("ids")
        };
        assert_eq!(dims, [256, 77]);
        let lengths = |texts: &[i64]| {
            let length = |text: &[i64]| 1 + text.iter().position(|&id| id == 49407).unwrap();
            let mut lengths: Vec<usize> = texts.chunks(77).map(length).collect();
            lengths.sort_unstable();
            lengths
        };
        let sorted = lengths(&ids);
        assert_eq!([sorted[0], sorted[128], sorted[256 * 9 / 10], sorted[255]], [3, 11, 22, 62]);
        // Whatever batch comes first is like the others.
        for batch in ids.chunks(32 * 77) {
            let sorted = lengths(batch);
            assert!((9..=13).contains(&sorted[16]), "{sorted:?}");
            assert!((30..=62).contains(&sorted[31]), "{sorted:?}");
        }
        let mut lines: Vec<&str> = CAPTIONS.lines().collect();
        lines.sort_unstable();
        lines.dedup();
        assert_eq!(lines.len(), count, "no line is there twice");
    }

    #[test]
    fn captions_are_refused_to_other_vocabularies() {
        assert!(captions(1, 64, 32000).unwrap_err().to_string().contains("49408"));
    }
}
