//! Metrics beside those of their Python originals, on inputs that `xtask/reference/evaluation.py` made up.

#![allow(clippy::unwrap_used, reason = "the helpers of a test")]

use std::{fs, path::Path};

use openclip_core::HostTensor;
use openclip_eval::metric::{self, caption::Captioned, top::TopK};
use serde_json::Value;

fn cases(kind: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/evaluation/metrics.json");
    let all: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    all[kind].as_array().unwrap().clone()
}

fn parse<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

fn features(value: &Value) -> HostTensor {
    let rows: Vec<Vec<f32>> = parse(value);
    HostTensor::new([rows.len(), rows[0].len()], rows.concat()).unwrap()
}

/// Compares figures to the last bit; what isn't defined is nothing in the reference.
fn assert_equal(case: &Value, found: &[(String, f64)]) {
    let name = &case["name"];
    for (figure, expected) in case["figures"].as_object().unwrap() {
        let (_, value) = found.iter().find(|(known, _)| known == figure).unwrap();
        match expected.as_f64() {
            Some(expected) => assert_eq!(*value, expected, "{name}: {figure}"),
            None => assert!(value.is_nan(), "{name}: {figure}"),
        }
    }
}

#[test]
fn the_first_of_equal_scores_are_those_of_torch() {
    for case in cases("top") {
        let scores: Vec<f32> = parse(&case["scores"]);
        let expected: Vec<usize> = parse(&case["top"]);
        let found: Vec<usize> = TopK::default().select(&scores, expected.len()).collect();
        assert_eq!(found, expected, "{} of {}", expected.len(), scores.len());
    }
}

#[test]
fn classification() {
    for case in cases("classification") {
        let classes: Vec<usize> = parse(&case["classes"]);
        let found =
            metric::classification(&features(&case["features"]), &features(&case["classifier"]), &classes)
                .unwrap();
        assert_equal(&case, &found.figures());
    }
}

#[test]
fn multilabel() {
    for case in cases("multilabel") {
        let labels: Vec<Vec<u8>> = parse(&case["labels"]);
        let labels: Vec<Vec<bool>> =
            labels.into_iter().map(|row| row.into_iter().map(|label| label == 1).collect()).collect();
        let found = metric::multilabel(&features(&case["features"]), &features(&case["classifier"]), &labels)
            .unwrap();
        let expected: Vec<f32> = parse(&case["average_precision"]);
        for (class, (found, expected)) in found.average_precision.iter().zip(&expected).enumerate() {
            assert!((found - expected).abs() < 1e-6, "{}: class {class}: {found} {expected}", case["name"]);
        }
        let mean = case["mean_average_precision"].as_f64().unwrap();
        assert!((found.mean_average_precision - mean).abs() < 1e-6, "{}", case["name"]);
    }
}

#[test]
fn retrieval() {
    for case in cases("retrieval") {
        let (image_of_text, ks): (Vec<usize>, Vec<usize>) =
            (parse(&case["image_of_text"]), parse(&case["recall_k"]));
        let (images, texts) = (features(&case["images"]), features(&case["texts"]));
        let found = metric::retrieval(&images, &texts, &image_of_text, &ks).unwrap();
        let directions =
            [("image_retrieval", &found.image_retrieval), ("text_retrieval", &found.text_retrieval)];
        let named = directions.iter().flat_map(|(name, direction)| {
            assert!(
                direction.recall_worst.iter().zip(&direction.recall).all(|(worst, recall)| worst <= recall)
            );
            ks.iter().zip(&direction.recall).map(move |(k, recall)| (format!("{name}_recall@{k}"), *recall))
        });
        assert_equal(&case, &named.collect::<Vec<_>>());
    }
}

#[test]
fn selection() {
    for case in cases("selection") {
        let (images, texts) = (features(&case["images"]), features(&case["texts"]));
        let found =
            metric::selection(&images, &texts, parse(&case["images_each"]), parse(&case["texts_each"]))
                .unwrap();
        let figures = [("image_acc", found.image_acc), ("text_acc", found.text_acc), ("acc", found.acc)];
        assert_equal(&case, &figures.map(|(name, value)| (name.to_owned(), value)));
    }
}

fn caption_cases(kind: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/evaluation/captions.json");
    let all: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    all[kind].as_array().unwrap().clone()
}

#[test]
fn captions_are_tokenized_as_in_pycocoevalcap() {
    let cases: Vec<[String; 2]> = caption_cases("tokens").iter().map(parse).collect();
    let differ = cases.iter().filter_map(|[text, expected]| {
        let found = metric::caption::tokenize(text);
        (found != *expected).then(|| format!("{text}\n  {found}\n  {expected}"))
    });
    let differ: Vec<String> = differ.collect();
    assert!(differ.is_empty(), "{} of {}:\n{}", differ.len(), cases.len(), differ.join("\n"));
}

#[test]
fn captions_are_scored_as_in_pycocoevalcap() {
    for case in caption_cases("scores") {
        let (captions, references): (Vec<String>, Vec<Vec<String>>) =
            (parse(&case["captions"]), parse(&case["references"]));
        let captioned: Vec<Captioned> = captions
            .into_iter()
            .zip(references)
            .map(|(caption, references)| Captioned { caption, references })
            .collect();
        let found = metric::caption::captions(&captioned).unwrap();
        let [one, two, three, four] = found.bleu;
        let figures = [
            ("Bleu_1", one),
            ("Bleu_2", two),
            ("Bleu_3", three),
            ("Bleu_4", four),
            ("ROUGE_L", found.rouge_l),
            ("CIDEr", found.cider),
        ];
        for (name, value) in figures {
            let expected = case["figures"][name].as_f64().unwrap();
            assert!(
                (value - expected).abs() <= 1e-12 * expected.abs().max(1e-3),
                "{}: {name}: {value} {expected}",
                case["name"]
            );
        }
    }
}

