//! `openclip inspect` through the real binary.

mod support;

use openclip::{Clip, DecodedImage, core::weights::open_checkpoint, zoo::emoji_clip};
use support::Sandbox;

#[test]
fn an_image_is_shown_stage_by_stage() {
    let sandbox = Sandbox::new();
    let image = sandbox.write("pizza.png", emoji_clip::SAMPLE_IMAGES[2].png);
    let (tensors, picture) = (sandbox.path("inside.safetensors"), sandbox.path("attention.png"));
    let run = sandbox.run(&[
        "inspect",
        "image",
        image.to_str().unwrap(),
        "--stages",
        "0,-1",
        "--normalize-stages",
        "--attention=-1",
        "-o",
        tensors.to_str().unwrap(),
        "--picture",
        picture.to_str().unwrap(),
    ]);
    assert_eq!(run.code, 0, "{}", run.err);
    let lines: Vec<&str> = run.out.lines().collect();
    assert!(lines[0].starts_with("module"), "{}", run.out);
    // Two stages with their class tokens, and a map.
    assert_eq!(lines.len(), 1 + 2 * 2 + 1, "{}", run.out);
    let written = open_checkpoint(&tensors).unwrap();
    let names = written.names();
    assert_eq!(names.len(), 5, "{names:?}");
    assert!(names.iter().any(|name| name.ends_with(".attn.weights")), "{names:?}");
    let picture = DecodedImage::open(&picture).unwrap();
    let clip = Clip::builder("emoji-clip").image_only().build().unwrap();
    let shown = clip.preprocessor().unwrap().resize_and_crop(&picture).unwrap().data;
    assert!(picture.width() >= 448);
    assert!(shown.iter().max() > shown.iter().min(), "a picture of one colour shows nothing");
}

#[test]
fn texts_are_shown_as_json() {
    let sandbox = Sandbox::new();
    let run = sandbox.run(&["inspect", "text", "a cat", "a dog", "--stages=-1", "--json"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let lines = run.json();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["dims"][0], 2);
    assert!(lines[0]["std"].as_f64().unwrap() > 0.0);
}

#[test]
fn what_cannot_be_shown_is_said() {
    let sandbox = Sandbox::new();
    sandbox.run(&["inspect", "text", "a", "--stages", "99"]).failed(1, "there is no index 99");
    sandbox.run(&["inspect", "text", "a", "--stages", "first"]).failed(2, "give `all` or a list");
    sandbox.run(&["inspect", "text", "a", "-o", "x.npy"]).failed(2, ".safetensors");
    sandbox.run(&["inspect", "image", "missing.png"]).failed(1, "missing.png");
    let image = sandbox.write("pizza.png", emoji_clip::SAMPLE_IMAGES[2].png);
    let image = image.to_str().unwrap();
    sandbox.run(&["inspect", "image", image, "--picture", "x.jpg"]).failed(2, ".png");
    sandbox.run(&["inspect", "image", image, "--picture", "nowhere/x.png"]).failed(1, "no folder nowhere");
}
