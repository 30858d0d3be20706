//! The field of competitors: started once, asked in turns.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use openclip_core::Precision;

use super::{
    case::Case,
    comparisons::Entrant,
    competitor::{Competitor, Start},
    entry::{Setting, weight_bytes},
};

/// Seconds of work that a turn consists of at least, so that one interruption doesn't decide it.
const TURN: f64 = 0.2;
/// Calls that a turn consists of at most.
const MOST_CALLS: f64 = 100.0;
/// Calls of every competitor before anything counts: memory is touched for the first time, plans are made.
const WARM_UP: usize = 2;
/// Seconds of a call after which one is enough: memory has been touched for long, and there is no use in waiting.
const LONG: f64 = 3.0;
/// Before a turn. The threads of libraries wait for more work in a loop for some milliseconds after each call.
const PAUSE: Duration = Duration::from_millis(100);

/// Who takes part in calls of which size.
pub type Plan = BTreeMap<usize, Vec<Entrant>>;

/// Seconds of one call (of a case about memory: bytes), by competitor and round.
pub type Times = Vec<(Entrant, Vec<f64>)>;

/// What was measured of calls of one size.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The model's name.
    pub model: String,
    /// What was measured.
    pub case: Case,
    /// Inputs of a call.
    pub size: usize,
    /// Nominal operations for one input, where they are counted.
    pub operations: Option<f64>,
    /// The measurements.
    pub times: Times,
}

/// Competitors that hold the same.
pub struct Field<'a> {
    setting: Setting<'a>,
    /// Inputs that there are.
    inputs: usize,
    running: Vec<(Entrant, Box<dyn Competitor>)>,
    refused: Vec<(Entrant, String)>,
    first: Option<(Entrant, Vec<f32>)>,
}

impl<'a> Field<'a> {
    /// An empty field, which has so many inputs.
    pub fn new(setting: Setting<'a>, inputs: usize) -> Self {
        Self { setting, inputs, running: Vec::new(), refused: Vec::new(), first: None }
    }

    fn knows(&self, entrant: Entrant) -> bool {
        let running = self.running.iter().map(|(known, _)| known);
        running.chain(self.refused.iter().map(|(known, _)| known)).any(|known| *known == entrant)
    }

    /// Notes that a competitor doesn't take part, and why.
    pub fn leave_out(&mut self, entrant: Entrant, reason: &str) {
        if !self.knows(entrant) {
            self.refused.push((entrant, reason.to_owned()));
        }
    }

