//! The command against a hub on loopback: download, verify, and run without a network afterwards.

mod support;

#[path = "../../openclip-zoo/tests/support/hub_server.rs"]
mod hub_server;

use std::{fs, path::Path};

use hub_server::HubServer;
use openclip::zoo::emoji_clip;
use support::Sandbox;

#[test]
fn pull_and_then_run_offline() {
    let server = HubServer::start();
    server.add("org/tiny", "open_clip_config.json", emoji_clip::CONFIG.as_bytes(), false);
    server.add("org/tiny", "open_clip_model.safetensors", emoji_clip::WEIGHTS, true);
    let online = Sandbox::new().with("HF_HUB_OFFLINE", "0").with("HF_ENDPOINT", &server.endpoint());
    let pull = online.run(&["pull", "--model", "hf-hub:org/tiny"]);
    assert_eq!(pull.code, 0, "{}", pull.err);
    assert!(pull.out.trim_end().ends_with("open_clip_model.safetensors"), "{}", pull.out);
    drop(server);

    let offline = online.with("HF_HUB_OFFLINE", "1");
    let run = offline.run(&["embed", "text", "a cat", "--model", "hf-hub:org/tiny"]);
    let bundled = offline.run(&["embed", "text", "a cat"]);
    assert_eq!((run.code, &run.out), (0, &bundled.out), "{}", run.err);
}

#[test]
fn a_repository_that_is_not_there() {
    let server = HubServer::start();
    let online = Sandbox::new().with("HF_HUB_OFFLINE", "0").with("HF_ENDPOINT", &server.endpoint());
    online.run(&["pull", "--model", "hf-hub:org/nothing"]).failed(1, "org/nothing");
}

#[test]
fn a_repository_of_transformers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance");
    let server = HubServer::start();
    for name in ["config.json", "preprocessor_config.json", "model.safetensors"] {
        let bytes = fs::read(root.join("layouts/hf_clip").join(name)).unwrap();
        server.add("org/clip", name, &bytes, name.ends_with("safetensors"));
    }
    for name in ["vocab.json", "merges.txt", "tokenizer_config.json"] {
        let bytes = fs::read(root.join("tokenizer/huggingface/clip").join(name)).unwrap();
        server.add("org/clip", name, &bytes, false);
    }
    let online = Sandbox::new().with("HF_HUB_OFFLINE", "0").with("HF_ENDPOINT", &server.endpoint());
    let pull = online.run(&["pull", "--model", "hf-hub:org/clip"]);
    assert_eq!(pull.code, 0, "{}", pull.err);
    drop(server);

    let offline = online.with("HF_HUB_OFFLINE", "1");
    let hub = offline.run(&["embed", "text", "a cat", "--model", "hf-hub:org/clip"]);
    let snapshot = Path::new(pull.out.trim_end()).parent().unwrap();
    let folder = format!("local-dir:{}", snapshot.display());
    let folder = offline.run(&["embed", "text", "a cat", "--model", &folder]);
    assert_eq!((hub.code, &hub.out), (0, &folder.out), "{}", hub.err);
}
