//! `openclip eval` through the real binary, on a font that the bundled model never saw, beside CLIP_benchmark's own figures.

#![allow(clippy::unwrap_used, reason = "the helpers of a test")]

mod support;

#[path = "../../openclip-zoo/tests/support/hub_server.rs"]
mod hub_server;

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use support::{Run, Sandbox, data};

/// The figures of `xtask/reference/evaluation.py`.
fn reference() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/evaluation/noto-v1.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The pictures with their names, in order.
fn noto() -> Vec<(PathBuf, String)> {
    let mut pictures: Vec<PathBuf> =
        fs::read_dir(data("noto-v1")).unwrap().map(|entry| entry.unwrap().path()).collect();
    pictures.retain(|path| path.extension().is_some_and(|extension| extension == "png"));
    pictures.sort();
    let labels = fs::read_to_string(data("noto-v1/labels.txt")).unwrap();
    assert_eq!(pictures.len(), labels.lines().count());
    pictures.into_iter().zip(labels.lines().map(str::to_owned)).collect()
}

/// A tar file of these.
fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Labels as NumPy keeps them.
fn npy(labels: &[bool]) -> Vec<u8> {
    let header = format!("{{'descr': '|b1', 'fortran_order': False, 'shape': ({},), }}\n", labels.len());
    let length = (header.len() as u16).to_le_bytes();
    let labels = labels.iter().map(|&label| u8::from(label)).collect();
    [b"\x93NUMPY\x01\x00".to_vec(), length.to_vec(), header.into_bytes(), labels].concat()
}

/// A sandbox with a dataset in CLIP_benchmark's layout.
fn dataset(kind: &str, target: impl Fn(usize, &str) -> (&'static str, Vec<u8>)) -> Sandbox {
    let sandbox = Sandbox::new();
    let mut files = Vec::new();
    for (number, (picture, label)) in noto().iter().enumerate() {
        let (extension, bytes) = target(number, label);
        files.push((format!("{number:04}.png"), fs::read(picture).unwrap()));
        files.push((format!("{number:04}.{extension}"), bytes));
    }
    // Two tars, so that a sample follows one of another tar.
    let (first, second) = files.split_at(200);
    sandbox.write("noto/test/0.tar", tar(first));
    sandbox.write("noto/test/1.tar", tar(second));
    sandbox.write("noto/test/nshards.txt", "2\n");
    sandbox.write("noto/dataset_type.txt", kind);
    sandbox.write("noto/zeroshot_classification_templates.txt", "an emoji of {c}\n");
    sandbox
}

fn classes() -> Sandbox {
    let sandbox = dataset("classification", |number, _| ("cls", number.to_string().into()));
    let labels = fs::read(data("noto-v1/labels.txt")).unwrap();
    sandbox.write("noto/classnames.txt", labels);
    sandbox
}

/// Runs `openclip eval TASK` and reads its result.
fn eval(sandbox: &Sandbox, task: &str, arguments: &[&str]) -> Value {
    let run = sandbox.run(&[&["eval", task, "-o", "out.json"], arguments].concat());
    assert_eq!(run.code, 0, "{}", run.err);
    serde_json::from_str(&fs::read_to_string(sandbox.path("out.json")).unwrap()).unwrap()
}

#[track_caller]
fn assert_figures(found: &Value, expected: &Value) {
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(found["metrics"][name], *value, "{name}");
    }
}

