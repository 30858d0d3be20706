//! Making references anew: the Python reference in a virtual environment under `target/`.

use std::process::Command;

use anyhow::Result;

use crate::{
    project,
    python::{Environment, Requirements, execute, generation_packages},
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
    captions.env("PYTHONPATH", generation_packages()?);
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
    execute(&mut captions)?;
    // Last: it may bring other releases of what the others don't use.
    environment.install(&Requirements::new("evaluation.txt"))?;
    execute(script("evaluation.py").arg("--out").arg(data.join("evaluation")))
}
