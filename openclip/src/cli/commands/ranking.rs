//! Labels with scores, best first, and how they are printed.

use std::io::{Write, stdout};

use anyhow::{Context, Result};
use serde::Serialize;

/// A label and its score.
#[derive(Clone, Debug, Serialize)]
pub struct Scored<'a> {
    pub label: &'a str,
    pub score: f32,
}

/// An image's labels, best first.
#[derive(Clone, Debug, Serialize)]
pub struct Ranking<'a> {
    pub image: &'a str,
    pub labels: Vec<Scored<'a>>,
}

impl<'a> Ranking<'a> {
    /// Sorts `labels` by `scores` and keeps the best `top_k`. Equal scores keep the labels' order.
    pub fn new(image: &'a str, labels: &'a [String], scores: &[f32], top_k: Option<usize>) -> Self {
        let mut labels: Vec<Scored> =
            labels.iter().zip(scores).map(|(label, &score)| Scored { label, score }).collect();
        labels.sort_by(|a, b| b.score.total_cmp(&a.score));
        labels.truncate(top_k.unwrap_or(usize::MAX));
        Self { image, labels }
    }

    /// One line of JSON.
    pub fn print_json(&self) -> Result<()> {
        let mut stdout = stdout().lock();
        serde_json::to_writer(&mut stdout, self)?;
        stdout.write_all(b"\n").context("stdout")
    }

    /// The image's name and a line per label, aligned, with a bar as long as the score.
    pub fn print_table(&self) -> Result<()> {
        const BAR: usize = 24;
        let width = self.labels.iter().map(|scored| scored.label.chars().count()).max().unwrap_or(0);
        let mut text = format!("{}\n", self.image);
        for Scored { label, score } in &self.labels {
            let bar = "█".repeat((score * BAR as f32).round() as usize);
            text.push_str(&format!("  {label:width$}  {score:>8.4}  {bar}\n"));
        }
        stdout().write_all(text.as_bytes()).context("stdout")
    }
}
