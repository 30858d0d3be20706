//! A tower that is loaded alone reads its own bytes only.

use std::sync::Arc;

use openclip_core::{
    CheckpointConfig,
    weights::{CanonicalLayout, CountingSource, WeightSource, open_embedded_checkpoint},
};
use openclip_zoo::{
    build::{self, BackendOptions, Families},
    emoji_clip,
};

#[test]
fn each_tower_reads_its_own_bytes_only() {
    let config = CheckpointConfig::from_json("emoji-clip", emoji_clip::CONFIG).unwrap().model_cfg;
    let (families, options) = (Families::default(), BackendOptions::default());
    let checkpoint = open_embedded_checkpoint("emoji-clip", emoji_clip::WEIGHTS).unwrap();
    let counting = Arc::new(CountingSource::new(Arc::new(CanonicalLayout::new(checkpoint))));
    let source: Arc<dyn WeightSource> = counting.clone();
    let stored = |scope: &str| -> u64 {
        let parameters = build::parameters(&families, &config).unwrap();
        let own = parameters.iter().filter(|(name, _)| name.starts_with(scope));
        // The checkpoint is stored in half precision.
        own.map(|(_, dims)| 2 * dims.iter().product::<usize>() as u64).sum()
    };

    build::text_encoder(&families, &config, &source, &options).unwrap();
    assert_eq!(counting.bytes_below("visual"), 0);
    assert_eq!(counting.bytes_below("text"), stored("text."));
    build::image_encoder(&families, &config, &source, &options).unwrap();
    assert_eq!(counting.bytes_below("visual"), stored("visual."));
    assert_eq!(counting.bytes_below("text"), stored("text."));
}