#[test]
fn zero_shot_is_clip_benchmarks() {
    let sandbox = classes();
    let arguments =
        ["--dataset", "wds:noto", "--save-classifier", "c.safetensors", "--confusion", "confusion.csv"];
    let found = eval(&sandbox, "zero-shot", &arguments);
    assert_figures(&found, &reference()["classes"]);
    assert_eq!(found["dataset"], "wds/noto");
    assert_eq!(
        (&found["model"], &found["pretrained"], &found["language"]),
        (&"emoji-clip".into(), &"emoji".into(), &"en".into())
    );
    assert_eq!(found["task"], "zeroshot_classification");
    let confusion = fs::read_to_string(sandbox.path("confusion.csv")).unwrap();
    assert_eq!(confusion.lines().count(), 204);
    assert!(confusion.starts_with("class,\"keycap: *\","), "{}", &confusion[..40]);

    // The same classifier from its file, the same pictures in folders and in a table, and the default name of the result.
    let names = data("noto-v1/labels.txt");
    let names = names.to_str().unwrap();
    let again =
        ["--dataset", "wds:noto", "--load-classifier", "c.safetensors", "--no-features", "--batch-size", "7"];
    assert_figures(&eval(&sandbox, "zero-shot", &again), &reference()["classes"]);
    let mut table = "image,label\n".to_owned();
    for (number, (picture, _)) in noto().iter().enumerate() {
        let bytes = fs::read(picture).unwrap();
        sandbox.write(&format!("folders/{number:03}/a.png"), bytes);
        table.push_str(&format!("folders/{number:03}/a.png,{number}\n"));
    }
    sandbox.write("table.csv", table);
    sandbox.write("template.txt", "an emoji of {}");
    for dataset in ["imagefolder:folders", "csv:table.csv"] {
        let run = sandbox.run(&[
            "eval",
            "zero-shot",
            "--dataset",
            dataset,
            "--classnames",
            names,
            "--templates",
            "template.txt",
            "--per-class",
        ]);
        assert_eq!(run.code, 0, "{}", run.err);
        assert!(run.out.contains("acc1") && run.out.contains("keycap: 5"), "{}", run.out);
        let name = dataset.split(':').nth(1).unwrap().replace(".csv", "");
        let path = sandbox.path(&format!("{name}_emoji_emoji-clip_en_zeroshot_classification.json"));
        let found = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        assert_figures(&found, &reference()["classes"]);
    }
}

