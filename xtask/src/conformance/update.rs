//! Making references anew: the Python reference in a virtual environment under `target/`.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, ensure};

use crate::project;

/// Runs `towers.py` for the cases that `filter` selects.
pub fn run(filter: Option<&str>) -> Result<()> {
    let root = project::root();
    let scripts = root.join("xtask/reference");
    let environment = root.join("target/reference-venv");
    let python = environment.join("bin/python");
    if !python.exists() {
        execute(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
    }
    let requirements = scripts.join("requirements.txt");
    execute(Command::new(&python).args(["-m", "pip", "install", "--quiet", "-r"]).arg(requirements))?;
    let mut towers = Command::new(&python);
    towers.arg(scripts.join("towers.py")).arg("--out").arg(root.join("conformance/towers"));
    if let Some(filter) = filter {
        towers.arg("--only").arg(format!("*{filter}*"));
    }
    execute(&mut towers)
}

fn execute(command: &mut Command) -> Result<()> {
    let program = Path::new(command.get_program()).display().to_string();
    let status = command.status().with_context(|| format!("can't start {program}"))?;
    ensure!(status.success(), "{program} failed: {status}");
    Ok(())
}