#[test]
fn linear_layers_are_trained_as_in_clip_benchmark() {
    use metric::linear_probe::{Labelled, Linear, TrainOptions, train};
    use ndarray::{Array1, Array2};

    let layer = |value: &Value| {
        let (weight, bias): (Vec<Vec<f32>>, Vec<f32>) = (parse(&value[0]), parse(&value[1]));
        let weight = Array2::from_shape_vec((weight.len(), weight[0].len()), weight.concat()).unwrap();
        Linear { weight, bias: Array1::from_vec(bias) }
    };
    for case in cases("linear_probe") {
        let features = features(&case["features"]);
        let shape = (features.dims()[0], features.dims()[1]);
        let classes: Vec<usize> = parse(&case["classes"]);
        let data =
            Labelled { features: Array2::from_shape_vec(shape, features.into_data()).unwrap(), classes };
        let options = TrainOptions {
            learning_rate: parse(&case["learning_rate"]),
            epochs: parse(&case["epochs"]),
            batch_size: parse(&case["batch_size"]),
            seed: 0,
        };
        let orders = vec![(0..shape.0).collect::<Vec<usize>>(); options.epochs];
        let found = train(&data, layer(&case["initial"]), &orders, &options, parse(&case["weight_decay"]));
        let expected = layer(&case["trained"]);
        let differ = (&found.weight - &expected.weight).mapv(f32::abs).fold(0.0, |a: f32, &b| a.max(b));
        assert!(differ < 1e-4, "{}: {differ}", case["name"]);
        assert!((&found.bias - &expected.bias).iter().all(|difference| difference.abs() < 1e-4));
    }
}

#[test]
fn parquet_files_of_the_hub_are_read() {
    use openclip_eval::dataset::{Dataset, Target, Wanted, open};

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/evaluation/noto-v1.parquet");
    let name = format!("parquet:{}", path.display()).parse().unwrap();
    let dataset = open(&name, "test", Wanted::Classes).unwrap();
    assert_eq!(dataset.info().len, Some(6));
    assert_eq!(dataset.info().classes.as_ref().unwrap()[0], "keycap: *");
    let samples: Vec<_> = dataset.samples().unwrap().map(|sample| sample.unwrap()).collect();
    let classes: Vec<&Target> = samples.iter().map(|sample| &sample.target).collect();
    assert_eq!(classes, [0, 1, 2, 3, 4, 5].map(Target::Class).iter().collect::<Vec<_>>());
    let dataset = open(&name, "test", Wanted::Captions).unwrap();
    let captions = |label: &str| Target::Captions(vec![format!("an emoji of {label}"), label.to_owned()]);
    assert_eq!(dataset.samples().unwrap().next().unwrap().unwrap().target, captions("keycap: *"));

    // Classes by name, which the file doesn't list, and several of an image.
    let open_beside = |file: &str| {
        let name = format!("parquet:{}", path.with_file_name(file).display()).parse().unwrap();
        open(&name, "test", Wanted::Classes).unwrap()
    };
    let targets = |dataset: &dyn Dataset| -> Result<Vec<Target>, _> {
        dataset.samples().unwrap().map(|sample| sample.map(|sample| sample.target)).collect()
    };
    let names = open_beside("noto-v1-names.parquet");
    assert_eq!(names.info().classes.as_ref().unwrap().len(), 2);
    assert_eq!(targets(&*names).unwrap(), [1, 0, 1].map(Target::Class));
    let several = open_beside("noto-v1-several.parquet");
    assert_eq!(several.info().classes.as_ref().unwrap().len(), 6);
    if cfg!(feature = "zstd") {
        let row = |classes: &[usize]| Target::Labels((0..6).map(|class| classes.contains(&class)).collect());
        assert_eq!(targets(&*several).unwrap(), [row(&[0, 5]), row(&[]), row(&[2])]);
    } else {
        let error = targets(&*several).unwrap_err().to_string();
        assert!(error.ends_with("build with the cargo feature `zstd`"), "{error}");
    }

    // As a split in a folder, and damaged.
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    let bytes = fs::read(path).unwrap();
    fs::write(data.join("test-00000-of-00002.parquet"), &bytes).unwrap();
    fs::write(data.join("test-00001-of-00002.parquet"), &bytes).unwrap();
    let name = format!("parquet:{}", folder.path().display()).parse().unwrap();
    assert_eq!(open(&name, "test", Wanted::Classes).unwrap().samples().unwrap().count(), 12);
    let error = open(&name, "train", Wanted::Classes).err().unwrap().to_string();
    assert!(error.contains("no train-*.parquet"), "{error}");
    fs::write(data.join("test-00001-of-00002.parquet"), &bytes[..bytes.len() / 2]).unwrap();
    let error = open(&name, "test", Wanted::Classes).err().unwrap().to_string();
    assert!(error.contains("00001-of-00002.parquet: not a readable parquet file"), "{error}");
}