#[test]
fn several_labels_are_clip_benchmarks() {
    let reference = reference();
    let words: Vec<&str> =
        reference["words"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    let sandbox = dataset("multilabel", |_, label| {
        ("npy", npy(&words.iter().map(|word| label.contains(word)).collect::<Vec<_>>()))
    });
    sandbox.write("noto/classnames.txt", words.join("\n"));
    let found = eval(&sandbox, "zero-shot", &["--dataset", "wds:noto"]);
    let (found, expected) = (&found["metrics"], &reference["several"]);
    let [found, expected] =
        [found, expected].map(|figures| figures["mean_average_precision"].as_f64().unwrap());
    assert!((found - expected).abs() < 1e-6, "{found} {expected}");
}

#[test]
fn retrieval_is_clip_benchmarks() {
    let sandbox =
        dataset("retrieval", |_, label| ("txt", format!("an emoji of {label}\n{label}").into_bytes()));
    let found = eval(&sandbox, "retrieval", &["--dataset", "wds:noto", "--recall-k", "1,5,10"]);
    assert_figures(&found, &reference()["pairs"]);
    // Without luck in ties: the figures of the bundled model's card.
    let mut table = "filepath\ttitle\n".to_owned();
    for (picture, label) in noto() {
        table.push_str(&format!("{}\t{label}\n", picture.display()));
    }
    sandbox.write("captions.tsv", table);
    let arguments = ["--dataset", "csv:captions.tsv", "--recall-k", "1,5,10", "--template", "an emoji of {}"];
    let found = eval(&sandbox, "retrieval", &arguments);
    let card: Value =
        serde_json::from_str(&fs::read_to_string(data("noto-v1/expected.json")).unwrap()).unwrap();
    for (direction, key) in
        [("text_retrieval", "image_to_text_recall"), ("image_retrieval", "text_to_image_recall")]
    {
        for k in [1, 5, 10] {
            let found = found["metrics"][format!("{direction}_recall_worst@{k}")].as_f64().unwrap();
            let expected = card[key][k.to_string()].as_f64().unwrap();
            assert!((100.0 * found - expected).abs() < 0.001, "{direction} {k}: {found} {expected}");
        }
    }
}

#[test]
fn selection_is_clip_benchmarks() {
    let (sandbox, noto) = (Sandbox::new(), noto());
    let text = |number: usize| format!("\"an emoji of {}\"", noto[number].1);
    let path = |number: usize| noto[number].0.display().to_string();
    let mut two = "image_0,image_1,caption_0,caption_1\n".to_owned();
    for first in (0..200).step_by(2) {
        let second = first + 1;
        two.push_str(&format!("{},{},{},{}\n", path(first), path(second), text(first), text(second)));
    }
    let mut one = "filename,caption,negative_caption\n".to_owned();
    for number in 0..199 {
        one.push_str(&format!("{},{},{}\n", path(number), text(number), text(number + 1)));
    }
    for (name, table) in [("two", two), ("one", one)] {
        sandbox.write(&format!("{name}.csv"), table);
        let found = eval(&sandbox, "selection", &["--dataset", &format!("csv:{name}.csv")]);
        assert_figures(&found, &reference()["selection"][name]);
    }
}

#[test]
fn broken_images_are_counted_and_named() {
    let sandbox = classes();
    let noto = noto();
    let files: Vec<(String, Vec<u8>)> = (0..5)
        .flat_map(|number| {
            let mut image = fs::read(&noto[number].0).unwrap();
            if number == 3 {
                image.truncate(60);
            }
            [(format!("{number}.png"), image), (format!("{number}.cls"), number.to_string().into())]
        })
        .collect();
    sandbox.write("noto/test/0.tar", tar(&files));
    sandbox.write("noto/test/nshards.txt", "1");
    for arguments in [&["--json"][..], &["--json", "--no-features"]] {
        let run = sandbox.run(&[&["eval", "zero-shot", "--dataset", "wds:noto"], arguments].concat());
        run.failed(3, "0.tar/3.png: ");
        assert!(
            run.err.contains("1 of 5 samples can't be read: the figures are of the other 4"),
            "{}",
            run.err
        );
        let record = &run.json()[0];
        assert_eq!(
            (&record["openclip"]["samples"], &record["openclip"]["evaluated"]),
            (&5.into(), &4.into())
        );
        assert!(record["openclip"]["broken"][0].as_str().unwrap().contains("3.png"));
    }
}

#[test]
fn interrupted_runs_go_on() {
    let sandbox = classes();
    let arguments = ["--dataset", "wds:noto", "--features", "kept", "--batch-size", "8"];
    let whole = fs::read(sandbox.path("noto/test/1.tar")).unwrap();
    eval(&sandbox, "zero-shot", &arguments);
    let journal = |sandbox: &Sandbox| -> PathBuf {
        let mut folders: Vec<PathBuf> =
            fs::read_dir(sandbox.path("kept")).unwrap().map(|entry| entry.unwrap().path()).collect();
        folders.sort();
        folders[0].join("journal.jsonl")
    };
    let path = journal(&sandbox);
    let lines = fs::read_to_string(&path).unwrap();
    let done: String = lines.lines().take(5).map(|line| format!("{line}\n")).collect();
    fs::write(&path, format!("{done}{{\"wid")).unwrap();
    let run = sandbox.run(&[&["eval", "zero-shot", "-o", "out.json"], arguments.as_slice()].concat());
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(run.err.contains("images: 40 are there from an earlier run"), "{}", run.err);
    let found: Value = serde_json::from_str(&fs::read_to_string(sandbox.path("out.json")).unwrap()).unwrap();
    assert_figures(&found, &reference()["classes"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), lines);
    let run = sandbox.run(&[&["eval", "zero-shot", "-o", "out.json"], arguments.as_slice()].concat());
    assert!(run.err.contains("images: 203 are there"), "{}", run.err);
    // Another dataset under the same name is computed anew.
    sandbox.write("noto/test/1.tar", [whole, vec![0; 512]].concat());
    let run = sandbox.run(&[&["eval", "zero-shot", "-o", "out.json"], arguments.as_slice()].concat());
    assert!(!run.err.contains("are there"), "{}", run.err);
}

fn fails(sandbox: &Sandbox, arguments: &[&str]) -> Run {
    sandbox.run(&[&["eval"], arguments].concat())
}

#[test]
fn what_is_wrong_with_a_dataset_is_said() {
    let sandbox = classes();
    let zero_shot = ["zero-shot", "--dataset", "wds:noto"];
    fails(&sandbox, &["zero-shot", "--dataset", "wds:nowhere"]).failed(1, "nowhere: there is no such file");
    fails(&sandbox, &["zero-shot", "--dataset", "nowhere"]).failed(2, "wds:PATH, imagefolder:PATH");
    fails(&sandbox, &["retrieval", "--dataset", "wds:noto"]).failed(1, "it has no captions (.txt)");
    fails(&sandbox, &["retrieval", "--dataset", "imagefolder:noto"]).failed(1, "has no captions");
    fails(&sandbox, &[&zero_shot[..], &["--split", "train"]].concat()).failed(1, "no folder `train`");
    sandbox.write("no-place.txt", "a photo");
    fails(&sandbox, &[&zero_shot[..], &["--templates", "no-place.txt"]].concat())
        .failed(2, "`a photo` has no {}");
    sandbox.write("noto/classnames.txt", "one\ntwo\n");
    fails(&sandbox, &zero_shot).failed(1, "0.tar/0002: class 2 is out of range: there are 2 class names");
    fs::remove_file(sandbox.path("noto/classnames.txt")).unwrap();
    fails(&sandbox, &zero_shot).failed(1, "classnames.txt): give --classnames");
    let bytes = fs::read(sandbox.path("noto/test/1.tar")).unwrap();
    sandbox.write("noto/test/1.tar", &bytes[..1000]);
    fails(&sandbox, &[&zero_shot[..], &["--classnames", "imagenet"]].concat())
        .failed(1, "1.tar: the tar file ends within");
    sandbox.write("noto/test/1.tar", "no tar".repeat(200));
    fails(&sandbox, &[&zero_shot[..], &["--classnames", "imagenet"]].concat())
        .failed(1, "1.tar: not a readable tar");
    sandbox.write("pairs.tar", tar(&[("a.txt".to_owned(), b"a caption".to_vec())]));
    fails(&sandbox, &["retrieval", "--dataset", "wds:pairs.tar"])
        .failed(1, "pairs.tar/a: it has captions, and no image");
}

#[test]
fn precisions_are_compared() {
    let sandbox = classes();
    let run = sandbox.run(&["eval", "compare", "--dataset", "wds:noto", "--json"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let lines = run.json();
    let precisions: Vec<&str> = lines.iter().map(|line| line["precision"].as_str().unwrap()).collect();
    assert_eq!(precisions[..3], ["f32", "bf16", "int8"]);
    assert_eq!(lines[0]["acc1"], reference()["classes"]["acc1"]);
    assert_eq!((lines[0]["agreement"].as_f64(), lines[0]["difference"].as_f64()), (Some(1.0), Some(0.0)));
    for line in &lines {
        assert!(line["agreement"].as_f64().unwrap() > 0.9, "{line}");
    }
    let run = sandbox.run(&[
        "eval",
        "compare",
        "--dataset",
        "wds:noto",
        "--run",
        "candle:f32",
        "--run",
        "candle:int8",
    ]);
    assert!(run.out.starts_with("backend  precision  acc1 %"), "{}", run.out);
    assert_eq!(run.out.lines().count(), 3);
    fails(&sandbox, &["compare", "--dataset", "wds:noto", "--run", "candle"])
        .failed(2, "write BACKEND:PRECISION");
}

#[test]
fn results_are_merged() {
    let sandbox = classes();
    for (precision, name) in [("f32", "a"), ("int8", "b")] {
        let output = format!("results-{name}.json");
        let run = sandbox.run(&[
            "eval",
            "zero-shot",
            "--dataset",
            "wds:noto",
            "--precision",
            precision,
            "-o",
            &output,
        ]);
        assert_eq!(run.code, 0, "{}", run.err);
        let text = fs::read(sandbox.path(&output)).unwrap();
        sandbox.write(&format!("results/{name}.json"), text);
    }
    let run = sandbox.run(&["eval", "report", "results", "-o", "report"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let text = |name: &str| fs::read_to_string(sandbox.path("report").join(name)).unwrap();
    let markdown = text("results.md");
    assert!(markdown.contains("| emoji-clip emoji | 0.5517 |"), "{markdown}");
    assert!(markdown.contains("| emoji-clip emoji (candle int8) |"), "{markdown}");
    assert_eq!(text("results.csv").lines().count(), 3);
    for name in ["gflops", "parameters", "speed", "datasets"] {
        assert!(text(&format!("zeroshot_classification-{name}.svg")).contains("emoji-clip emoji"));
    }
    let run = sandbox.run(&["eval", "report", "results"]);
    assert_eq!(run.out, markdown);
    sandbox.run(&["eval", "report", "nowhere"]).failed(1, "nowhere");
}

#[test]
fn probes_are_trained() {
    let sandbox = Sandbox::new();
    // Two classes that a linear layer tells apart: names of people and of other things.
    let mut table = "image,label,split\n".to_owned();
    for (number, (picture, label)) in noto().iter().enumerate() {
        let split = ["train", "train", "val", "test"][number % 4];
        let class = u8::from(["man", "woman", "face", "girl", "boy"].iter().any(|word| label.contains(word)));
        table.push_str(&format!("{},{class},{split}\n", picture.display()));
    }
    sandbox.write("people.csv", table);
    let dataset = ["--dataset", "csv:people.csv"];
    let found = eval(&sandbox, "linear-probe", &[&dataset[..], &["--val-split", "val"]].concat());
    let metrics = &found["metrics"];
    assert!(metrics["lp_acc1"].as_f64().unwrap() > 0.8, "{metrics}");
    assert!(metrics["lp_acc5"].is_null() && metrics["weight_decay"].as_f64().unwrap() >= 1e-6, "{metrics}");
    assert_eq!((metrics["epochs"].as_i64(), metrics["fewshot_k"].as_i64()), (Some(10), Some(-1)));
    assert_eq!(found["task"], "linear_probe");
    let few = ["--fewshot-k", "8", "--seed", "3", "--val-proportion", "0.2"];
    let few = |sandbox| eval(sandbox, "linear-probe", &[&dataset[..], &few].concat());
    assert_eq!(few(&sandbox)["metrics"], few(&sandbox)["metrics"], "the same seed");
    fails(&sandbox, &[&["linear-probe"], &dataset[..], &["--fewshot-k", "500"]].concat())
        .failed(1, "are wanted");
    fails(&sandbox, &[&["linear-probe"], &dataset[..], &["--train-split", "no"]].concat())
        .failed(1, "there are test, train, val");
    fails(&sandbox, &[&["linear-probe"], &dataset[..], &["--val-proportion", "2"]].concat())
        .failed(2, "between 0 and 1");
}

#[test]
fn captions_are_scored() {
    let sandbox = Sandbox::new();
    let (mut table, mut written) = ("image,caption\n".to_owned(), String::new());
    for (picture, label) in &noto()[..20] {
        table.push_str(&format!("{},\"a picture of {label}.\"\n", picture.display()));
        written.push_str(
            &serde_json::json!({"image": picture, "caption": format!("A picture of {label}")}).to_string(),
        );
        written.push('\n');
    }
    sandbox.write("captions.csv", table);
    sandbox.write("written.jsonl", &written);
    let arguments = ["--dataset", "csv:captions.csv", "--captions", "written.jsonl"];
    let found = eval(&sandbox, "caption", &arguments);
    for name in ["Bleu_1", "Bleu_4", "ROUGE_L"] {
        assert!((found["metrics"][name].as_f64().unwrap() - 1.0).abs() < 1e-6, "{name}: {found}");
    }
    assert!(found["metrics"]["CIDEr"].as_f64().unwrap() > 5.0, "{found}");
    assert_eq!(found["task"], "captioning");
    sandbox.write("written.jsonl", written.lines().next().unwrap());
    fails(&sandbox, &[&["caption"], &arguments[..]].concat())
        .failed(1, "no caption was written for its image");
    fails(&sandbox, &["caption", "--dataset", "csv:captions.csv"]).failed(2, "emoji-clip has no decoder");
}

#[test]
fn datasets_of_the_hub_are_fetched() {
    let server = hub_server::HubServer::start();
    let local = classes();
    for name in [
        "test/nshards.txt",
        "test/0.tar",
        "test/1.tar",
        "classnames.txt",
        "zeroshot_classification_templates.txt",
    ] {
        let bytes = fs::read(local.path("noto").join(name)).unwrap();
        server.add("datasets/org/wds_noto", name, &bytes, name.ends_with("tar"));
    }
    let online = Sandbox::new().with("HF_HUB_OFFLINE", "0").with("HF_ENDPOINT", &server.endpoint());
    let found = eval(&online, "zero-shot", &["--dataset", "wds:hf-hub:org/wds_noto"]);
    assert_figures(&found, &reference()["classes"]);
    assert_eq!(found["dataset"], "wds/wds_noto");
    fails(&online, &["zero-shot", "--dataset", "wds:hf-hub:org/none"]).failed(1, "org/none");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/evaluation/noto-v1.parquet");
    server.add("datasets/org/noto", "data/test-00000-of-00001.parquet", &fs::read(path).unwrap(), true);
    let dataset = "parquet:hf-hub:org/noto/data/test-00000-of-00001.parquet";
    let found = eval(&online, "zero-shot", &["--dataset", dataset, "--templates", "simple"]);
    assert_eq!(found["openclip"]["evaluated"], 6);
    drop(server);
    let offline = online.with("HF_HUB_OFFLINE", "1");
    let found = eval(&offline, "zero-shot", &["--dataset", "wds:hf-hub:org/wds_noto", "--no-features"]);
    assert_figures(&found, &reference()["classes"]);
    fails(&offline, &["zero-shot", "--dataset", "parquet:hf-hub:org/noto"]).failed(1, "say which file");
}
