//! `openclip pull`: a model into the cache, verified.

use crate::zoo::{
    WeightsLocation,
    hub::{Hub, HubConfig},
};
use anyhow::Result;

use crate::cli::{Program, arguments::Pull, outcome::Outcome, progress};

pub fn run(arguments: &Pull, program: &Program) -> Result<Outcome> {
    let mut config = HubConfig::from_env();
    // The newest files, and a cache that was damaged is mended; other commands take what is there.
    config.refresh = !config.offline;
    let hub = Hub::new(config).with_progress(progress::download(program.quiet));
    let mut builder = program.clip(&arguments.model).hub(hub);
    if let Some(pretrained) = &arguments.pretrained {
        builder = builder.pretrained(pretrained);
    }
    let model = builder.resolve()?;
    match &model.weights {
        WeightsLocation::File(path) => println!("{}", path.display()),
        _ => println!("{} is part of this program", arguments.model),
    }
    builder.tokenizer_files(&model)?;
    Ok(Outcome::Done)
}
