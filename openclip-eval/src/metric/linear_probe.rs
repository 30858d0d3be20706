//! Linear probes: a linear layer that is trained on features, as CLIP_benchmark trains it: AdamW without warm-up, a cosine
//! schedule, cross entropy. On equal initial values and orders of samples it becomes the same; CLIP_benchmark draws both from
//! PyTorch's generator, this from its own.

use ndarray::{Array1, Array2, ArrayView2, Axis};
use rayon::prelude::*;

use crate::error::{Error, Result};

/// How a layer is trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainOptions {
    /// The learning rate at the start.
    pub learning_rate: f64,
    /// Passes over the samples.
    pub epochs: usize,
    /// Samples of a step.
    pub batch_size: usize,
    /// What initial values and orders are drawn from.
    pub seed: u64,
}

impl Default for TrainOptions {
    /// Ten epochs from 0.1 in batches of 64.
    fn default() -> Self {
        Self { learning_rate: 0.1, epochs: 10, batch_size: 64, seed: 0 }
    }
}

/// Features `[N, D]` and their classes.
#[derive(Clone, Debug)]
pub struct Labelled {
    /// `[N, D]`.
    pub features: Array2<f32>,
    /// Of each row.
    pub classes: Vec<usize>,
}

impl Labelled {
    /// The rows of these places.
    pub fn select(&self, places: &[usize]) -> Self {
        let classes = places.iter().filter_map(|&place| self.classes.get(place).copied()).collect();
        Self { features: self.features.select(Axis(0), places), classes }
    }

    /// Both, one behind the other.
    ///
    /// # Errors
    /// [`Error::Undefined`] when their features differ in width.
    pub fn and(&self, other: &Self) -> Result<Self> {
        let features = ndarray::concatenate(Axis(0), &[self.features.view(), other.features.view()])
            .map_err(|error| {
                Error::Undefined(format!("features of two splits don't go together: {error}"))
            })?;
        Ok(Self { features, classes: [self.classes.as_slice(), &other.classes].concat() })
    }
}

/// A linear layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// `[C, D]`.
    pub weight: Array2<f32>,
    /// `[C]`.
    pub bias: Array1<f32>,
}

impl Linear {
    /// Values as `torch.nn.Linear` draws them, uniform up to the inverse root of the width.
    pub fn new(classes: usize, width: usize, random: &mut Random) -> Self {
        let bound = 1.0 / (width.max(1) as f64).sqrt();
        let mut draw = || ((2.0 * random.uniform() - 1.0) * bound) as f32;
        let weight = Array2::from_shape_simple_fn((classes, width), &mut draw);
        Self { weight, bias: Array1::from_shape_simple_fn(classes, &mut draw) }
    }

    /// Scores of features: `[N, D] -> [N, C]`.
    pub fn scores(&self, features: &ArrayView2<'_, f32>) -> Array2<f32> {
        features.dot(&self.weight.t()) + &self.bias
    }
}

/// Numbers from 0 to 1 in an order that a seed decides: splitmix64 (Steele, Lea and Flood, 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        (z >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// The numbers below `count` in some order.
    pub fn permutation(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            order.swap(last, (self.uniform() * (last + 1) as f64) as usize);
        }
        order
    }
}

/// Trains `layer` on the samples in the order of each epoch, with this weight decay.
pub fn train(
    data: &Labelled,
    mut layer: Linear,
    orders: &[Vec<usize>],
    options: &TrainOptions,
    weight_decay: f64,
) -> Linear {
    let steps_each = data.classes.len().div_ceil(options.batch_size.max(1));
    let steps = steps_each * orders.len();
    let mut weight = Moments::new(layer.weight.len());
    let mut bias = Moments::new(layer.bias.len());
    let batches = orders.iter().flat_map(|order| order.chunks(options.batch_size.max(1)));
    for (step, places) in batches.enumerate() {
        let batch = data.select(places);
        let mut slope = layer.scores(&batch.features.view());
        let count = places.len() as f32;
        for (mut row, &class) in slope.rows_mut().into_iter().zip(&batch.classes) {
            let largest = row.fold(f32::NEG_INFINITY, |largest, &score| largest.max(score));
            row.mapv_inplace(|score| (score - largest).exp());
            let sum = row.sum() * count;
            row.mapv_inplace(|power| power / sum);
            if let Some(own) = row.get_mut(class) {
                *own -= 1.0 / count;
            }
        }
        let cosine = (std::f64::consts::PI * step as f64 / steps as f64).cos();
        let pace = Pace {
            rate: 0.5 * (1.0 + cosine) * options.learning_rate,
            decay: weight_decay,
            step: step as i32 + 1,
        };
        let weight_slope = slope.t().dot(&batch.features);
        weight.step(layer.weight.as_slice_mut(), weight_slope.as_standard_layout().as_slice(), &pace);
        bias.step(layer.bias.as_slice_mut(), slope.sum_axis(Axis(0)).as_slice(), &pace);
    }
    layer
}

