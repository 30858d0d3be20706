//! Making references anew: the Python reference in a virtual environment under `target/`.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, ensure};

use crate::project;

/// Makes the references of the towers that `filter` selects; without a filter, of preprocessing and tokenizer too.
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
    let script = |name: &str| {
        let mut command = Command::new(&python);
        command.arg(scripts.join(name));
        command
    };
    let data = root.join("conformance");
    let mut towers = script("towers.py");
    towers.arg("--out").arg(data.join("towers"));
    if let Some(filter) = filter {
        return execute(towers.arg("--only").arg(format!("*{filter}*")));
    }
    execute(script("synth.py").arg("--out").arg(data.join("synth.json")))?;
    execute(&mut script("preprocess.py"))?;
    execute(script("tokenizer.py").arg("cases"))?;
    execute(&mut towers)
}

fn execute(command: &mut Command) -> Result<()> {
    let program = Path::new(command.get_program()).display().to_string();
    let status = command.status().with_context(|| format!("can't start {program}"))?;
    ensure!(status.success(), "{program} failed: {status}");
    Ok(())
}
