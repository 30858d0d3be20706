//! The mean of NumPy, to the last bit: `numpy.add.reduce` doesn't sum from left to right.

/// Values that are summed at once, in eight sums side by side.
const BLOCK: usize = 128;

/// The mean; not a number for nothing.
pub(crate) fn mean(values: &[f64]) -> f64 {
    sum(values) / values.len() as f64
}

fn sum(values: &[f64]) -> f64 {
    if values.len() < 8 {
        return values.iter().sum();
    }
    if values.len() > BLOCK {
        let half = values.len() / 2;
        let (left, right) = values.split_at(half - half % 8);
        return sum(left) + sum(right);
    }
    let (eights, rest) = values.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for eight in eights {
        sums.iter_mut().zip(eight).for_each(|(sum, value)| *sum += value);
    }
    let [a, b, c, d, e, f, g, h] = sums;
    rest.iter().fold(((a + b) + (c + d)) + ((e + f) + (g + h)), |sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_numpys() {
        let numbers =
            |count: i32| -> Vec<f64> { (0..count).map(|number| 1.0 / f64::from(number + 1)).collect() };
        // (1 / (numpy.arange(n) + 1.0)).mean()
        for (count, expected) in NUMPY {
            assert_eq!(mean(&numbers(count)), expected, "{count}");
        }
        assert!(mean(&[]).is_nan());
    }

    const NUMPY: [(i32, f64); 5] = [
        (5, 0.45666666666666667),
        (20, 0.1798869828571841),
        (100, 0.05187377517639621),
        (300, 0.02094221293433168),
        (1001, 0.0074789908706786685),
    ];
}
