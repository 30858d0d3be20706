//! The `openclip` command on real inputs: one test per command at least, through the real binary.

mod support;

use std::fs;

use openclip::zoo::emoji_clip;
use serde_json::Value;
use support::{Sandbox, data, dot, noto_recall, read_npy, sample_labels};

#[test]
fn classify_gives_the_reference_scores() {
    let sandbox = Sandbox::new();
    let samples = sandbox.samples();
    let run = sandbox.run(&[
        "classify",
        samples.to_str().unwrap(),
        "--labels",
        &sample_labels(),
        "--template",
        emoji_clip::TEMPLATE,
        "--json",
    ]);
    assert_eq!(run.code, 0, "{}", run.err);
    let expected: Value = serde_json::from_str(emoji_clip::EXPECTED_SCORES).unwrap();
    let lines = run.json();
    assert_eq!(lines.len(), 16);
    for line in lines {
        let image = line["image"].as_str().unwrap();
        let expected = expected["results"].as_array().unwrap().iter();
        let expected =
            expected.clone().find(|result| image.ends_with(&result["image"].as_str().unwrap()[7..])).unwrap();
        let found = line["labels"].as_array().unwrap();
        assert_eq!(found[0]["label"], expected["labels"][0]["label"], "{image}");
        assert!(found.is_sorted_by(|a, b| a["score"].as_f64() >= b["score"].as_f64()), "{image}");
        for label in expected["labels"].as_array().unwrap() {
            let score =
                found.iter().find(|found| found["label"] == label["label"]).unwrap()["score"].as_f64();
            let difference = (score.unwrap() - label["score"].as_f64().unwrap()).abs();
            assert!(difference < 1e-4, "{image} {label}: {score:?}");
        }
    }
}

#[test]
fn classify_prints_a_table_of_the_best() {
    let sandbox = Sandbox::new();
    let image = sandbox.write("pizza.png", emoji_clip::SAMPLE_IMAGES[2].png);
    let file = sandbox.write("labels.txt", "rocket\npizza\n\nguitar\n");
    let run = sandbox.run(&[
        "classify",
        image.to_str().unwrap(),
        "--labels-file",
        file.to_str().unwrap(),
        "--template",
        emoji_clip::TEMPLATE,
        "--top-k",
        "2",
    ]);
    assert_eq!(run.code, 0, "{}", run.err);
    let lines: Vec<&str> = run.out.lines().collect();
    assert_eq!(lines.len(), 3, "{}", run.out);
    assert!(lines[0].ends_with("pizza.png") && lines[1].starts_with("  pizza"), "{}", run.out);
    for (set, count) in [("openai", 80), ("simple", 7)] {
        let run = sandbox.run(&[
            "classify",
            image.to_str().unwrap(),
            "--labels",
            "pizza",
            "--templates",
            set,
            "--json",
        ]);
        assert_eq!((run.code, run.json()[0]["labels"][0]["score"].as_f64()), (0, Some(1.0)), "{count}");
    }
}

#[test]
fn retrieval_on_unseen_emoji_equals_the_reference() {
    let expected: Value = serde_json::from_slice(&fs::read(data("noto-v1/expected.json")).unwrap()).unwrap();
    for (direction, k, recall) in noto_recall(&[]) {
        let figure = expected[direction][k.to_string()].as_f64().unwrap();
        assert!((recall - figure).abs() < 0.1, "{direction}@{k}: {recall}, {figure}");
    }
}

#[test]
fn embeddings_are_the_same_in_every_format() {
    let sandbox = Sandbox::new();
    let texts = ["a cat", "zwei Hunde", "", "🦊"];
    for output in ["texts.npy", "texts.safetensors", "texts.jsonl"] {
        let run = sandbox.run(&[["embed", "text"].as_slice(), &texts, &["-o", output]].concat());
        assert_eq!(run.code, 0, "{}", run.err);
    }
    let npy = read_npy(&sandbox.path("texts.npy"));
    assert!(npy.iter().all(|row| (dot(row, row) - 1.0).abs() < 1e-5));
    let safetensors =
        openclip::core::weights::SafetensorsFile::open(sandbox.path("texts.safetensors")).unwrap();
    let stored = openclip::core::weights::WeightSource::read(&safetensors, "embeddings", &[4, 128]).unwrap();
    assert_eq!(stored.to_f32(), npy.concat());
    let lines = fs::read_to_string(sandbox.path("texts.jsonl")).unwrap();
    for ((line, text), row) in lines.lines().zip(texts).zip(&npy) {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["text"], text);
        let values: Vec<f32> =
            line["embedding"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect();
        assert_eq!(&values, row);
    }
    let raw = sandbox.run(&["embed", "text", "a cat", "--no-normalize", "-o", "raw.npy"]);
    assert_eq!(raw.code, 0, "{}", raw.err);
    let raw = &read_npy(&sandbox.path("raw.npy"))[0];
    let length = dot(raw, raw).sqrt();
    assert!((length - 1.0).abs() > 0.1);
    assert!(raw.iter().zip(&npy[0]).all(|(raw, unit)| (raw / length - unit).abs() < 1e-6));
    let piped = sandbox.run(&["embed", "text", "a cat"]);
    assert_eq!(piped.json()[0]["text"], "a cat");
}