/// AdamW's running means.
struct Moments {
    first: Vec<f32>,
    second: Vec<f32>,
}

struct Pace {
    rate: f64,
    decay: f64,
    step: i32,
}

impl Moments {
    fn new(count: usize) -> Self {
        Self { first: vec![0.0; count], second: vec![0.0; count] }
    }

    /// A step of AdamW (Loshchilov and Hutter, 2019) with PyTorch's defaults.
    fn step(&mut self, values: Option<&mut [f32]>, slopes: Option<&[f32]>, pace: &Pace) {
        const BETAS: [f64; 2] = [0.9, 0.999];
        const EPSILON: f32 = 1e-8;
        let [first, second] = BETAS.map(|beta| 1.0 - beta.powi(pace.step));
        let (keep, root) = ((1.0 - pace.rate * pace.decay) as f32, second.sqrt() as f32);
        let rate = (pace.rate / first) as f32;
        let moments = self.first.iter_mut().zip(&mut self.second);
        let pairs = values.unwrap_or_default().iter_mut().zip(slopes.unwrap_or_default());
        for ((value, &slope), (m, v)) in pairs.zip(moments) {
            *m += (slope - *m) * (1.0 - BETAS[0]) as f32;
            *v = *v * BETAS[1] as f32 + slope * slope * (1.0 - BETAS[1]) as f32;
            *value = *value * keep - rate * *m / (v.sqrt() / root + EPSILON);
        }
    }
}

/// Trains with each weight decay, on all cores, from the same values and in the same orders.
fn train_each(data: &Labelled, classes: usize, options: &TrainOptions, decays: &[f64]) -> Vec<Linear> {
    let mut random = Random::new(options.seed);
    let layer = Linear::new(classes, data.features.ncols(), &mut random);
    let orders: Vec<Vec<usize>> =
        (0..options.epochs).map(|_| random.permutation(data.classes.len())).collect();
    decays.par_iter().map(|&decay| train(data, layer.clone(), &orders, options, decay)).collect()
}

/// The share of samples whose class has the highest score.
fn accuracy(layer: &Linear, data: &Labelled) -> f64 {
    let hits = data.features.axis_chunks_iter(Axis(0), 1024).zip(data.classes.chunks(1024)).map(
        |(features, classes)| {
            let scores = layer.scores(&features);
            let right = |(row, &class): (ndarray::ArrayView1<'_, f32>, &usize)| {
                super::top::argmax(row.as_slice().unwrap_or_default()) == Some(class)
            };
            scores.rows().into_iter().zip(classes).filter(|&(row, class)| right((row, class))).count()
        },
    );
    hits.sum::<usize>() as f64 / data.classes.len() as f64
}

/// Weight decays that are tried: 97 from 1e-6 to 100.
const DECAYS: usize = 97;

fn decay(place: usize) -> f64 {
    10.0_f64.powf(-6.0 + 8.0 * place as f64 / (DECAYS - 1) as f64)
}

/// The weight decay that does best on `validation`: first seven over the whole range, then ever nearer to the best.
fn best_decay(data: &Labelled, validation: &Labelled, classes: usize, options: &TrainOptions) -> f64 {
    let best = |places: &[usize], peak: usize| {
        let decays: Vec<f64> = places.iter().map(|&place| decay(place)).collect();
        let layers = train_each(data, classes, options, &decays);
        let scored = layers.iter().zip(places).map(|(layer, &place)| (accuracy(layer, validation), place));
        // The first of several equally good ones.
        scored.fold((0.0, peak), |best, found| if found.0 > best.0 { found } else { best }).1
    };
    let coarse: Vec<usize> = (0..DECAYS).step_by(16).collect();
    let mut peak = best(&coarse, 0);
    for span in [8, 4, 2, 1] {
        let places = [peak.saturating_sub(span), peak, (peak + span).min(DECAYS - 1)];
        peak = best(&places, 0);
    }
    decay(peak)
}

