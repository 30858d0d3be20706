//! The field of competitors: started once, asked in turns.

use std::{
    env,
    io::{self, IsTerminal, Write},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use openclip_core::Precision;

use super::{
    comparisons::{Entrant, Tower},
    competitor::{Competitor, Start},
    workload::{Inputs, Model},
};

/// Seconds of work that a turn consists of at least, so that one interruption doesn't decide it.
const TURN: f64 = 0.2;
/// Calls that a turn consists of at most.
const MOST_CALLS: f64 = 100.0;
/// Calls of every competitor before anything counts: memory is touched for the first time, plans are made.
const WARM_UP: usize = 2;
/// Before a turn. The threads of libraries wait for more work in a loop for some milliseconds after each call.
const PAUSE: Duration = Duration::from_millis(100);

/// Seconds of one call, by competitor and round.
pub type Times = Vec<(Entrant, Vec<f64>)>;

/// Competitors that hold the same tower.
pub struct Field<'a> {
    model: &'a Model,
    tower: Tower,
    inputs: Inputs,
    threads: usize,
    running: Vec<(Entrant, Competitor)>,
    refused: Vec<(Entrant, String)>,
    embedding: Option<(Entrant, Vec<f32>)>,
}

impl<'a> Field<'a> {
    /// An empty field.
    pub fn new(model: &'a Model, tower: Tower, inputs: Inputs, threads: usize) -> Self {
        let (running, refused) = (Vec::new(), Vec::new());
        Self { model, tower, inputs, threads, running, refused, embedding: None }
    }

    /// Starts a competitor, unless it has been before.
    ///
    /// # Errors
    /// When it fails, or its embedding isn't that of the others.
    pub fn enter(&mut self, entrant: Entrant) -> Result<()> {
        let known =
            self.running.iter().map(|(known, _)| known).chain(self.refused.iter().map(|(known, _)| known));
        if known.into_iter().any(|known| *known == entrant) {
            return Ok(());
        }
        let name = entrant.to_string();
        progress(&format!("starting {name}"));
        let file: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let log = self.model.folder().join(format!("{}-{file}.log", self.tower));
        match Competitor::start(&name, self.command(entrant)?, &log)? {
            Start::Ready(competitor, embedding) => {
                self.check(entrant, embedding)?;
                self.running.push((entrant, competitor));
            }
            Start::Refused(reason) => self.refused.push((entrant, reason)),
        }
        Ok(())
    }

    /// Who can't do what is to be measured, and why.
    pub fn refused(&self) -> &[(Entrant, String)] {
        &self.refused
    }

    fn command(&self, entrant: Entrant) -> Result<Command> {
        let (model, threads) = (self.model, self.threads.to_string());
        let mut command = match entrant {
            Entrant::PyTorch => {
                let mut command = model.peer();
                command.args(["--engine", "pytorch", "--tower", &self.tower.to_string(), "--model"]);
                command.arg(model.checkpoint());
                command
            }
            Entrant::TorchExport | Entrant::OpenclipExport => {
                let file = match entrant {
                    Entrant::TorchExport => model.torch_export(self.tower)?,
                    _ => model.openclip_export(self.tower)?,
                };
                let mut command = model.peer();
                command.args(["--engine", "onnxruntime", "--file"]).arg(file);
                command
            }
            Entrant::Ours(backend, precision) => {
                let mut command = Command::new(env::current_exe().context("this program's file")?);
                command.args(["bench-worker", "--tower", &self.tower.to_string(), "--backend", backend]);
                command.args(["--precision", &precision.to_string(), "--model"]).arg(model.checkpoint());
                // The candle backend works on rayon's global pool.
                command.env("RAYON_NUM_THREADS", &threads);
                command
            }
        };
        command.args(self.inputs.arguments()).args(["--threads", &threads]);
        Ok(command)
    }

