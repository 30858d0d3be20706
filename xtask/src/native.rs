//! `cargo xtask native`: the native libraries that the backends `tch` and `ort` use, from pinned wheels of PyPI.
//!
//! They come as a Python environment in `target/native`, so that the tests of exported ONNX files find a stock
//! onnxruntime in Python beside them. Nothing of it is needed by the default build.

use std::{
    env,
    ffi::OsString,
    fs, iter,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::python::{Environment, Requirements};

/// The variable by which the system's loader finds libtorch when a program starts.
const LIBRARY_PATH: &str = if cfg!(windows) {
    "PATH"
} else if cfg!(target_os = "macos") {
    "DYLD_LIBRARY_PATH"
} else {
    "LD_LIBRARY_PATH"
};

/// What to fetch.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
#[command(after_help = "\
Prints the environment that builds and programs with the features `tch` and `ort` need, for a POSIX shell:

    eval \"$(cargo xtask native)\"

LIBTORCH         libtorch, for building with `tch`
LD_LIBRARY_PATH  libtorch, for programs with `tch`; DYLD_LIBRARY_PATH on macOS
ORT_DYLIB_PATH   ONNX Runtime, for programs with `ort`
OPENCLIP_PYTHON  a Python that has onnxruntime, for tests of exported files

Licences of what is fetched: libtorch BSD-3-Clause with parts under other permissive licences, ONNX Runtime MIT, the \
Python packages that onnxruntime imports BSD, MIT or Apache-2.0. On Linux, libtorch's wheel is built for CUDA, and its CPU \
part loads two small libraries of NVIDIA, under NVIDIA's own licence. Versions are in xtask/reference/native.txt.")]
pub struct Options {
    /// Install all CUDA packages too, so that libtorch can use a GPU: several gigabytes
    #[arg(long)]
    pub cuda: bool,
}

/// The installed libraries.
#[derive(Clone, Debug)]
pub struct Native {
    python: PathBuf,
    libtorch: PathBuf,
    onnxruntime: PathBuf,
}

impl Native {
    /// Installs what isn't there.
    ///
    /// # Errors
    /// When there is no Python, no network, or no wheel for this platform.
    pub fn fetch(options: Options) -> Result<Self> {
        let (environment, whole) = (environment(), requirements());
        // What runs on a GPU runs without one, too.
        if options.cuda || !environment.has(&whole) {
            environment.install(&if options.cuda { whole } else { whole.without_dependencies() })?;
        }
        Self::locate(&environment).with_context(|| {
            let folder = environment.folder().display();
            format!("{folder} lacks libtorch or ONNX Runtime; remove that folder and run this again")
        })
    }

    /// The libraries, if they are installed in the pinned versions.
    pub fn installed() -> Option<Self> {
        let (environment, whole) = (environment(), requirements());
        let complete = environment.has(&whole) || environment.has(&whole.without_dependencies());
        if complete { Self::locate(&environment) } else { None }
    }

    fn locate(environment: &Environment) -> Option<Self> {
        let packages = environment.packages()?;
        let libtorch = packages.join("torch");
        libtorch.join("lib").is_dir().then_some(())?;
        let onnxruntime = onnxruntime(&packages.join("onnxruntime/capi"))?;
        Some(Self { python: environment.python(), libtorch, onnxruntime })
    }

    /// A Python interpreter that has onnxruntime and numpy. It has libtorch's files but can't import torch.
    pub fn python(&self) -> &Path {
        &self.python
    }

    /// The shared library of ONNX Runtime.
    pub fn onnxruntime(&self) -> &Path {
        &self.onnxruntime
    }

    /// Variables for child processes that build or run with `tch` or `ort`, beside those that this process has.
    pub fn environment(&self) -> Vec<(String, OsString)> {
        let lib = self.libtorch.join("lib");
        let old = env::var_os(LIBRARY_PATH).unwrap_or_default();
        let others = env::split_paths(&old).filter(|path| *path != lib && !path.as_os_str().is_empty());
        // Paths that were in the list can be in one again, and the folder is named by us.
        let search =
            env::join_paths(iter::once(lib.clone()).chain(others)).unwrap_or_else(|_| lib.clone().into());
        let mut variables = self.variables();
        variables.push((LIBRARY_PATH.to_owned(), search));
        variables
    }

    /// The same for a POSIX shell to evaluate. The search path's rest is the shell's, not what cargo made of it for us.
    fn shell(&self) -> String {
        let export = |(name, value): &(String, OsString)| {
            format!("export {name}={}\n", quote(value.to_string_lossy()))
        };
        let mut text: String = self.variables().iter().map(export).collect();
        let lib = self.libtorch.join("lib");
        let lib = quote(lib.to_string_lossy());
        text += &format!("export {LIBRARY_PATH}={lib}\"${{{LIBRARY_PATH}:+:${LIBRARY_PATH}}}\"\n");
        text
    }

    /// The variables whose value is all ours.
    fn variables(&self) -> Vec<(String, OsString)> {
        [
            ("LIBTORCH", &self.libtorch),
            ("ORT_DYLIB_PATH", &self.onnxruntime),
            ("OPENCLIP_PYTHON", &self.python),
        ]
        .map(|(name, path)| (name.to_owned(), path.clone().into_os_string()))
        .into()
    }
}

fn environment() -> Environment {
    Environment::new("native")
}

/// All that can be installed. Without dependencies it is what a machine without a GPU needs.
fn requirements() -> Requirements {
    Requirements::new("native.txt")
}

/// ONNX Runtime's library in `folder`.
fn onnxruntime(folder: &Path) -> Option<PathBuf> {
    let mut entries = fs::read_dir(folder).ok()?.flatten();
    entries.find(|entry| entry.file_name().to_str().is_some_and(is_onnxruntime)).map(|entry| entry.path())
}

/// Whether a file is the library itself, whose name holds its version on all systems but Windows.
fn is_onnxruntime(name: &str) -> bool {
    name.starts_with("libonnxruntime.so")
        || (name.starts_with("libonnxruntime.") && name.ends_with(".dylib"))
        || name == "onnxruntime.dll"
}

/// A word that a POSIX shell takes literally.
fn quote(text: impl AsRef<str>) -> String {
    format!("'{}'", text.as_ref().replace('\'', r"'\''"))
}

/// Runs the command.
///
/// # Errors
/// As [`Native::fetch`].
#[allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]
pub fn run(options: Options) -> Result<()> {
    let native = Native::fetch(options)?;
    print!("{}", native.shell());
    eprintln!(
        "These lines are the environment for the features `tch` and `ort`: eval \"$(cargo xtask native)\""
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn native() -> Native {
        Native {
            python: "/a b/bin/python".into(),
            libtorch: "/it's/torch".into(),
            onnxruntime: "/o/libonnxruntime.so.1.32.0".into(),
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_shell_evaluates_what_is_printed() {
        let script =
            native().shell() + r#"printf '%s\n' "$LIBTORCH" "$OPENCLIP_PYTHON" "$ORT_DYLIB_PATH" "$SEARCH""#;
        let script = script.replace("$SEARCH", &format!("${LIBRARY_PATH}"));
        for (before, after) in [("", "/it's/torch/lib"), ("/x:/y", "/it's/torch/lib:/x:/y")] {
            let output =
                Command::new("/bin/sh").args(["-c", &script]).env(LIBRARY_PATH, before).output().unwrap();
            let expected = format!("/it's/torch\n/a b/bin/python\n/o/libonnxruntime.so.1.32.0\n{after}\n");
            assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
        }
    }

    #[test]
    fn child_processes_search_libtorch_first() {
        let variables = native().environment();
        let (_, search) = variables.iter().find(|(name, _)| name == LIBRARY_PATH).unwrap();
        assert_eq!(env::split_paths(search).next(), Some(PathBuf::from("/it's/torch/lib")));
    }

    #[test]
    fn the_library_is_known_by_its_name_on_every_system() {
        for name in ["libonnxruntime.so.1.32.0", "libonnxruntime.1.32.0.dylib", "onnxruntime.dll"] {
            assert!(is_onnxruntime(name), "{name}");
        }
        for name in ["libonnxruntime_providers_shared.so", "onnxruntime_providers_shared.dll", "__init__.py"]
        {
            assert!(!is_onnxruntime(name), "{name}");
        }
    }
}
