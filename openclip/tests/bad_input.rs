//! Input that can't work: one clear line, the right exit code, never a panic, and nothing half-written.

mod support;

use std::fs;

use openclip::zoo::emoji_clip;
use support::Sandbox;

/// Classifies a good image with `model`.
fn classify(sandbox: &Sandbox, model: &str) -> support::Run {
    sandbox.write("cat.png", emoji_clip::SAMPLE_IMAGES[0].png);
    sandbox.run(&["classify", "cat.png", "--labels", "a, b", "--model", model])
}

#[test]
fn damaged_and_foreign_checkpoints() {
    let sandbox = Sandbox::new();
    let good = sandbox.model("good", |_| {});
    assert_eq!(classify(&sandbox, &good).code, 0);

    let truncated = sandbox.model("truncated", |bytes| bytes.truncate(bytes.len() / 2));
    classify(&sandbox, &truncated).failed(1, "open_clip_model.safetensors");
    let empty = sandbox.model("empty", Vec::clear);
    classify(&sandbox, &empty).failed(1, "open_clip_model.safetensors");
    let page = sandbox.model("page", |bytes| *bytes = b"<!DOCTYPE html><html>not found</html>".to_vec());
    classify(&sandbox, &page).failed(1, "open_clip_model.safetensors");

    let missing = sandbox.edited_model("missing", |tensors| {
        tensors.retain(|(name, _, _)| name != "visual.transformer.resblocks.3.mlp.c_fc.weight");
    });
    classify(&sandbox, &missing).failed(1, "missing `visual.transformer.resblocks.3.mlp.c_fc.weight`");
    let renamed = sandbox.edited_model("renamed", |tensors| {
        let tensor = tensors.iter_mut().find(|(name, _, _)| name == "visual.ln_post.weight").unwrap();
        tensor.0 = "visual.ln_posts.weight".to_owned();
    });
    classify(&sandbox, &renamed).failed(1, "did you mean `visual.ln_posts.weight`?");
    let reshaped = sandbox.edited_model("reshaped", |tensors| {
        let tensor = tensors.iter_mut().find(|(name, _, _)| name == "ln_final.weight").unwrap();
        tensor.1 = vec![127];
        tensor.2.pop();
    });
    classify(&sandbox, &reshaped).failed(1, "`ln_final.weight`: [127] in the checkpoint, [128] in the model");
}

#[test]
fn a_pickle_that_calls_something_is_refused_and_not_run() {
    let sandbox = Sandbox::new();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/checkpoints");
    sandbox.write("hostile/open_clip_config.json", emoji_clip::CONFIG);
    sandbox.write("hostile/open_clip_pytorch_model.bin", fs::read(folder.join("call.pt")).unwrap());
    let model = format!("local-dir:{}", sandbox.path("hostile").display());
    classify(&sandbox, &model).failed(1, "posix.system");
}

#[test]
fn names_and_options() {
    let sandbox = Sandbox::new();
    classify(&sandbox, "ViT-B32").failed(1, "did you mean `ViT-B-32`");
    classify(&sandbox, "local-dir:nowhere").failed(1, "nowhere");
    classify(&sandbox, "hf-hub:org/model").failed(1, "openclip pull --model hf-hub:org/model");
    let offline =
        sandbox.run(&["embed", "text", "a", "--model", "ViT-B-32", "--pretrained", "laion2b_s34b_b79k"]);
    offline.failed(1, "openclip pull --model ViT-B-32 --pretrained laion2b_s34b_b79k");
    assert_eq!(offline.err.lines().count(), 1, "{}", offline.err);
    sandbox
        .run(&["embed", "text", "a", "--model", "ViT-B-32", "--pretrained", "lion"])
        .failed(1, "laion2b_s34b_b79k");
    for arguments in [
        ["embed", "text", "a", "--precision", "f64"],
        ["embed", "text", "a", "--device", "tpu"],
        ["embed", "text", "a", "--backend", "mxnet"],
        ["embed", "text", "a", "--batch-size", "0"],
        ["embed", "text", "a", "--image-size", "0x5"],
        ["embed", "text", "a", "-o", "embeddings.csv"],
    ] {
        sandbox.run(&arguments).failed(2, arguments[4]);
    }
    sandbox.run(&["embed", "text", "a", "--precision", "int3"]).failed(2, "int8-weights");
    sandbox.run(&["embed", "text"]).failed(2, "Usage");
}