    /// A ratio means something when both sides compute the same.
    fn check(&mut self, entrant: Entrant, embedding: Vec<f32>) -> Result<()> {
        let Some((first, expected)) = &self.embedding else {
            self.embedding = Some((entrant, embedding));
            return Ok(());
        };
        let is_full = |entrant: &Entrant| !matches!(entrant, Entrant::Ours(_, precision) if *precision != Precision::F32);
        let least = if is_full(&entrant) && is_full(first) { 0.9999 } else { 0.9 };
        let found = cosine(&embedding, expected);
        ensure!(
            found >= least,
            "{entrant} and {first} compute different embeddings of the same input: their cosine is {found}"
        );
        Ok(())
    }

    /// Seconds of a call with each number of inputs in `batches`, for every round and every competitor that `takes_part`.
    ///
    /// # Errors
    /// When a competitor fails.
    pub fn measure<const N: usize>(
        &mut self,
        takes_part: impl Fn(Entrant) -> bool,
        batches: [usize; N],
        rounds: usize,
    ) -> Result<[Times; N]> {
        let mut turns: [Vec<Turn>; N] = std::array::from_fn(|_| Vec::new());
        let mut field: Vec<&mut (Entrant, Competitor)> =
            self.running.iter_mut().filter(|(entrant, _)| takes_part(*entrant)).collect();
        for (batch, turns) in batches.into_iter().zip(&mut turns) {
            for (_, competitor) in &mut field {
                progress(&format!("warming up {}, batch {batch}", competitor.name()));
                turns.push(Turn::warm_up(competitor, batch)?);
            }
        }
        for round in 0..rounds {
            for (batch, turns) in batches.into_iter().zip(&mut turns) {
                progress(&format!("round {} of {rounds}, batch {batch}", round + 1));
                let mut order: Vec<_> = field.iter_mut().zip(turns).collect();
                // There and back again: nobody always follows the same one.
                if round % 2 == 1 {
                    order.reverse();
                }
                for ((_, competitor), turn) in order {
                    thread::sleep(PAUSE);
                    turn.take(competitor)?;
                }
            }
        }
        progress("");
        let entrants: Vec<Entrant> = field.iter().map(|(entrant, _)| *entrant).collect();
        Ok(turns
            .map(|turns| entrants.iter().copied().zip(turns.into_iter().map(|turn| turn.seconds)).collect()))
    }
}

/// What a competitor does in each round, and how long a call took.
struct Turn {
    batch: usize,
    calls: usize,
    seconds: Vec<f64>,
}

impl Turn {
    fn warm_up(competitor: &mut Competitor, batch: usize) -> Result<Self> {
        let mut last = TURN;
        for _ in 0..WARM_UP {
            last = competitor.run(batch)?;
        }
        let calls = (TURN / last).ceil().clamp(1.0, MOST_CALLS) as usize;
        Ok(Self { batch, calls, seconds: Vec::new() })
    }

    fn take(&mut self, competitor: &mut Competitor) -> Result<()> {
        let mut sum = 0.0;
        for _ in 0..self.calls {
            sum += competitor.run(self.batch)?;
        }
        self.seconds.push(sum / self.calls as f64);
        Ok(())
    }
}

/// Shows what goes on, to somebody who watches.
fn progress(message: &str) {
    let mut stderr = io::stderr();
    if stderr.is_terminal() {
        // Nobody depends on this line.
        let _ = write!(stderr, "\r\x1b[K{message}");
        let _ = stderr.flush();
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    if a.len() == b.len() { dot(a, b) / (dot(a, a) * dot(b, b)).sqrt() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosines_tell_different_embeddings_apart() {
        assert!((cosine(&[1.0, 2.0], &[2.0, 4.0]) - 1.0).abs() < 1e-12);
        assert!(cosine(&[1.0, 0.0], &[0.0, 1.0]).abs() < 1e-12);
        assert_eq!(cosine(&[1.0, 0.0], &[1.0]), 0.0);
        assert!(cosine(&[0.0], &[0.0]).is_nan());
    }
}
