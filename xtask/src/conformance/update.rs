//! Making references anew: the Python reference in a virtual environment under `target/`.

use std::process::Command;

use anyhow::{Context, Result};

use crate::{
    project,
    python::{Environment, Requirements, execute},
};

/// Makes the references of the towers and captions that `filter` selects; without a filter, of preprocessing and tokenizers too.
pub fn run(filter: Option<&str>) -> Result<()> {
    let root = project::root();
    let scripts = root.join("xtask/reference");
    let environment = Environment::new("reference-venv");
    environment.install(&Requirements::new("requirements.txt"))?;
    let script = |name: &str| {
        let mut command = Command::new(environment.python());
        command.arg(scripts.join(name));
        command
    };
    let data = root.join("conformance");
    let mut towers = script("towers.py");
    towers.arg("--out").arg(data.join("towers"));
    let mut captions = script("generation.py");
    captions.arg("--out").arg(data.join("generation"));
    // Other releases of some packages, which go before those of the environment.
    let releases = Environment::new("generation-venv");
    releases.install(&Requirements::new("generation.txt").without_dependencies())?;
    captions.env("PYTHONPATH", releases.packages().context("packages of the environment")?);
    if let Some(filter) = filter {
        let only = format!("*{filter}*");
        execute(towers.arg("--only").arg(&only))?;
        return execute(captions.arg("--only").arg(&only));
    }
    execute(script("synth.py").arg("--out").arg(data.join("synth.json")))?;
    execute(&mut script("preprocess.py"))?;
    execute(script("tokenizer.py").arg("cases"))?;
    execute(script("tokenizer.py").arg("huggingface").env("HF_HUB_OFFLINE", "1"))?;
    execute(&mut towers)?;
    execute(&mut captions)
}