#[test]
fn labels_and_templates() {
    let sandbox = Sandbox::new();
    let image = sandbox.write("cat.png", emoji_clip::SAMPLE_IMAGES[0].png);
    let image = image.to_str().unwrap();
    let file = sandbox.write("labels.txt", "\n  \n");
    sandbox.run(&["classify", image]).failed(2, "--labels");
    sandbox.run(&["classify", image, "--labels", ""]).failed(2, "list of labels is empty");
    sandbox.run(&["classify", image, "--labels", " , "]).failed(2, "list of labels is empty");
    let empty = ["classify", image, "--labels-file", file.to_str().unwrap()];
    sandbox.run(&empty).failed(2, "list of labels is empty");
    sandbox.run(&["classify", image, "--labels-file", "nowhere.txt"]).failed(1, "nowhere.txt");
    sandbox.run(&["classify", image, "--labels", "a", "--template", "a photo"]).failed(2, "a photo");
}

#[test]
fn images_that_are_none() {
    let sandbox = Sandbox::new();
    let text = sandbox.write("text.png", "this is a text");
    let bomb = sandbox.write("bomb.png", png_header(30_000, 30_000));
    for (path, part) in [(&text, "text.png: not an image"), (&bomb, "30000x30000")] {
        sandbox.run(&["classify", path.to_str().unwrap(), "--labels", "a"]).failed(1, part);
    }
    sandbox.run(&["classify", "nowhere.png", "--labels", "a"]).failed(1, "nowhere.png");
    fs::create_dir(sandbox.path("empty")).unwrap();
    sandbox.run(&["embed", "image", "empty", "-o", "out.npy"]).failed(1, "empty: folder has no images");
    assert!(!sandbox.path("out.npy").exists());
}

#[test]
fn outputs_that_cannot_be() {
    let sandbox = Sandbox::new();
    sandbox.run(&["embed", "text", "a", "-o", "no/such/folder/out.npy"]).failed(1, "no/such/folder");
    fs::create_dir(sandbox.path("folder.npy")).unwrap();
    sandbox.run(&["embed", "text", "a", "-o", "folder.npy"]).failed(1, "folder.npy");
    sandbox.run(&["embed", "text", "--input", "nowhere.txt", "-o", "out.npy"]).failed(1, "nowhere.txt");
    let leftovers: Vec<_> =
        fs::read_dir(sandbox.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(leftovers, ["folder.npy"]);
}

/// The start of a PNG file that says that it is large.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut chunk = b"IHDR".to_vec();
    chunk.extend([width.to_be_bytes(), height.to_be_bytes()].concat());
    chunk.extend([8, 2, 0, 0, 0]);
    let checksum = crc32(&chunk);
    [b"\x89PNG\r\n\x1a\n\0\0\0\x0d".as_slice(), &chunk, &checksum.to_be_bytes()].concat()
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(
            crc ^ u32::from(byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 },
        )
    })
}

#[test]
fn a_tower_without_pooling_is_not_scored() {
    let sandbox = Sandbox::new();
    let model = sandbox.model("tokens", |_| {});
    let mut config: serde_json::Value = serde_json::from_str(emoji_clip::CONFIG).unwrap();
    config["model_cfg"]["vision_cfg"]["pool_type"] = "none".into();
    sandbox.write("tokens/open_clip_config.json", config.to_string());
    classify(&sandbox, &model).failed(1, "not one embedding per image");
}
