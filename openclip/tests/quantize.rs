//! Models whose weights are stored in 8-bit integers, written and read by the real binary.

mod support;

use std::fs;

use openclip::{
    core::weights::{
        DType, SafetensorsFile, TensorData, WeightSource, open_embedded_checkpoint, save_safetensors,
    },
    zoo::emoji_clip,
};
use serde_json::Value;
use support::{Sandbox, dot, read_npy};

/// The names and tensors of a file.
type Tensors = Vec<(String, TensorData<'static>)>;

/// A sandbox with the bundled model in integers in the folder `small`, and what the command printed.
fn quantized() -> (Sandbox, String) {
    let sandbox = Sandbox::new();
    sandbox.samples();
    let run = sandbox.run(&["quantize", "-o", "small"]);
    assert_eq!(run.code, 0, "{}", run.err);
    (sandbox, run.out)
}

/// Embeddings of the samples, then of some texts.
fn embed(sandbox: &Sandbox, model: &str, precision: &str) -> [Vec<Vec<f32>>; 2] {
    let texts =
        ["an emoji of a rocket", "cat face", "", "zwei Hunde im Schnee 🦊", "a red heart, and then a key"];
    let embed = |inputs: &[&str]| {
        let options = ["-o", "out.npy", "--model", model, "--precision", precision];
        let run = sandbox.run(&[&["embed"], inputs, &options].concat());
        assert_eq!(run.code, 0, "{}", run.err);
        read_npy(&sandbox.path("out.npy"))
    };
    [embed(&["image", "samples"]), embed(&[&["text"], &texts[..]].concat())]
}

/// The smallest cosine of embeddings of the same inputs.
fn cosine(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| dot(a, b)).fold(1.0, f32::min)
}

/// The tensors of the model in `small`.
#[allow(clippy::unwrap_used, reason = "the helper of a test")]
fn tensors(sandbox: &Sandbox) -> Tensors {
    let file = SafetensorsFile::open(sandbox.path("small/model.safetensors")).unwrap();
    let read = |name: String| {
        let data = file.read(&name, &[]).unwrap();
        (name, TensorData { info: data.info, bytes: data.bytes.into_owned().into() })
    };
    file.names().into_iter().map(read).collect()
}

#[test]
fn embeddings_are_near_those_of_the_original() {
    let (sandbox, out) = quantized();
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].ends_with("model.safetensors") && lines[1].ends_with("open_clip_config.json"), "{out}");
    assert!(lines[2].contains("16.0 MB in the source, 31.9 MB in f32, "), "{out}");

    let original = embed(&sandbox, "emoji-clip", "f32");
    for precision in ["f32", "int8", "int8-weights"] {
        let found = embed(&sandbox, "local-dir:small", precision);
        for (kind, found, original) in
            [("images", &found[0], &original[0]), ("texts", &found[1], &original[1])]
        {
            let cosine = cosine(found, original);
            println!("{precision} {kind}: least cosine {cosine}");
            assert!(cosine >= 0.99, "{precision} {kind}: {cosine}");
        }
    }
}

#[test]
fn integers_are_those_of_rounding_at_loading() {
    let (sandbox, _) = quantized();
    // The original, but for its table, which rounding at loading leaves alone.
    let model = sandbox.edited_model("rounded-table", |tensors| {
        let (_, dims, values) =
            tensors.iter_mut().find(|(name, ..)| name == "token_embedding.weight").unwrap();
        for row in values.chunks_mut(dims[1]) {
            let scale = row.iter().fold(0.0_f32, |largest, value| largest.max(value.abs())) / 127.0;
            row.iter_mut().for_each(|value| *value = (*value / scale).round() * scale);
        }
    });
    for precision in ["int8", "int8-weights"] {
        let stored = embed(&sandbox, "local-dir:small", precision);
        for (kind, stored, rounded) in [
            ("images", &stored[0], &embed(&sandbox, "emoji-clip", precision)[0]),
            ("texts", &stored[1], &embed(&sandbox, &model, precision)[1]),
        ] {
            let differences =
                stored.iter().flatten().zip(rounded.iter().flatten()).map(|(a, b)| (a - b).abs());
            let largest = differences.fold(0.0, f32::max);
            println!("{precision} {kind}: largest difference {largest:e}");
            assert!(largest <= 1e-6, "{precision} {kind}: {largest:e}");
        }
    }
}

