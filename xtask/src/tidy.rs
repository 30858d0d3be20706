//! `cargo xtask tidy`: formatting, lints, documentation, and the project's own rules about files and licences.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use xtask::project;

/// Lines of a file past which it has to be split by meaning.
const LONGEST_FILE: usize = 800;

/// Licences that dependencies may have; one of those that a dependency offers is enough.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "IJG",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "NCSA",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Number of steps of [`run`].
pub const STEPS: usize = 5;

/// Runs all checks, stopping at the first that fails.
pub fn run() -> Result<()> {
    step("format", || {
        cargo(&["fmt", "--all", "--check"], &[])?;
        cargo(&["fmt", "--manifest-path", "examples/mixer/Cargo.toml", "--check"], &[])
    })?;
    step("rules", rules)?;
    step("licences", licences)?;
    step("lints", || cargo(&["clippy", "--all-targets", "--quiet", "--", "--deny", "warnings"], &[]))?;
    step("documentation", || cargo(&["doc", "--no-deps", "--quiet"], &[]))
}

/// Runs `check` under a heading.
pub fn step(name: &str, check: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("== {name}");
    check().with_context(|| format!("{name} failed"))
}

/// Runs cargo in the project, with more variables in its environment.
pub fn cargo(arguments: &[&str], variables: &[(String, OsString)]) -> Result<()> {
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(arguments)
        .current_dir(project::root())
        .env("RUSTDOCFLAGS", "--deny warnings")
        .envs(variables.iter().cloned())
        .status()?;
    ensure!(status.success(), "cargo {} failed", arguments.join(" "));
    Ok(())
}

/// What clippy doesn't check.
fn rules() -> Result<()> {
    let root = project::root();
    let mut problems = Vec::new();
    for path in sources(&root)? {
        let text = fs::read_to_string(&path)?;
        let name = path.strip_prefix(&root).unwrap_or(&path).display();
        let lines = text.lines().count();
        if lines > LONGEST_FILE {
            problems.push(format!("{name}: {lines} lines; split it by meaning (at most {LONGEST_FILE})"));
        }
        if !text.starts_with("//!") {
            problems.push(format!("{name}: does not open with `//!` that says what it holds"));
        }
    }
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(())
}

/// All Rust files that the project keeps, tests and fuzz targets included.
fn sources(root: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"])
        .current_dir(root)
        .output()
        .context("git lists the files")?;
    ensure!(output.status.success(), "git ls-files failed: {}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout)?;
    Ok(names.lines().map(|name| root.join(name)).filter(|path| path.exists()).collect())
}

/// Whether every dependency can be used under a licence of the list.
fn licences() -> Result<()> {
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--format-version", "1", "--locked", "--all-features"])
        .current_dir(project::root())
        .output()?;
    ensure!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists packages")?;
    let problems: Vec<String> = packages
        .iter()
        .filter_map(|package| {
            let licence = package["license"].as_str().unwrap_or_default();
            (!is_allowed(licence))
                .then(|| format!("{}: licence `{licence}` is not on the list", package["name"]))
        })
        .collect();
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    Ok(())
}

/// Evaluates an SPDX expression: `OR` needs one side, `AND` both. The old `/` means `OR`.
fn is_allowed(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ").replace(['(', ')'], " ");
    expression.split(" AND ").all(|part| part.split(" OR ").any(|licence| LICENCES.contains(&licence.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_evaluated() {
        for allowed in ["MIT", "MIT OR GPL-3.0", "(MIT OR Apache-2.0) AND Unicode-3.0", "MIT/Apache-2.0"] {
            assert!(is_allowed(allowed), "{allowed}");
        }
        for refused in ["", "GPL-3.0", "MIT AND GPL-3.0", "AGPL-3.0 OR SSPL-1.0"] {
            assert!(!is_allowed(refused), "{refused}");
        }
    }
}
