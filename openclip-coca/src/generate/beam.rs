//! Beam search as the reference runs it: by sums of logits, in groups that don't compete, a finished text's sum divided by
//! its length (`BeamSearchScorer` of `transformers`, without early stopping).

use std::collections::HashMap;

use openclip_core::{CaptionSession, Result, TreeNode};

use super::{Caption, GenerationOptions, logits::process};

/// The score of beams that aren't in use at the first step, where all of a group are equal.
const UNUSED: f32 = -1e9;

/// Captions of the images of a session.
pub(super) fn search(
    session: &mut dyn CaptionSession,
    options: &GenerationOptions,
    num_beams: usize,
    num_beam_groups: usize,
) -> Result<Vec<Caption>> {
    let size = num_beams / num_beam_groups.max(1);
    let mut searches = vec![Search::new(options, size, num_beam_groups); session.tree().images()];
    loop {
        let nodes: Vec<Vec<TreeNode>> = searches.iter_mut().map(Search::nodes).collect();
        if nodes.iter().all(Vec::is_empty) {
            break;
        }
        let first = session.tree().length();
        let logits = session.grow(&nodes)?;
        let vocabulary = logits.dims().last().copied().unwrap_or(0).max(1);
        for (search, rows) in searches.iter_mut().zip(logits.rows()) {
            let rows: Vec<&[f32]> = rows.chunks_exact(vocabulary).collect();
            search.advance(&rows, first, options);
        }
    }
    Ok(searches.into_iter().map(|search| search.finish(options)).collect())
}

/// The search for one image's caption.
#[derive(Clone)]
struct Search {
    groups: Vec<Group>,
    /// Tokens that aren't in the tree yet, and what comes before the first of them.
    fresh: Vec<TreeNode>,
}

/// Beams that compete with each other.
#[derive(Clone)]
struct Group {
    beams: Vec<Beam>,
    finished: Finished,
    done: bool,
}

/// A text that isn't finished.
#[derive(Clone)]
struct Beam {
    tokens: Vec<u32>,
    score: f32,
    /// Where its last token is among those that are new in the tree.
    fresh: usize,
}

impl Search {
    fn new(options: &GenerationOptions, size: usize, groups: usize) -> Self {
        let tokens = options.beginning();
        let chain = tokens.iter().enumerate();
        let fresh: Vec<TreeNode> =
            chain.map(|(place, &id)| TreeNode { parent: place.checked_sub(1), id }).collect();
        let last = fresh.len().saturating_sub(1);
        let beam = |place| Beam {
            tokens: tokens.clone(),
            score: if place == 0 { 0.0 } else { UNUSED },
            fresh: last,
        };
        let group =
            Group { beams: (0..size).map(beam).collect(), finished: Finished::new(size), done: false };
        Self { groups: vec![group; groups], fresh }
    }

    /// What the tree needs for the next step: nothing when the search is over.
    fn nodes(&mut self) -> Vec<TreeNode> {
        std::mem::take(&mut self.fresh)
    }

    /// A step of all groups. `rows` are the logits behind the new tokens, which stand in the tree from place `first` on.
    fn advance(&mut self, rows: &[&[f32]], first: usize, options: &GenerationOptions) {
        let open = |group: &Group, options: &GenerationOptions| {
            let length = group.beams.first().map_or(0, |beam| beam.tokens.len());
            !group.done && length < options.seq_len
        };
        // Beams with the same tokens are one text, whatever groups they are in.
        let mut known: HashMap<TreeNode, usize> = HashMap::new();
        for group in self.groups.iter_mut().filter(|group| open(group, options)) {
            group.advance(rows, options);
            if !open(group, options) {
                continue;
            }
            for beam in &mut group.beams {
                let Some(&id) = beam.tokens.last() else { continue };
                let node = TreeNode { parent: Some(first + beam.fresh), id };
                beam.fresh = *known.entry(node).or_insert_with(|| {
                    self.fresh.push(node);
                    self.fresh.len() - 1
                });
            }
        }
    }

    /// The best text of all groups.
    fn finish(self, options: &GenerationOptions) -> Caption {
        let mut best: Option<(f64, Vec<u32>)> = None;
        for mut group in self.groups {
            if !group.done {
                for beam in group.beams {
                    let length = beam.tokens.len();
                    group.finished.add(beam.tokens, beam.score, length);
                }
            }
            for (score, tokens) in group.finished.texts {
                // The last of equal ones counts.
                if best.as_ref().is_none_or(|(highest, _)| score >= *highest) {
                    best = Some((score, tokens));
                }
            }
        }
        let (score, mut tokens) = best.unwrap_or_default();
        if tokens.len() < options.seq_len {
            tokens.push(options.eos_token_id);
        }
        Caption { tokens, score: score as f32 }
    }
}

