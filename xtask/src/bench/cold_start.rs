//! A competitor that is started anew for every call: what is timed is a whole process.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};

use super::{
    competitor::{Competitor, Start, last_words},
    npy::{Array, Values},
};

/// The text that processes embed.
pub const TEXT: &str = "a photo of a cat";

/// A command that writes its embedding into a file.
pub struct ColdStart {
    name: String,
    command: Command,
    log: PathBuf,
}

impl ColdStart {
    /// Runs `command` once, which writes the embedding into the file `output` and puts everything that is read into the
    /// page cache. What it says on stderr goes to the file `log`.
    ///
    /// # Errors
    /// When it can't be started, fails, or doesn't write an embedding.
    pub fn start(name: &str, command: Command, output: &Path, log: &Path) -> Result<Start> {
        let mut competitor = Self { name: name.to_owned(), command, log: log.to_owned() };
        // Not an earlier run's.
        if output.exists() {
            fs::remove_file(output).with_context(|| output.display().to_string())?;
        }
        competitor.run(0, 1)?;
        match Array::read(output)?.values {
            Values::F32(embedding) => Ok(Start::Ready(Box::new(competitor), embedding)),
            Values::I64(_) => bail!("{name} wrote integers into {}", output.display()),
        }
    }
}

impl Competitor for ColdStart {
    fn name(&self) -> &str {
        &self.name
    }

    fn run(&mut self, _first: usize, _count: usize) -> Result<f64> {
        let file = File::create(&self.log).with_context(|| self.log.display().to_string())?;
        self.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let start = Instant::now();
        let status = self.command.status().with_context(|| {
            format!("{} can't be started: {}", self.name, Path::new(self.command.get_program()).display())
        })?;
        let seconds = start.elapsed().as_secs_f64();
        ensure!(status.success(), "{} failed ({status}); {}", self.name, last_words(&self.log));
        Ok(seconds)
    }

    /// It is gone when it could be asked.
    fn peak_memory(&self) -> Option<u64> {
        None
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    fn start(folder: &Path, script: &str) -> Result<Start> {
        let mut command = Command::new("/bin/sh");
        command.current_dir(folder).args(["-c", script]);
        ColdStart::start("the peer", command, &folder.join("out.npy"), &folder.join("log"))
    }

    #[test]
    fn a_process_is_run_for_every_call() {
        let folder = tempfile::tempdir().unwrap();
        let array = Array { dims: vec![1, 2], values: Values::F32(vec![0.6, 0.8]) };
        array.write(&folder.path().join("made.npy")).unwrap();
        let script = "echo run >> runs; cp made.npy out.npy; echo a warning >&2";
        let Start::Ready(mut competitor, embedding) = start(folder.path(), script).unwrap() else {
            panic!("refused")
        };
        assert_eq!(embedding, [0.6, 0.8]);
        assert!(competitor.run(0, 1).unwrap() > 0.0);
        assert_eq!(fs::read_to_string(folder.path().join("runs")).unwrap(), "run\nrun\n");
    }

    #[test]
    fn failures_are_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("out.npy"), "an earlier run's").unwrap();
        for (script, part) in [("echo no such model >&2; exit 2", "no such model"), ("true", "out.npy")] {
            let message = format!("{:#}", start(folder.path(), script).err().unwrap());
            assert!(message.contains(part), "{script}: {message}");
        }
    }
}
