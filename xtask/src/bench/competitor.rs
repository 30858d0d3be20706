//! A competitor: a process that holds what it needs and runs when it is asked to, so that nothing of one library (threads
//! that spin, a heap, a processor's state) is in the way of another's.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, anyhow, bail};

use super::protocol::{Answer, Request};

/// Somebody who can be timed.
pub trait Competitor {
    /// What it is called.
    fn name(&self) -> &str;

    /// Runs on `count` inputs from the position `first` on and returns the seconds that it took.
    ///
    /// # Errors
    /// When it fails.
    fn run(&mut self, first: usize, count: usize) -> Result<f64>;

    /// Most bytes that it has had resident so far, where that is known.
    fn peak_memory(&self) -> Option<u64>;
}

/// A competitor that is started once.
pub struct Resident {
    name: String,
    process: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    log: PathBuf,
}

/// What became of a competitor that was started.
pub enum Start {
    /// It is loaded, and the first input becomes this.
    Ready(Box<dyn Competitor>, Vec<f32>),
    /// It can't do what is to be measured, for this reason.
    Refused(String),
}

impl Resident {
    /// Starts `command` and waits until it is loaded. Its stderr goes to the file `log`.
    ///
    /// # Errors
    /// When it doesn't start, ends, or says what the protocol doesn't have.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Start> {
        let file = File::create(log).with_context(|| log.display().to_string())?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(file);
        let mut process = command.spawn().with_context(|| {
            format!("{name} can't be started: {}", Path::new(command.get_program()).display())
        })?;
        let requests = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().context("stdout is a pipe")?);
        let mut competitor = Self { name: name.to_owned(), process, requests, answers, log: log.to_owned() };
        match competitor.answer()? {
            Answer::Ready { embedding } => Ok(Start::Ready(Box::new(competitor), embedding)),
            Answer::Refused(reason) => Ok(Start::Refused(reason)),
            Answer::Seconds(_) => bail!("{name} answered before it was asked"),
        }
    }

    fn answer(&mut self) -> Result<Answer> {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line);
        match read {
            Ok(0) => Err(self.ended()),
            Ok(_) => line
                .parse()
                .with_context(|| format!("{} broke the protocol; {}", self.name, self.last_words())),
            Err(error) => Err(error).with_context(|| format!("{} can't be read", self.name)),
        }
    }

    fn ended(&mut self) -> anyhow::Error {
        self.requests = None;
        let status = self.process.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        anyhow!("{} ended ({status}); {}", self.name, self.last_words())
    }

    fn last_words(&self) -> String {
        last_words(&self.log)
    }
}

impl Competitor for Resident {
    fn name(&self) -> &str {
        &self.name
    }

    fn run(&mut self, first: usize, count: usize) -> Result<f64> {
        let requests = self.requests.as_mut().context("stdin is a pipe")?;
        // A process that is gone is reported by its missing answer.
        let _ = writeln!(requests, "{}", Request { first, count });
        match self.answer()? {
            Answer::Seconds(seconds) => Ok(seconds),
            other => bail!("{} was asked for seconds and answered {other:?}", self.name),
        }
    }

    fn peak_memory(&self) -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.process.id())).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes * 1024)
    }
}

/// The end of what a process said on stderr, which is in the file `log`.
pub fn last_words(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let log = log.display();
    match lines.get(lines.len().saturating_sub(10)..) {
        Some(last) if !last.is_empty() => format!("its stderr in {log} ends with:\n{}", last.join("\n")),
        _ => format!("its stderr in {log} is empty"),
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        // It ends when there is nothing to read any more; one that doesn't is not waited for.
        self.requests = None;
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    /// Starts a competitor that is a shell script.
    fn start(script: &str) -> (Result<Start>, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        (Resident::start("the peer", command, &folder.path().join("log")), folder)
    }

    fn running(script: &str) -> (Box<dyn Competitor>, tempfile::TempDir) {
        match start(script) {
            (Ok(Start::Ready(competitor, _)), folder) => (competitor, folder),
            _ => panic!("{script} isn't ready"),
        }
    }

    fn error(outcome: Result<impl Sized>) -> String {
        format!("{:#}", outcome.err().expect("this is an error"))
    }

    const READY: &str = r#"echo '{"ready": {"embedding": [0.6, 0.8]}}'; "#;

    #[test]
    fn a_competitor_is_asked_until_it_is_dropped() {
        let script = READY.to_owned() + r#"while read run first n; do echo "{\"seconds\": $first$n}"; done"#;
        let (Ok(Start::Ready(mut competitor, embedding)), _folder) = start(&script) else {
            panic!("not ready")
        };
        assert_eq!(embedding, [0.6, 0.8]);
        assert_eq!(competitor.run(1, 8).unwrap(), 18.0);
        assert_eq!(competitor.run(2, 1).unwrap(), 21.0);
        #[cfg(target_os = "linux")]
        assert!(competitor.peak_memory().unwrap() > 1 << 16);
    }

    #[test]
    fn a_refusal_is_no_error() {
        let (Ok(Start::Refused(reason)), _folder) = start(r#"echo '{"refused": "no int8"}'"#) else {
            panic!("not refused")
        };
        assert_eq!(reason, "no int8");
    }

    #[test]
    fn a_competitor_that_dies_is_named_with_its_last_words() {
        let (outcome, _folder) = start("echo 'ImportError: no such module' >&2; exit 3");
        let message = error(outcome);
        assert!(message.contains("the peer ended (exit status: 3)"), "{message}");
        assert!(message.contains("ImportError: no such module"), "{message}");

        let (mut competitor, _folder) = running(&(READY.to_owned() + "read request; exit 4"));
        let message = error(competitor.run(0, 1));
        assert!(
            message.contains("the peer ended (exit status: 4)") && message.contains("is empty"),
            "{message}"
        );

        // One that is gone before it is asked.
        let (mut competitor, _folder) = running(&(READY.to_owned() + "exit 5"));
        let message = error(competitor.run(0, 1));
        assert!(message.contains("the peer ended (exit status: 5)"), "{message}");
    }

    #[test]
    fn rubbish_is_quoted() {
        let (outcome, _folder) = start("echo Downloading; read request");
        let message = error(outcome);
        assert!(
            message.contains("the peer broke the protocol") && message.contains("`Downloading`"),
            "{message}"
        );

        let (mut competitor, _folder) = running(&(READY.to_owned() + READY));
        let message = error(competitor.run(0, 1));
        assert!(message.contains("was asked for seconds and answered Ready"), "{message}");

        let (outcome, _folder) = start(r#"echo '{"seconds": 1}'"#);
        assert!(error(outcome).contains("answered before it was asked"));
    }

    #[test]
    fn a_program_that_isnt_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let outcome = Resident::start("the peer", Command::new("/no/such"), &folder.path().join("log"));
        assert!(error(outcome).contains("the peer can't be started: /no/such"));
    }
}
