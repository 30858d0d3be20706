//! The lines that `cargo xtask bench` and a competitor exchange. A competitor answers once when it is loaded, and once for
//! each request.

use std::str::FromStr;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// What a competitor is asked: `run FIRST COUNT` for so many inputs from there on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Position of the first input.
    pub first: usize,
    /// Number of inputs.
    pub count: usize,
}

impl std::fmt::Display for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "run {} {}", self.first, self.count)
    }
}

impl FromStr for Request {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self> {
        let numbers = line.trim_end().strip_prefix("run ").and_then(|numbers| numbers.split_once(' '));
        let request = numbers.and_then(|(first, count)| Some((first.parse().ok()?, count.parse().ok()?)));
        match request {
            Some((first, count)) if count > 0 => Ok(Self { first, count }),
            _ => bail!("`{line}` is no request"),
        }
    }
}

/// What a competitor answers: one line of JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// The model is loaded.
    Ready {
        /// What the first input becomes (an embedding, or pixels), to see that all competitors compute the same.
        embedding: Vec<f32>,
    },
    /// The backend can't do what is to be measured, for this reason.
    Refused(String),
    /// A call took this long.
    Seconds(f64),
}

impl Answer {
    /// The line to print.
    pub fn line(&self) -> Result<String> {
        serde_json::to_string(self).context("an answer as JSON")
    }
}

impl FromStr for Answer {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self> {
        let answer = serde_json::from_str(line);
        let answer = answer.with_context(|| {
            let start: String = line.trim_end().chars().take(200).collect();
            format!("`{start}` is no answer")
        })?;
        match answer {
            Self::Seconds(seconds) if !(seconds.is_finite() && seconds > 0.0) => {
                bail!("{seconds} seconds can't have passed")
            }
            Self::Ready { embedding } if embedding.is_empty() => bail!("the embedding is empty"),
            answer => Ok(answer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_are_written() {
        let request = Request { first: 64, count: 32 };
        assert_eq!(format!("{request}\n").parse::<Request>().unwrap(), request);
        let ready = Answer::Ready { embedding: vec![0.5, -1.0] };
        for answer in [ready, Answer::Seconds(0.25), Answer::Refused("no int8 here".into())] {
            assert_eq!(answer.line().unwrap().parse::<Answer>().unwrap(), answer);
        }
        // As Python writes them.
        assert_eq!("{\"seconds\": 1}\n".parse::<Answer>().unwrap(), Answer::Seconds(1.0));
        let ready: Answer = r#"{"ready": {"embedding": [1.0]}}"#.parse().unwrap();
        assert_eq!(ready, Answer::Ready { embedding: vec![1.0] });
    }

    #[test]
    fn anything_else_is_refused() {
        for line in ["", "run", "run 3", "run 0 0", "run 0 -1", "run 0 1 2", "walk 0 3"] {
            assert!(line.parse::<Request>().is_err(), "{line}");
        }
        for line in [
            "",
            "Loading model ...",
            "0.25",
            "{}",
            r#"{"seconds": 0}"#,
            r#"{"seconds": -1}"#,
            r#"{"seconds": "1"}"#,
            r#"{"seconds": 1} x"#,
            r#"{"ready": {"embedding": []}}"#,
            r#"{"finished": 1}"#,
        ] {
            assert!(line.parse::<Answer>().is_err(), "{line}");
        }
    }
}