#[test]
fn images_come_from_files_folders_and_a_list() {
    let sandbox = Sandbox::new();
    sandbox.samples();
    sandbox.write("nested/deeper/rocket.PNG", emoji_clip::SAMPLE_IMAGES[1].png);
    sandbox.write("nested/notes.txt", "no image");
    let arguments = ["embed", "image", "samples/key.png", "nested", "-"];
    let run = sandbox.run_with_input(&arguments, "samples/fish.png\nsamples/house.png\n");
    assert_eq!(run.code, 0, "{}", run.err);
    let images: Vec<String> =
        run.json().iter().map(|line| line["image"].as_str().unwrap().to_owned()).collect();
    assert_eq!(
        images,
        ["samples/key.png", "nested/deeper/rocket.PNG", "samples/fish.png", "samples/house.png"]
    );
    let texts = sandbox.run_with_input(&["embed", "text", "--input", "-"], "one\r\n\nthree");
    let texts: Vec<Value> = texts.json().into_iter().map(|line| line["text"].clone()).collect();
    assert_eq!(texts, ["one", "", "three"]);
}

#[test]
fn fast_decoding_of_large_photos_changes_little() {
    let sandbox = Sandbox::new();
    sandbox.write("rocket.jpg", include_bytes!("../../openclip-vision/benches/rocket.jpg"));
    let embed = |name: &str, options: &[&str]| {
        let run = sandbox.run(&[&["embed", "image", "rocket.jpg", "-o", name], options].concat());
        assert_eq!(run.code, 0, "{}", run.err);
        read_npy(&sandbox.path(name)).concat()
    };
    let (exact, fast) = (embed("exact.npy", &[]), embed("fast.npy", &["--fast-decode"]));
    assert_ne!(exact, fast);
    assert!(dot(&exact, &fast) > 0.999, "cosine {}", dot(&exact, &fast));
    let label = ["--labels", "rocket, pizza", "--json"];
    let run = sandbox.run(&[&["classify", "rocket.jpg", "--fast-decode"], label.as_slice()].concat());
    assert_eq!(run.code, 0, "{}", run.err);
}

#[test]
fn broken_images_are_reported_and_the_rest_is_right() {
    let sandbox = Sandbox::new();
    let mut paths = Vec::new();
    for index in 0..100 {
        let sample = &emoji_clip::SAMPLE_IMAGES[index % 16];
        let bytes = match index {
            10 => b"not an image at all".to_vec(),
            50 => sample.png[..sample.png.len() / 2].to_vec(),
            99 => Vec::new(),
            _ => sample.png.to_vec(),
        };
        paths.push(sandbox.write(&format!("images/{index:03}.png"), bytes));
    }
    let good = sandbox.run(&["embed", "image", sandbox.samples().to_str().unwrap(), "-o", "good.npy"]);
    assert_eq!(good.code, 0, "{}", good.err);
    // Samples in the order of their file names.
    let mut order: Vec<usize> = (0..16).collect();
    order.sort_by_key(|&index| emoji_clip::SAMPLE_IMAGES[index].file);
    let good = read_npy(&sandbox.path("good.npy"));

    let run = sandbox.run(&["embed", "image", "images", "-o", "all.npy", "--batch-size", "7"]);
    assert_eq!(run.code, 3, "{}", run.err);
    assert_eq!(run.err.lines().count(), 3, "{}", run.err);
    for name in ["010.png", "050.png", "099.png"] {
        assert!(run.err.contains(name), "{}", run.err);
    }
    let rows = read_npy(&sandbox.path("all.npy"));
    assert_eq!(rows.len(), 100);
    for (index, row) in rows.iter().enumerate() {
        if [10, 50, 99].contains(&index) {
            assert!(row.iter().all(|value| value.is_nan()), "{index}");
        } else {
            let expected = &good[order.iter().position(|&sample| sample == index % 16).unwrap()];
            assert!((dot(row, expected) - 1.0).abs() < 1e-5, "{index}");
        }
    }
    let run = sandbox.run(&["embed", "image", "images", "-o", "all.jsonl"]);
    assert_eq!(run.code, 3);
    let lines = fs::read_to_string(sandbox.path("all.jsonl")).unwrap();
    let errors: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &Value| line.get("error").is_some())
        .collect();
    assert_eq!(errors.len(), 3);
    assert!(errors[0]["image"].as_str().unwrap().ends_with("010.png"));
}