#[test]
fn the_file_is_a_quarter_and_holds_what_the_model_definition_says() {
    let (sandbox, _) = quantized();
    let original = open_embedded_checkpoint("emoji-clip", emoji_clip::WEIGHTS).unwrap();
    let values: usize =
        original.names().iter().map(|name| original.info(name).unwrap().count().unwrap()).sum();
    let size = fs::metadata(sandbox.path("small/model.safetensors")).unwrap().len() as f64;
    println!("{size} bytes, {} of f32", size / (4 * values) as f64);
    assert!(size <= 0.35 * (4 * values) as f64, "{size}");

    let dtype = |name: &str| {
        let tensors = tensors(&sandbox);
        tensors
            .into_iter()
            .find(|(found, _)| found == name)
            .map(|(_, data)| (data.info.dtype, data.info.dims))
    };
    let cases: [(&str, DType, &[usize]); 9] = [
        ("visual.transformer.resblocks.0.attn.in_proj_weight", DType::I8, &[384, 128]),
        ("visual.transformer.resblocks.4.attn.in_proj_weight", DType::I8, &[384, 128]),
        ("text.transformer.resblocks.2.mlp.c_proj.weight.scale", DType::F32, &[128, 1]),
        ("text.token_embedding.weight", DType::I8, &[49408, 128]),
        ("text.positional_embedding", DType::F16, &[32, 128]),
        ("visual.conv1.weight", DType::F16, &[128, 3, 8, 8]),
        ("visual.proj", DType::F16, &[128, 128]),
        ("visual.ln_post.bias", DType::F32, &[128]),
        ("logit_scale", DType::F32, &[]),
    ];
    for (name, expected, dims) in cases {
        assert_eq!(dtype(name), Some((expected, dims.to_vec())), "{name}");
    }
    let config = fs::read_to_string(sandbox.path("small/open_clip_config.json")).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["preprocess_cfg"]["size"], serde_json::json!([64, 64]));

    // A model that is stored in integers is written again as it is.
    let again = sandbox.run(&["quantize", "-o", "again", "--model", "local-dir:small"]);
    assert_eq!(again.code, 0, "{}", again.err);
    let (first, again) =
        (tensors(&sandbox), SafetensorsFile::open(sandbox.path("again/model.safetensors")).unwrap());
    for (name, data) in first.into_iter().filter(|(_, data)| data.info.dtype == DType::I8) {
        assert_eq!(again.read(&name, &[]).unwrap().bytes, data.bytes, "{name}");
    }
}

#[test]
fn damaged_files_are_refused_by_name() {
    let (sandbox, _) = quantized();
    let name = "visual.transformer.resblocks.1.mlp.c_fc.weight";
    let scale = format!("{name}.scale");
    type Damage = fn(&mut TensorData<'static>);
    let cases: [(&str, Option<Damage>); 3] = [
        ("are missing", None),
        ("scales of [512, 128] are F32 [512, 1] or [1, 128]", Some(|data| data.info.dims = vec![512])),
        (
            "NaN for channel 3",
            Some(|data| {
                let mut values = data.to_f32();
                values[3] = f32::NAN;
                *data = TensorData::from_f32(&data.info.dims.clone(), &values);
            }),
        ),
    ];
    for (expected, damage) in cases {
        let mut damaged = tensors(&sandbox);
        match damage {
            None => damaged.retain(|(name, _)| *name != scale),
            Some(damage) => damage(&mut damaged.iter_mut().find(|(name, _)| *name == scale).unwrap().1),
        }
        sandbox.write("damaged/open_clip_config.json", emoji_clip::CONFIG);
        save_safetensors(sandbox.path("damaged/model.safetensors"), damaged, None).unwrap();
        let run = sandbox.run(&["embed", "image", "samples/key.png", "--model", "local-dir:damaged"]);
        run.failed(1, expected);
        for part in ["damaged/model.safetensors", name] {
            assert!(run.err.contains(part), "{}", run.err);
        }
    }
}

#[test]
fn what_cannot_be_quantised_says_why() {
    let (sandbox, _) = quantized();
    sandbox
        .run(&["quantize", "-o", "small"])
        .failed(1, "small/model.safetensors: the folder has weights already");
    sandbox.run(&["quantize"]).failed(2, "--output");
    sandbox.write("onnx/open_clip_config.json", emoji_clip::CONFIG);
    sandbox.write("onnx/image.onnx", "");
    sandbox.run(&["quantize", "-o", "out", "--model", "local-dir:onnx"]).failed(1, "is an ONNX model");
    let model = sandbox.edited_model("nan", |tensors| {
        let name = "transformer.resblocks.0.mlp.c_fc.weight";
        tensors.iter_mut().find(|(found, ..)| found == name).unwrap().2[7] = f32::NAN;
    });
    let run = sandbox.run(&["quantize", "-o", "out", "--model", &model]);
    run.failed(1, "`transformer.resblocks.0.mlp.c_fc.weight`: it has values that are not finite");
    assert!(!sandbox.path("out").exists());
    let help = sandbox.run(&["quantize", "--help"]);
    assert!(help.code == 0 && help.out.contains("openclip quantize -o"), "{}", help.out);
}