    /// Starts a competitor, unless it has been before.
    ///
    /// # Errors
    /// When it fails, or what it makes of the first input isn't what the others do.
    pub fn enter(&mut self, entrant: Entrant) -> Result<()> {
        if entrant == Entrant::Weights || self.knows(entrant) {
            return Ok(());
        }
        progress(&format!("starting {entrant}"));
        match self.setting.start(entrant)? {
            Start::Ready(competitor, first) => {
                self.check(entrant, first)?;
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

    /// Most bytes that each competitor has had resident so far, and those of its weights, where these are known.
    pub fn memory(&self) -> Vec<(Entrant, Footprint)> {
        let (model, towers) = (self.setting.model, self.setting.case.towers());
        let footprint = |entrant: Entrant, competitor: &dyn Competitor| Footprint {
            peak: competitor.peak_memory(),
            weights: weight_bytes(model, entrant, towers).filter(|_| !towers.is_empty()),
        };
        self.running
            .iter()
            .map(|(entrant, competitor)| (*entrant, footprint(*entrant, competitor.as_ref())))
            .collect()
    }

    /// A ratio means something when both sides compute the same.
    fn check(&mut self, entrant: Entrant, found: Vec<f32>) -> Result<()> {
        let Some((first, expected)) = &self.first else {
            self.first = Some((entrant, found));
            return Ok(());
        };
        let is_full = |entrant: Entrant| entrant.precision() == Precision::F32;
        let least = if is_full(entrant) && is_full(*first) { 0.9999 } else { 0.9 };
        let cosine = cosine(&found, expected);
        ensure!(
            cosine >= least,
            "{entrant} and {first} compute different things from the same input: their cosine is {cosine}"
        );
        Ok(())
    }

    /// Carries out a plan: seconds of a call of each size, for every round and every competitor that is in the plan and
    /// could be started.
    ///
    /// # Errors
    /// When a competitor fails.
    pub fn measure(&mut self, plan: &Plan, rounds: usize) -> Result<Vec<Measured>> {
        let mut turns: Vec<(usize, Vec<Turn>)> = Vec::new();
        for (&size, entrants) in plan {
            let mut sized = Vec::new();
            for (index, (entrant, competitor)) in self.running.iter_mut().enumerate() {
                if entrants.contains(entrant) {
                    progress(&format!("warming up {}, {size} at once", competitor.name()));
                    sized.push(Turn::warm_up(index, competitor.as_mut(), size)?);
                }
            }
            turns.push((size, sized));
        }
        for round in 0..rounds {
            for (size, turns) in &mut turns {
                progress(&format!("round {} of {rounds}, {size} at once", round + 1));
                // Everybody gets the same inputs, and in another round others.
                let first = (round % (self.inputs / *size).max(1)) * *size;
                let mut order: Vec<&mut Turn> = turns.iter_mut().collect();
                // There and back again: nobody always follows the same one.
                if round % 2 == 1 {
                    order.reverse();
                }
                for turn in order {
                    thread::sleep(PAUSE);
                    let (_, competitor) = self.running.get_mut(turn.index).context("a running competitor")?;
                    turn.take(competitor.as_mut(), first, *size)?;
                }
            }
        }
        progress("");
        let times = |turns: Vec<Turn>| {
            turns
                .into_iter()
                .filter_map(|turn| Some((self.running.get(turn.index)?.0, turn.seconds)))
                .collect()
        };
        Ok(turns.into_iter().map(|(size, turns)| self.measured(size, times(turns))).collect())
    }

    /// Carries out a plan about memory: the most bytes that have been resident after a call of each size.
    ///
    /// # Errors
    /// When a competitor fails, or the system doesn't tell.
    pub fn measure_memory(&mut self, plan: &Plan) -> Result<Vec<Measured>> {
        let mut results = Vec::new();
        for (&size, entrants) in plan {
            let mut times = Times::new();
            for (entrant, competitor) in
                self.running.iter_mut().filter(|(entrant, _)| entrants.contains(entrant))
            {
                competitor.run(0, size)?;
                let peak = competitor.peak_memory().context("this system doesn't tell a process's memory")?;
                times.push((*entrant, vec![peak as f64]));
            }
            if entrants.contains(&Entrant::Weights) {
                let Setting { model, case, .. } = &self.setting;
                let bytes =
                    weight_bytes(model, Entrant::Weights, case.towers()).context("bytes of weights")?;
                times.push((Entrant::Weights, vec![bytes as f64]));
            }
            results.push(self.measured(size, times));
        }
        Ok(results)
    }

    fn measured(&self, size: usize, times: Times) -> Measured {
        let Setting { model, case, .. } = self.setting;
        let operations = case.tower().and_then(|tower| model.operations(tower));
        Measured { model: model.name().to_owned(), case, size, operations, times }
    }
}

/// Memory of a competitor in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Most that has been resident.
    pub peak: Option<u64>,
    /// Its weights.
    pub weights: Option<u64>,
}

/// What a competitor does in each round, and how long a call took.
struct Turn {
    index: usize,
    calls: usize,
    seconds: Vec<f64>,
}

impl Turn {
    fn warm_up(index: usize, competitor: &mut dyn Competitor, size: usize) -> Result<Self> {
        let mut last = TURN;
        for _ in 0..WARM_UP {
            last = competitor.run(0, size)?;
            if last > LONG {
                break;
            }
        }
        let calls = (TURN / last).ceil().clamp(1.0, MOST_CALLS) as usize;
        Ok(Self { index, calls, seconds: Vec::new() })
    }

    fn take(&mut self, competitor: &mut dyn Competitor, first: usize, size: usize) -> Result<()> {
        let mut sum = 0.0;
        for _ in 0..self.calls {
            sum += competitor.run(first, size)?;
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

    /// Takes so many seconds, and remembers what it was asked.
    struct Clock {
        seconds: f64,
        asked: Vec<(usize, usize)>,
    }

    impl Competitor for Clock {
        fn name(&self) -> &str {
            "clock"
        }

        fn run(&mut self, first: usize, count: usize) -> Result<f64> {
            self.asked.push((first, count));
            Ok(self.seconds)
        }

        fn peak_memory(&self) -> Option<u64> {
            None
        }
    }

    #[test]
    fn a_turn_is_long_enough_and_a_warm_up_not_too_long() {
        for (seconds, warm_up, calls) in [(0.05, 2, 4), (1.0, 2, 1), (5.0, 1, 1), (1e-6, 2, 100)] {
            let mut clock = Clock { seconds, asked: Vec::new() };
            let mut turn = Turn::warm_up(0, &mut clock, 8).unwrap();
            assert_eq!(clock.asked, vec![(0, 8); warm_up], "{seconds}");
            turn.take(&mut clock, 16, 8).unwrap();
            assert_eq!(clock.asked.split_off(warm_up), vec![(16, 8); calls], "{seconds}");
            assert!((turn.seconds[0] - seconds).abs() < 1e-9);
        }
    }
}
