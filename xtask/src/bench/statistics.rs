//! What a series of measurements says: its median and its quartiles.

/// A series of measurements in three numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// A quarter of the values is below this.
    pub lower: f64,
    /// Half of the values is below this.
    pub median: f64,
    /// Three quarters of the values are below this.
    pub upper: f64,
}

impl Summary {
    /// The summary of `values`, or nothing where there are none. A quantile between two values is interpolated linearly.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |quantile: f64| {
            let position = quantile * sorted.len().saturating_sub(1) as f64;
            let below = *sorted.get(position.floor() as usize)?;
            let above = *sorted.get(position.ceil() as usize)?;
            Some(below + (above - below) * position.fract())
        };
        Some(Self { lower: at(0.25)?, median: at(0.5)?, upper: at(0.75)? })
    }
}

/// How many times as fast as `peer` the subject was, round by round: what slows a round down slows both.
pub fn speedups(subject: &[f64], peer: &[f64]) -> Vec<f64> {
    subject.iter().zip(peer).map(|(subject, peer)| peer / subject).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_interpolated() {
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(Summary::of(&[3.0]), Some(Summary { lower: 3.0, median: 3.0, upper: 3.0 }));
        let summary = Summary::of(&[4.0, 1.0, 3.0, 2.0]);
        assert_eq!(summary, Some(Summary { lower: 1.75, median: 2.5, upper: 3.25 }));
        let summary = Summary::of(&[10.0, 50.0, 20.0, 40.0, 30.0]);
        assert_eq!(summary, Some(Summary { lower: 20.0, median: 30.0, upper: 40.0 }));
    }

    #[test]
    fn one_disturbed_round_doesnt_move_the_median_of_ratios() {
        // The peer takes twice as long in every round; the machine was busy in the third and in half of the fourth.
        let (subject, peer) = ([1.0, 1.1, 9.0, 1.0, 1.2], [2.0, 2.2, 18.0, 7.0, 2.4]);
        let ratios = speedups(&subject, &peer);
        assert_eq!(ratios, [2.0, 2.0, 2.0, 7.0, 2.0]);
        assert_eq!(Summary::of(&ratios).unwrap().median, 2.0);
    }
}