#[test]
fn models_are_listed_and_shown() {
    let sandbox = Sandbox::new();
    let list = sandbox.run(&["models", "list", "--json"]);
    assert_eq!((list.code, list.json().len()), (0, 145), "{}", list.err);
    let pairs = sandbox.run(&["models", "list", "--pretrained", "--json"]);
    assert_eq!(pairs.json().len(), 197);
    let table = sandbox.run(&["models", "list", "--family", "vit"]);
    let lines: Vec<&str> = table.out.lines().collect();
    assert_eq!(lines.len(), 26, "{}", table.out);
    assert!(lines.iter().all(|line| line.chars().count() <= 110), "{}", table.out);
    let show = sandbox.run(&["models", "show", "ViT-B-32"]);
    for part in ["laion2b_s34b_b79k", "151.28", "66."] {
        assert!(show.out.contains(part), "{part}: {}", show.out);
    }
    sandbox.run(&["models", "show", "ViT-B-23"]).failed(1, "ViT-B-32");
    sandbox.run(&["models", "list", "--family", "nope"]).failed(2, "there are: ");
}

#[test]
fn demo_classifies_the_bundled_images() {
    let sandbox = Sandbox::new();
    let run = sandbox.run(&["demo"]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(run.out.contains("14 of 16 right"), "{}", run.out);
    assert_eq!(sandbox.run(&["demo", "--json"]).json().len(), 16);
}

#[test]
fn export_writes_models_and_what_they_need() {
    let sandbox = Sandbox::new();
    let folder = sandbox.path("onnx");
    let run =
        sandbox.run(&["export", "--onnx", folder.to_str().unwrap(), "--external-data", "--image-size", "96"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let written: Vec<_> = run.out.lines().map(|line| line.rsplit('/').next().unwrap()).collect();
    assert_eq!(written, ["image.onnx", "text.onnx", "open_clip_config.json"]);
    let mut weights = 0;
    for name in ["image.onnx", "text.onnx"] {
        let model = fs::read(folder.join(name)).unwrap();
        let has = |part: &str| model.windows(part.len()).any(|window| window == part.as_bytes());
        for part in ["logit_scale", "batch", &format!("{name}.data")] {
            assert!(has(part), "{name} has no `{part}`");
        }
        weights += fs::metadata(folder.join(format!("{name}.data"))).unwrap().len();
    }
    // The bundled weights are in half precision, the exported ones are not.
    assert!(weights as f64 > 1.9 * emoji_clip::WEIGHTS.len() as f64, "{weights} bytes of weights");
    let config: Value =
        serde_json::from_str(&fs::read_to_string(folder.join("open_clip_config.json")).unwrap()).unwrap();
    assert_eq!(config["model_cfg"]["vision_cfg"]["image_size"], serde_json::json!([96, 96]));
    assert_eq!(config["preprocess_cfg"]["size"], serde_json::json!([96, 96]));

    let inside_a_file = sandbox.write("file", "").join("onnx");
    sandbox.run(&["export", "--onnx", inside_a_file.to_str().unwrap()]).failed(1, "file");
    sandbox.run(&["export"]).failed(2, "--onnx");
}

#[test]
fn preprocessing_can_be_overridden() {
    let sandbox = Sandbox::new();
    let image = sandbox.write("pizza.png", emoji_clip::SAMPLE_IMAGES[2].png);
    let embed = |flags: &[&str]| {
        let run = sandbox.run(&[&["embed", "image", image.to_str().unwrap()], flags].concat());
        assert_eq!(run.code, 0, "{}", run.err);
        run.json()[0]["embedding"].clone()
    };
    let plain = embed(&[]);
    let openai = ["--image-mean", "0.48145466,0.4578275,0.40821073", "--image-std"];
    let other = embed(&[&openai[..], &["0.3"]].concat());
    assert_ne!(plain, other);
    assert_ne!(plain, embed(&["--image-interpolation", "bilinear"]));
    // A square image is the same however it is brought to a square.
    assert_eq!(plain, embed(&["--image-resize-mode", "squash", "--image-fill-color", "9"]));
    let path = image.to_str().unwrap();
    for (flag, value, message) in [
        ("--image-mean", "0.1,0.2", "one finite number or three"),
        ("--image-std", "0.5,0,0.5", "must be positive"),
        ("--image-interpolation", "nearest", "possible values"),
        ("--image-fill-color", "256", "256"),
    ] {
        sandbox.run(&["embed", "image", path, flag, value]).failed(2, message);
    }
}
