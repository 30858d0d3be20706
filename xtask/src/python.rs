//! Python environments under `target/`: made with `python3 -m venv`, filled by pip from a file of pinned versions.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::project;

/// Is in the folder of an environment while [`Environment::install`] works on it.
const INCOMPLETE: &str = ".incomplete";

/// Packages that an environment has to have.
#[derive(Clone, Debug)]
pub struct Requirements {
    file: PathBuf,
    dependencies: bool,
}

impl Requirements {
    /// The packages that `xtask/reference/NAME` lists, and what they depend on.
    pub fn new(name: &str) -> Self {
        Self { file: project::root().join("xtask/reference").join(name), dependencies: true }
    }

    /// The packages of the file and no others.
    #[must_use]
    pub fn without_dependencies(self) -> Self {
        Self { dependencies: false, ..self }
    }

    /// The stamp: a file's name and content, which an environment has once these packages are installed.
    fn stamp(&self) -> Result<(OsString, String)> {
        let packages = fs::read_to_string(&self.file).with_context(|| self.file.display().to_string())?;
        let dependencies = if self.dependencies { "with dependencies" } else { "without dependencies" };
        let mut name = self.file.file_name().unwrap_or_default().to_owned();
        name.push(".installed");
        Ok((name, format!("# {dependencies}\n{packages}")))
    }
}

/// A virtual environment.
#[derive(Clone, Debug)]
pub struct Environment {
    folder: PathBuf,
}

impl Environment {
    /// The environment `target/NAME`, which needn't be there yet.
    pub fn new(name: &str) -> Self {
        Self { folder: project::root().join("target").join(name) }
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its interpreter.
    pub fn python(&self) -> PathBuf {
        self.folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" })
    }

    /// The folder of its packages, if there is one.
    pub fn packages(&self) -> Option<PathBuf> {
        if cfg!(windows) {
            return Some(self.folder.join("Lib/site-packages")).filter(|folder| folder.is_dir());
        }
        let versions = fs::read_dir(self.folder.join("lib")).ok()?;
        versions.flatten().map(|version| version.path().join("site-packages")).find(|folder| folder.is_dir())
    }

    /// Whether all of `requirements` is installed, nothing half.
    pub fn has(&self, requirements: &Requirements) -> bool {
        let stamped = requirements.stamp().is_ok_and(|(name, text)| {
            fs::read_to_string(self.folder.join(name)).is_ok_and(|found| found == text)
        });
        stamped && self.is_usable()
    }

    fn is_usable(&self) -> bool {
        self.python().exists() && !self.folder.join(INCOMPLETE).exists()
    }

    /// Installs what is missing. Returns at once when nothing is, and starts over where an earlier installation was
    /// cut off: pip would take a package for installed when half of its files are there. pip's own output goes to stderr.
    ///
    /// # Errors
    /// When there is no usable Python, no network, or no package for this platform.
    pub fn install(&self, requirements: &Requirements) -> Result<()> {
        // Two commands at once, say a test and a shell: the second waits, and finds the work done.
        let lock = self.folder.with_extension("lock");
        fs::create_dir_all(lock.parent().unwrap_or(&lock))?;
        let lock = File::create(&lock).with_context(|| lock.display().to_string())?;
        lock.lock().context("lock of the Python environment")?;
        if self.has(requirements) {
            return Ok(());
        }
        let usable = self.is_usable();
        if !usable && self.folder.exists() {
            fs::remove_dir_all(&self.folder).with_context(|| self.folder.display().to_string())?;
        }
        fs::create_dir_all(&self.folder).with_context(|| self.folder.display().to_string())?;
        let incomplete = self.folder.join(INCOMPLETE);
        fs::write(&incomplete, "").with_context(|| incomplete.display().to_string())?;
        if !usable {
            self.create()?;
        }
        let mut pip = Command::new(self.python());
        pip.args(["-m", "pip", "install", "--disable-pip-version-check"]);
        // Without a terminal there is no progress to show, and a line for each package that is there is of no use.
        if !io::stderr().is_terminal() {
            pip.arg("--quiet");
        }
        if !requirements.dependencies {
            pip.arg("--no-deps");
        }
        execute(pip.arg("-r").arg(&requirements.file).stdout(io::stderr())).with_context(|| {
            format!(
                "the packages of {} can't be installed into {}. pip says why above; it needs PyPI, or the mirror \
                 that it is configured for",
                requirements.file.display(),
                self.folder.display(),
            )
        })?;
        let (name, text) = requirements.stamp()?;
        let stamp = self.folder.join(name);
        fs::write(&stamp, text).with_context(|| stamp.display().to_string())?;
        fs::remove_file(&incomplete).with_context(|| incomplete.display().to_string())
    }

    /// Makes the environment, with pip and nothing else.
    fn create(&self) -> Result<()> {
        let default = if cfg!(windows) { "python" } else { "python3" };
        let python = env::var_os("PYTHON").unwrap_or_else(|| OsString::from(default));
        let mut command = Command::new(&python);
        execute(command.args(["-m", "venv"]).arg(&self.folder).stdout(io::stderr())).with_context(|| {
            format!(
                "a Python environment is needed in {}. Install Python 3 with its module `venv` (package \
                 `python3-venv` on Debian), or set PYTHON to an interpreter",
                self.folder.display(),
            )
        })
    }
}

/// The folder of the releases in which the reference's generation runs, installed if they aren't yet. They have to be found
/// before those of the reference's environment.
///
/// # Errors
/// As [`Environment::install`].
pub fn generation_packages() -> Result<PathBuf> {
    let releases = Environment::new("generation-venv");
    releases.install(&Requirements::new("generation.txt").without_dependencies())?;
    releases.packages().context("packages of the environment")
}

/// Runs a command to its end.
///
/// # Errors
/// When it can't be started or fails.
pub fn execute(command: &mut Command) -> Result<()> {
    let program = Path::new(command.get_program()).display().to_string();
    match command.status() {
        Ok(status) => ensure!(status.success(), "{program} failed: {status}"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!("there is no program {program}"),
        Err(error) => return Err(error).with_context(|| format!("can't start {program}")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_has_what_was_installed_to_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("packages.txt");
        fs::write(&file, "numpy==1.0\n").unwrap();
        let environment = Environment { folder: folder.path().join("environment") };
        let all = Requirements { file: file.clone(), dependencies: true };
        let some = all.clone().without_dependencies();
        assert!(!environment.has(&all) && environment.packages().is_none());

        fs::create_dir_all(environment.python().parent().unwrap()).unwrap();
        fs::write(environment.python(), "").unwrap();
        assert!(!environment.has(&all));
        let (stamp, text) = all.stamp().unwrap();
        fs::write(environment.folder().join(stamp), text).unwrap();
        assert!(environment.has(&all));
        assert!(!environment.has(&some), "others were asked for");

        let incomplete = environment.folder().join(INCOMPLETE);
        fs::write(&incomplete, "").unwrap();
        assert!(!environment.has(&all), "another installation was cut off");
        fs::remove_file(&incomplete).unwrap();
        fs::write(&file, "numpy==1.1\n").unwrap();
        assert!(!environment.has(&all), "other versions are wanted");
        fs::remove_file(&file).unwrap();
        assert!(!environment.has(&all));
    }
}