/// `count` samples of each class, drawn at random; all in random order where no number is given.
///
/// # Errors
/// [`Error::Undefined`] when a class has fewer.
pub fn few_shot(data: &Labelled, count: Option<usize>, seed: u64) -> Result<Labelled> {
    let order = Random::new(seed).permutation(data.classes.len());
    let Some(count) = count else { return Ok(data.select(&order)) };
    let mut taken: std::collections::BTreeMap<usize, usize> = std::collections::BTreeMap::new();
    let mut places = Vec::new();
    for place in order {
        let Some(&class) = data.classes.get(place) else { continue };
        let taken = taken.entry(class).or_default();
        if *taken < count {
            *taken += 1;
            places.push(place);
        }
    }
    match taken.iter().find(|&(_, &taken)| taken < count) {
        Some((class, taken)) => Err(Error::Undefined(format!(
            "class {class} has {taken} samples to train on, and {count} are wanted"
        ))),
        None => Ok(data.select(&places)),
    }
}

/// A trained probe.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The layer.
    pub layer: Linear,
    /// The weight decay that did best on the validation samples; 0 without any.
    pub weight_decay: f64,
}

/// Trains a probe. With validation samples the weight decay is chosen by them; then all of both are trained on, unless the
/// training samples are `few`.
///
/// # Errors
/// [`Error::Undefined`] when there is nothing to train on, or the splits' features differ in width.
pub fn probe(
    training: &Labelled,
    validation: Option<&Labelled>,
    few: bool,
    options: &TrainOptions,
) -> Result<Probe> {
    let all = training.classes.iter().chain(validation.iter().flat_map(|data| &data.classes));
    let Some(classes) = all.max().map(|largest| largest + 1) else {
        return Err(Error::Undefined("a probe needs at least one sample to train on".to_owned()));
    };
    let (weight_decay, data) = match validation {
        None => (0.0, training.clone()),
        Some(validation) => {
            let both = training.and(validation)?;
            let decay = best_decay(training, validation, classes, options);
            (decay, if few { training.clone() } else { both })
        }
    };
    let layer = train_each(&data, classes, options, &[weight_decay]).pop();
    layer
        .map(|layer| Probe { layer, weight_decay })
        .ok_or_else(|| Error::Undefined("no probe was trained".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clouds(count: usize, spread: f32) -> Labelled {
        let mut random = Random::new(7);
        let classes: Vec<usize> = (0..count).map(|place| place % 3).collect();
        let value = |(place, axis): (usize, usize)| {
            f32::from(u8::from(place % 3 == axis)) + spread * (random.uniform() as f32 - 0.5)
        };
        Labelled { features: Array2::from_shape_fn((count, 3), value), classes }
    }

    #[test]
    fn a_probe_learns_and_is_repeatable() {
        let data = clouds(90, 0.8);
        let options = TrainOptions::default();
        let found = probe(&data, Some(&clouds(30, 0.9)), false, &options).unwrap();
        assert!(accuracy(&found.layer, &data) > 0.9);
        assert!((1e-6..=100.0).contains(&found.weight_decay));
        let again = probe(&data, Some(&clouds(30, 0.9)), false, &options).unwrap();
        assert_eq!(found.layer, again.layer);
        let other = probe(&data, None, false, &TrainOptions { seed: 1, ..options }).unwrap();
        assert_ne!(found.layer, other.layer);
        assert_eq!(other.weight_decay, 0.0);
    }

    #[test]
    fn shots_are_drawn_from_each_class() {
        let few = few_shot(&clouds(31, 0.1), Some(4), 3).unwrap();
        let count = |class| few.classes.iter().filter(|&&found| found == class).count();
        assert_eq!([count(0), count(1), count(2)], [4, 4, 4]);
        let error = few_shot(&clouds(5, 0.1), Some(2), 3).unwrap_err().to_string();
        assert!(error.contains("class 2 has 1 samples to train on, and 2 are wanted"), "{error}");
        assert_eq!(few_shot(&clouds(5, 0.1), None, 3).unwrap().classes.len(), 5);
        assert!(probe(&few.select(&[]), None, false, &TrainOptions::default()).is_err());
    }

    #[test]
    fn decays_span_eight_powers_of_ten() {
        assert!((decay(0) - 1e-6).abs() < 1e-12 && (decay(DECAYS - 1) - 100.0).abs() < 1e-9);
        let mut order = Random::new(1).permutation(50);
        assert_ne!(order, (0..50).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..50).collect::<Vec<_>>());
    }
}
