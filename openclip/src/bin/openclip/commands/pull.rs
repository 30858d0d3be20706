//! `openclip pull`: a model into the cache, verified.

use anyhow::Result;
use openclip::{
    Clip,
    zoo::{
        WeightsLocation,
        hub::{Hub, HubConfig},
    },
};

use crate::{arguments::Pull, outcome::Outcome, progress};

pub fn run(arguments: &Pull, quiet: bool) -> Result<Outcome> {
    let mut config = HubConfig::from_env();
    // The newest files, and a cache that was damaged is mended; other commands take what is there.
    config.refresh = !config.offline;
    let hub = Hub::new(config).with_progress(progress::download(quiet));
    let mut builder = Clip::builder(&arguments.model).hub(hub);
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
