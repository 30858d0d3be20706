//! Progress bars of an evaluation.

use std::sync::{Mutex, PoisonError};

use indicatif::ProgressBar;

use crate::{cli::progress, eval::features::Observer};

/// Shows a bar for each thing that is done, and says on stderr which images are broken.
pub struct Bars {
    quiet: bool,
    bar: Mutex<ProgressBar>,
}

impl Bars {
    pub fn new(quiet: bool) -> Self {
        Self { quiet, bar: Mutex::new(ProgressBar::hidden()) }
    }

    fn with<T>(&self, each: impl FnOnce(&mut ProgressBar) -> T) -> T {
        each(&mut self.bar.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Observer for Bars {
    fn start(&self, what: &str, total: Option<usize>, done: usize) {
        self.with(|bar| {
            *bar = progress::count_from(total, done, what, self.quiet);
        });
        if done > 0 && !self.quiet {
            self.with(|bar| bar.suspend(|| eprintln!("{what}: {done} are there from an earlier run")));
        }
    }

    fn advance(&self, count: usize) {
        self.with(|bar| bar.inc(count as u64));
    }

    fn broken(&self, reason: &str) {
        self.with(|bar| bar.suspend(|| eprintln!("error: {reason}")));
    }

    fn finish(&self) {
        self.with(|bar| bar.finish_and_clear());
    }
}