impl Group {
    /// Each beam goes on with some token: the best of all such texts are the next beams, unless they end.
    fn advance(&mut self, rows: &[&[f32]], options: &GenerationOptions) {
        let size = self.beams.len();
        let mut candidates = Best::new(2 * size);
        for (place, beam) in self.beams.iter().enumerate() {
            let mut logits = rows.get(beam.fresh).map(|row| row.to_vec()).unwrap_or_default();
            process(&mut logits, &beam.tokens, options);
            for (id, logit) in (0..).zip(logits) {
                candidates.offer(Candidate { score: logit + beam.score, beam: place, id });
            }
        }
        let length = self.beams.first().map_or(0, |beam| beam.tokens.len()) + 1;
        let mut next = Vec::with_capacity(size);
        for (rank, candidate) in candidates.sorted.iter().enumerate() {
            let Some(beam) = self.beams.get(candidate.beam) else { continue };
            if candidate.id == options.eos_token_id {
                if rank < size {
                    self.finished.add(beam.tokens.clone(), candidate.score, length);
                }
                continue;
            }
            let tokens = [beam.tokens.as_slice(), &[candidate.id]].concat();
            next.push(Beam { tokens, score: candidate.score, fresh: beam.fresh });
            if next.len() == size {
                break;
            }
        }
        let highest = candidates.sorted.first().map_or(UNUSED, |candidate| candidate.score);
        self.done = self.finished.cannot_improve(highest, length);
        self.beams = next;
    }
}

/// A beam with a token more.
#[derive(Clone, Copy)]
struct Candidate {
    score: f32,
    beam: usize,
    id: u32,
}

/// The highest of the candidates so far, the first of equal ones first.
struct Best {
    sorted: Vec<Candidate>,
    count: usize,
}

impl Best {
    fn new(count: usize) -> Self {
        Self { sorted: Vec::with_capacity(count + 1), count }
    }

    fn offer(&mut self, candidate: Candidate) {
        let full = self.sorted.len() >= self.count;
        if full && self.sorted.last().is_none_or(|last| candidate.score <= last.score) {
            return;
        }
        let place = self.sorted.partition_point(|other| other.score >= candidate.score);
        self.sorted.insert(place, candidate);
        self.sorted.truncate(self.count);
    }
}

/// The best finished texts of a group.
#[derive(Clone)]
struct Finished {
    /// Scores, and tokens without the end token, in the order in which they came.
    texts: Vec<(f64, Vec<u32>)>,
    size: usize,
    worst: f64,
}

impl Finished {
    fn new(size: usize) -> Self {
        Self { texts: Vec::with_capacity(size + 1), size, worst: 1e9 }
    }

    /// Adds a text of `length` tokens whose logits sum up to `sum`, if it is among the best.
    fn add(&mut self, tokens: Vec<u32>, sum: f32, length: usize) {
        let score = f64::from(sum) / length as f64;
        if self.texts.len() >= self.size && score <= self.worst {
            return;
        }
        self.texts.push((score, tokens));
        if self.texts.len() <= self.size {
            self.worst = self.worst.min(score);
            return;
        }
        let lowest = self.texts.iter().enumerate().min_by(|(_, (a, _)), (_, (b, _))| a.total_cmp(b));
        if let Some((place, _)) = lowest {
            self.texts.remove(place);
        }
        self.worst = self.texts.iter().map(|(score, _)| *score).fold(f64::INFINITY, f64::min);
    }

    /// Whether no text of `length` tokens whose logits sum up to `highest` could come in.
    fn cannot_improve(&self, highest: f32, length: usize) -> bool {
        self.texts.len() >= self.size && self.worst >= f64::from(highest) / length as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_the_finished_leaves() {
        let mut finished = Finished::new(2);
        finished.add(vec![1], 4.0, 2);
        assert!(!finished.cannot_improve(-9.0, 1));
        finished.add(vec![2], 9.0, 3);
        finished.add(vec![3], 1.0, 1);
        finished.add(vec![4], 5.0, 2);
        let scores: Vec<f64> = finished.texts.iter().map(|(score, _)| *score).collect();
        assert_eq!((scores, finished.worst), (vec![3.0, 2.5], 2.5));
        assert!(finished.cannot_improve(5.0, 2) && !finished.cannot_improve(5.2, 2));
    }

    #[test]
    fn candidates_are_sorted_the_first_of_equal_ones_first() {
        let mut best = Best::new(3);
        for (score, id) in [(1.0, 0), (2.0, 1), (2.0, 2), (0.5, 3), (3.0, 4)] {
            best.offer(Candidate { score, beam: 0, id });
        }
        assert_eq!(best.sorted.iter().map(|candidate| candidate.id).collect::<Vec<_>>(), [4, 1, 2]);
    }
}
