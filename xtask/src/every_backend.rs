//! This program with every backend compiled in: it is built and started anew, because the default build must not need
//! libtorch.

use std::{
    env,
    ffi::OsString,
    process::{Command, ExitStatus},
};

use anyhow::{Context, Result};

use crate::{native::Native, project};

/// Whether this build has every backend.
pub const BUILT_IN: bool = cfg!(all(feature = "tch", feature = "ort"));

/// Runs this program with `arguments` in a build that has every backend.
///
/// # Errors
/// When cargo can't be started.
pub fn run(native: &Native, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Result<ExitStatus> {
    run_with(native, &["--quiet"], arguments)
}

/// The same in a release build. Making it takes minutes, so cargo tells of its progress.
///
/// # Errors
/// When cargo can't be started.
pub fn run_release(
    native: &Native,
    arguments: impl IntoIterator<Item = impl Into<OsString>>,
) -> Result<ExitStatus> {
    run_with(native, &["--release"], arguments)
}

fn run_with(
    native: &Native,
    options: &[&str],
    arguments: impl IntoIterator<Item = impl Into<OsString>>,
) -> Result<ExitStatus> {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .arg("run")
        .args(options)
        .args(["--package", "xtask", "--features", "tch,ort", "--"])
        .args(arguments.into_iter().map(Into::into))
        .current_dir(project::root())
        .envs(native.environment())
        .status()
        .context("cargo can't be started")
}
