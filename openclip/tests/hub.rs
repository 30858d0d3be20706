//! The command against a hub on loopback: download, verify, and run without a network afterwards.

mod support;

#[path = "../../openclip-zoo/tests/support/hub_server.rs"]
mod hub_server;

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
