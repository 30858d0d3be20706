//! Texts of a batch in groups of similar length.

use crate::{Error, HostTensor, Result, TextInfo, TokenBatch};

/// Tokens that take as long as what every run of a tower costs: to read its weights once more.
const RUN: usize = 64;

/// The places of texts of these lengths in groups. A group costs its longest length for each of its texts, and a run;
/// together they cost as little as possible.
fn groups(lengths: &[usize]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&place| lengths.get(place));
    // Texts of one length stay together: how many texts there are up to the end of each.
    let same = order.chunk_by(|&a, &b| lengths.get(a) == lengths.get(b));
    let ends = same.scan(0, |end, texts| {
        *end += texts.len();
        Some((*end, texts.first().and_then(|&text| lengths.get(text)).copied().unwrap_or(0)))
    });
    // The least cost of the first texts, and where the last group of them begins.
    let mut best = vec![(0, 0, 0)];
    for (end, length) in ends {
        let costs = best.iter().enumerate().map(|(from, &(cost, start, _))| {
            let texts: usize = end - start;
            (cost + texts * length + RUN, from)
        });
        let (cost, from) = costs.min().unwrap_or_default();
        best.push((cost, end, from));
    }
    let mut groups = Vec::new();
    let mut last = best.len() - 1;
    while last > 0 {
        let Some(&(_, end, from)) = best.get(last) else { break };
        let start = best.get(from).map_or(0, |&(_, start, _)| start);
        groups.push(order.get(start..end).unwrap_or_default().to_vec());
        last = from;
    }
    groups.reverse();
    groups
}

impl TextInfo {
    /// What `encode` gives for the texts, in their order: `[N, D]`. Texts of similar length go through it together, so that short
    /// ones don't wait for long ones.
    ///
    /// # Errors
    /// Those of `encode`; [`Error::Shape`] when it gives something else than a row for each text.
    pub fn in_groups(
        &self,
        tokens: &TokenBatch,
        encode: impl Fn(&TokenBatch) -> Result<HostTensor>,
    ) -> Result<HostTensor> {
        let lengths: Vec<usize> = tokens.iter().map(|ids| self.reach.length(ids)).collect();
        let groups = groups(&lengths);
        if groups.len() <= 1 {
            return encode(tokens);
        }
        let mut values = vec![0.0; tokens.rows() * self.embed_dim];
        for places in groups {
            let embeddings = encode(&tokens.select(&places))?;
            if *embeddings.dims() != [places.len(), self.embed_dim] {
                let expected = format!("[{}, {}]", places.len(), self.embed_dim);
                return Err(Error::shape("encode_text", expected, format!("{:?}", embeddings.dims())));
            }
            for (place, row) in places.into_iter().zip(embeddings.rows()) {
                if let Some(target) = values.get_mut(place * self.embed_dim..(place + 1) * self.embed_dim) {
                    target.copy_from_slice(row);
                }
            }
        }
        HostTensor::new([tokens.rows(), self.embed_dim], values)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cost(groups: &[Vec<usize>], lengths: &[usize]) -> usize {
        let longest = |group: &Vec<usize>| group.iter().map(|&place| lengths[place]).max().unwrap();
        groups.iter().map(|group| group.len() * longest(group) + RUN).sum()
    }

    #[test]
    fn long_texts_are_apart_where_that_saves_more_than_a_run() {
        let none: [Vec<usize>; 0] = [];
        assert_eq!(groups(&[]), none);
        assert_eq!(groups(&[9, 3, 40]), [[1, 0, 2]]);
        assert_eq!(groups(&[9, 3, 77]), [vec![1, 0], vec![2]]);
        assert_eq!(groups(&[9, 3, 77, 8, 10]), [vec![1, 3, 0, 4], vec![2]]);
        assert_eq!(groups(&[77; 40]), [(0..40).collect::<Vec<_>>()]);
    }

    proptest! {
        #[test]
        fn no_other_cut_costs_less(lengths in prop::collection::vec(1_usize..78, 1..9), cuts in 0_usize..256) {
            let found = groups(&lengths);
            let mut all: Vec<usize> = found.concat();
            let mut order: Vec<usize> = (0..lengths.len()).collect();
            order.sort_by_key(|&place| lengths[place]);
            let mut other = vec![Vec::new()];
            for (at, &place) in order.iter().enumerate() {
                other.last_mut().unwrap().push(place);
                if cuts >> at & 1 == 1 && at + 1 < order.len() {
                    other.push(Vec::new());
                }
            }
            prop_assert!(cost(&found, &lengths) <= cost(&other, &lengths), "{found:?}, {other:?}");
            all.sort_unstable();
            prop_assert_eq!(all, (0..lengths.len()).collect::<Vec<_>>());
        }
    }
}
