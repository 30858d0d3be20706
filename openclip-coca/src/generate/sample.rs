//! Sampling: a token at a time, drawn from the likeliest.

use openclip_core::{CaptionSession, Result, TreeNode};

use super::{
    Caption, GenerationOptions, Method,
    logits::{draw, keep_top_k, keep_top_p, log_probability, process, softmax},
    uniforms::Uniforms,
};

/// A text that is being written.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    tokens: Vec<u32>,
    /// Sum of the logarithms of the drawn tokens' probabilities.
    score: f64,
    /// Where its last token is in the tree, and how many tokens of the text are in the tree before it.
    placed: Option<(usize, usize)>,
    uniforms: Uniforms,
}

impl Sample {
    pub(super) fn new(options: &GenerationOptions) -> Self {
        Self { tokens: options.beginning(), score: 0.0, placed: None, uniforms: Uniforms::new(options.seed) }
    }

    /// The tokens so far.
    pub(super) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Whether the text is as long as it may be, or over.
    pub(super) fn is_done(&self, options: &GenerationOptions) -> bool {
        let ends = [options.eos_token_id, options.pad_token_id];
        self.tokens.len() >= options.seq_len || self.tokens.last().is_some_and(|last| ends.contains(last))
    }

    /// The tokens that are looked at.
    fn window(&self, options: &GenerationOptions) -> &[u32] {
        let start = self.tokens.len().saturating_sub(options.max_seq_len);
        self.tokens.get(start..).unwrap_or_default()
    }

    /// What the tree needs for the next token: one token more, or where the window has moved, a text of its own.
    fn nodes(&mut self, options: &GenerationOptions, first: usize) -> Vec<TreeNode> {
        let window = self.window(options);
        let (mut parent, known) = match self.placed {
            Some((place, known)) if self.tokens.len() <= options.max_seq_len => (Some(place), known),
            _ => (None, 0),
        };
        let places = first..first + window.len() - known.min(window.len());
        let nodes: Vec<TreeNode> = window
            .iter()
            .skip(known)
            .zip(places)
            .map(|(&id, place)| TreeNode { parent: parent.replace(place), id })
            .collect();
        self.placed = parent.map(|place| (place, window.len()));
        nodes
    }

    /// Draws a token by `logits` of what follows the text.
    fn draw(&mut self, logits: &[f32], options: &GenerationOptions) {
        let window = self.window(options);
        let mut kept = logits.to_vec();
        process(&mut kept, window, options);
        match options.method {
            Method::TopK { top_k } => keep_top_k(&mut kept, top_k),
            Method::TopP { top_p } => keep_top_p(&mut kept, top_p),
            Method::BeamSearch { .. } => {}
        }
        kept.iter_mut().for_each(|logit| *logit /= options.temperature);
        let id = match window.len() + 1 == options.seq_len {
            true => options.eos_token_id,
            false => draw(&softmax(&kept), self.uniforms.next()) as u32,
        };
        self.score += log_probability(logits, id as usize);
        self.tokens.push(id);
    }

    pub(super) fn finish(mut self, options: &GenerationOptions) -> Caption {
        let drawn = self.tokens.len() - options.beginning().len().min(self.tokens.len());
        if options.fixed_output_length {
            self.tokens.resize(options.seq_len.max(self.tokens.len()), options.pad_token_id);
        }
        Caption { tokens: self.tokens, score: (self.score / drawn.max(1) as f64) as f32 }
    }
}

/// Draws the next token of each text that isn't done. Says whether there was any.
pub(super) fn step(
    session: &mut dyn CaptionSession,
    samples: &mut [Sample],
    options: &GenerationOptions,
) -> Result<bool> {
    let first = session.tree().length();
    let nodes: Vec<Vec<TreeNode>> = samples
        .iter_mut()
        .map(|sample| if sample.is_done(options) { Vec::new() } else { sample.nodes(options, first) })
        .collect();
    if nodes.iter().all(Vec::is_empty) {
        return Ok(false);
    }
    let logits = session.grow(&nodes)?;
    let vocabulary = logits.dims().last().copied().unwrap_or(0).max(1);
    for ((sample, nodes), rows) in samples.iter_mut().zip(&nodes).zip(logits.rows()) {
        // Of several tokens, the last one is followed by the next.
        let last = nodes.len().checked_sub(1).and_then(|last| rows.chunks_exact(vocabulary).nth(last));
        if let Some(logits) = last {
            sample.draw(logits, options);
        }
    }
    Ok(true)
}
