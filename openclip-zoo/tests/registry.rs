//! The bundled registry: every record reads, it is what the reference has, and names and tags resolve.

#![allow(clippy::panic, clippy::unwrap_used, reason = "the helpers of a test")]

#[path = "support/hub_server.rs"]
mod hub_server;

use std::fs;
use std::path::Path;

use hub_server::HubServer;
use openclip_core::ModelConfig;
use openclip_zoo::build::{self, Families};
use openclip_zoo::hub::{Hub, HubConfig};
use openclip_zoo::{
    Error, Origin, Profile, Registry, ResolveWarning, ResolvedModel, Resolver, TokenizerSource,
    WeightsLocation, clean_tag,
};

/// The reference's `list_models()`, in its order, with the number of tags of each.
const REFERENCE: &str = include_str!("data/reference.txt");

#[test]
fn architectures_and_tags_are_the_references() {
    let registry = Registry::bundled();
    let found: Vec<_> = registry
        .architectures()
        .unwrap()
        .into_iter()
        .filter(|record| record.family != "emoji-clip")
        .map(|record| format!("{} {}", record.name, record.pretrained.len()))
        .collect();
    let expected: Vec<_> = REFERENCE.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(found, expected);
}

#[test]
fn every_record_is_whole() {
    let registry = Registry::bundled();
    let mut failures = Vec::new();
    for architecture in registry.architectures().unwrap() {
        let mut check = |what: &str, holds: bool| {
            if !holds {
                failures.push(format!("{}: {what}", architecture.name));
            }
        };
        check("is found by its name", registry.architecture(&architecture.name).unwrap() == architecture);
        let adds_up = |p: &Profile| (p.image_mparams + p.text_mparams - p.mparams).abs() < 0.02;
        let whole = architecture.config.multimodal_cfg.is_none();
        check("has towers that add up", !whole || architecture.profile.as_ref().is_none_or(adds_up));
        let native = ["ViT", "RN"].contains(&architecture.family.trim_end_matches("-quickgelu"));
        check(
            "names its family's activation",
            !native || architecture.config.quick_gelu == architecture.name.ends_with("-quickgelu"),
        );
        for record in &architecture.pretrained {
            let tag = &record.tag;
            check(&format!("{tag}: is clean"), clean_tag(tag) == *tag);
            check(
                &format!("{tag}: has a source"),
                record.bundled.is_some() || record.repository.is_some() || record.url.is_some(),
            );
            check(&format!("{tag}: has valid names"), record.hub_files().is_ok());
            check(
                &format!("{tag}: has a file for its digest"),
                record.sha256.is_none() || record.file.is_some(),
            );
            let tokenizer = architecture.config.text_cfg.get("hf_tokenizer_name");
            let tokenizer = tokenizer.and_then(|name| name.as_str()).unwrap_or("clip");
            check(&format!("{tag}: has the architecture's tokenizer"), record.tokenizer == tokenizer);
            let (interpolation, resize) = (&record.preprocess.interpolation, &record.preprocess.resize_mode);
            check(
                &format!("{tag}: has an interpolation"),
                ["bicubic", "bilinear"].contains(&interpolation.as_str()),
            );
            check(&format!("{tag}: has a resize mode"), ["shortest", "squash"].contains(&resize.as_str()));
            check(
                &format!("{tag}: has a plausible accuracy"),
                record.imagenet_zero_shot.is_none_or(|a| (0.005..0.9).contains(&a)),
            );
        }
        let mut tags: Vec<_> = architecture.tags().collect();
        tags.sort_unstable();
        tags.dedup();
        check("has each tag once", tags.len() == architecture.pretrained.len());
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn models_are_as_large_as_published() {
    let mut failures = Vec::new();
    for architecture in Registry::bundled().architectures().unwrap() {
        let counted = build::profile(&Families::default(), &architecture.config);
        let counted = counted.unwrap_or_else(|error| panic!("{}: {error}", architecture.name));
        let Some(published) = &architecture.profile else { continue };
        // Published with all queries of the ResNets' attention pooling, of which one is computed, and without the MLPs of
        // relative positions, whose outputs don't depend on the image.
        let image_differs = architecture.family.starts_with("RN") || architecture.name.contains("relpos");
        // Published for texts of another length than the context's.
        let text_differs = architecture.config.text_cfg.get("hf_model_name").is_some();
        let pairs = [
            ("parameters of the image tower", Some(published.image_mparams), Some(counted.image_mparams)),
            ("parameters of the text tower", Some(published.text_mparams), Some(counted.text_mparams)),
            (
                "operations of the image tower",
                published.image_gflops.filter(|_| !image_differs),
                counted.image_gflops,
            ),
            (
                "operations of the text tower",
                published.text_gflops.filter(|_| !text_differs),
                counted.text_gflops,
            ),
        ];
        for (what, published, counted) in pairs {
            let (Some(published), Some(counted)) = (published, counted) else { continue };
            if (counted / published - 1.0).abs() > 0.01 {
                failures.push(format!("{}: {what}: {counted:.2}, published {published}", architecture.name));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn published_facts_are_in_the_records() {
    let registry = Registry::bundled();
    // The rows of the reference's table of results, in percent.
    for (name, tag, percent) in [
        ("convnext_base_w", "laion2b_s13b_b82k_augreg", 71.5),
        ("convnext_large_d_320", "laion2b_s29b_b131k_ft_soup", 76.9),
        ("convnext_xxlarge", "laion2b_s34b_b82k_augreg_soup", 79.5),
        ("ViT-SO400M-14-SigLIP", "webli", 82.0),
        ("ViT-L-16-SigLIP2-256", "webli", 82.5),
        ("ViT-SO400M-14-SigLIP-384", "webli", 83.1),
        ("PE-Core-L-14-336", "meta", 83.5),
        ("ViT-SO400M-16-SigLIP2-384", "webli", 84.1),
        ("ViT-gopt-16-SigLIP2-384", "webli", 85.0),
        ("PE-Core-bigG-14-448", "meta", 85.4),
        ("ViT-B-32-256", "datacomp_s34b_b86k", 72.8),
        ("ViT-B-16", "datacomp_xl_s13b_b90k", 73.5),
        ("ViT-L-14", "laion2b_s32b_b82k", 75.3),
        ("ViT-H-14", "laion2b_s32b_b79k", 78.0),
        ("ViT-L-14", "datacomp_xl_s13b_b90k", 79.2),
        ("ViT-bigG-14", "laion2b_s39b_b160k", 80.1),
        ("ViT-L-14-quickgelu", "openai", 75.5),
        ("ViT-L-14", "dfn2b_s39b", 82.2),
        ("ViT-H-14-quickgelu", "dfn5b", 83.4),
        ("ViT-H-14-378-quickgelu", "dfn5b", 84.4),
    ] {
        let (_, record) = registry.pretrained(name, tag).unwrap();
        let published = record.imagenet_zero_shot.unwrap() * 100.0;
        assert!((published - percent).abs() < 0.051, "{name} {tag}: {published}");
    }
    let (_, openai) = registry.pretrained("ViT-B-32", "openai").unwrap();
    let url = openai.url.as_ref().unwrap();
    let digest = url.sha256.as_ref().unwrap().as_str();
    assert_eq!(digest.len(), 64);
    assert!(url.address.contains(digest));
    let (_, release) = registry.pretrained("ViT-B-32", "laion2b_e16").unwrap();
    assert_eq!(release.url.as_ref().unwrap().sha256.as_ref().unwrap().as_str(), "af8dbd0c");
    let (_, normalised) = registry.pretrained("ViT-L-14", "laion2b_s32b_b82k").unwrap();
    assert_eq!(normalised.preprocess.mean, [0.5; 3]);
    let (_, squashed) = registry.pretrained("ViT-H-14-378-quickgelu", "dfn5b").unwrap();
    assert_eq!(squashed.preprocess.resize_mode, "squash");
}

#[test]
fn names_and_tags_resolve_as_in_the_reference() {
    let registry = Registry::bundled();
    assert_eq!(registry.architecture("ViT-B/32").unwrap().name, "ViT-B-32");
    for tag in ["laion2b_s34b_b79k", "LAION2B-s34B-b79K", "laion2b-s34b-b79k"] {
        assert_eq!(registry.pretrained("ViT-B/32", tag).unwrap().1.tag, "laion2b_s34b_b79k");
    }
    for (wrong, right) in [
        ("vitb32", "ViT-B-32"),
        ("ViT-B-32-quick-gelu", "ViT-B-32-quickgelu"),
        ("vit-l-14", "ViT-L-14"),
        ("ViT-L-14@336", "ViT-L-14-336"),
        ("ViT-BigG/14", "ViT-bigG-14"),
    ] {
        match registry.architecture(wrong) {
            Err(Error::UnknownArchitecture { nearest, .. }) => {
                assert_eq!(nearest[0], right, "{wrong}: {nearest:?}")
            }
            other => panic!("{wrong}: {other:?}"),
        }
    }
    let message = registry.pretrained("ViT-H-14", "openai").unwrap_err().to_string();
    for tag in ["laion2b_s32b_b79k", "metaclip_fullcc", "metaclip_altogether", "dfn5b"] {
        assert!(message.contains(tag), "{message}");
    }
    assert!(registry.pretrained("ViT-e-14", "openai").unwrap_err().to_string().contains("no tags"));
}

fn config(embed_dim: usize) -> ModelConfig {
    let json =
        format!(r#"{{"embed_dim": {embed_dim}, "vision_cfg": {{"image_size": 32}}, "text_cfg": {{}}}}"#);
    serde_json::from_str(&json).unwrap()
}

#[test]
fn architectures_can_be_added() {
    let mut registry = Registry::bundled();
    registry.add_architecture("mine", config(8)).unwrap();
    registry.add_architecture("mine", config(16)).unwrap();
    registry.add_architecture("ViT-B-32", config(24)).unwrap();
    assert_eq!(registry.architecture("mine").unwrap().config.embed_dim, 16);
    assert_eq!(registry.architecture("ViT-B-32").unwrap().config.embed_dim, 24);
    let names: Vec<_> = registry.architectures().unwrap().iter().map(|record| record.name.clone()).collect();
    assert_eq!(names.iter().filter(|name| *name == "ViT-B-32").count(), 1);
    assert_eq!(names.iter().filter(|name| *name == "mine").count(), 1);
    for name in ["", "a/b", "hf-hub:x", "a\\b", "a\nb"] {
        assert!(registry.add_architecture(name, config(8)).is_err(), "{name:?}");
    }
    assert!(Registry::empty().architecture("ViT-B-32").is_err());
}

#[test]
fn a_folder_of_configurations_is_added_by_file_name() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("one.json", r#"{"embed_dim": 8, "vision_cfg": {}, "text_cfg": {}}"#);
    write("two.json", r#"{"model_cfg": {"embed_dim": 9, "vision_cfg": {}, "text_cfg": {}}}"#);
    write("vocabulary.json", r#"{"a": 1}"#);
    write("notes.txt", "not JSON");
    let mut registry = Registry::empty();
    assert_eq!(registry.add_from_path(folder.path()).unwrap(), ["one", "two"]);
    assert_eq!(registry.architecture("two").unwrap().config.embed_dim, 9);
    let alone = registry.add_from_path(&folder.path().join("vocabulary.json")).unwrap_err();
    assert!(matches!(alone, Error::NotAModel { .. }), "{alone}");
    write("three.json", r#"{"embed_dim": 8, "vision_cfg": {}, "text_cfg": {}, "unknown": 1}"#);
    let unknown = registry.add_from_path(folder.path()).unwrap_err().to_string();
    assert!(unknown.contains("three.json") && unknown.contains("unknown"), "{unknown}");
    assert!(registry.add_from_path(Path::new("/nowhere")).is_err());
}

struct Zoo {
    server: HubServer,
    folder: tempfile::TempDir,
    registry: Registry,
}

impl Zoo {
    fn new() -> Self {
        Self {
            server: HubServer::start(),
            folder: tempfile::tempdir().unwrap(),
            registry: Registry::bundled(),
        }
    }

    fn resolve(
        &self,
        offline: bool,
        model: &str,
        pretrained: Option<&str>,
    ) -> openclip_zoo::Result<ResolvedModel> {
        let mut config = HubConfig::new(self.folder.path());
        config.endpoint = self.server.endpoint();
        config.offline = offline;
        Resolver::new(&self.registry, &Hub::new(config)).resolve_text(model, pretrained)
    }
}

fn file_of(model: &ResolvedModel) -> Vec<u8> {
    match &model.weights {
        WeightsLocation::File(path) => fs::read(path).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_tag_brings_everything_that_goes_with_its_weights() {
    let zoo = Zoo::new();
    let repository = "laion/CLIP-ViT-L-14-laion2B-s32B-b82K";
    zoo.server.add(repository, "open_clip_pytorch_model.bin", b"pickled", true);
    let model = zoo.resolve(false, "ViT-L/14", Some("LAION2B-s32b-b82k")).unwrap();
    assert_eq!(file_of(&model), b"pickled");
    assert_eq!(model.name, "ViT-L-14");
    let (architecture, tag) = ("ViT-L-14".to_owned(), "laion2b_s32b_b82k".to_owned());
    assert_eq!(model.origin, Origin::Pretrained { architecture, tag });
    assert_eq!(model.config.model_cfg.embed_dim, 768);
    let preprocess = serde_json::Value::Object(model.config.preprocess_cfg.clone().unwrap());
    assert_eq!(
        preprocess,
        serde_json::json!({
            "size": [224, 224], "mode": "RGB", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5],
            "interpolation": "bicubic", "resize_mode": "shortest", "fill_color": 0,
        })
    );
    assert_eq!((model.tokenizer.source, model.tokenizer.context_length), (TokenizerSource::Clip, 77));
    assert_eq!(model.warnings, []);
    zoo.resolve(true, "ViT-L-14", Some("laion2b_s32b_b82k")).unwrap();

    // The safe form is taken where there is one.
    let zoo = Zoo::new();
    zoo.server.add(repository, "open_clip_pytorch_model.bin", b"pickled", true);
    zoo.server.add(repository, "open_clip_model.safetensors", b"safe", true);
    assert_eq!(file_of(&zoo.resolve(false, "ViT-L-14", Some("laion2b_s32b_b82k")).unwrap()), b"safe");
}

#[test]
fn offline_says_what_to_run() {
    let zoo = Zoo::new();
    let message = zoo.resolve(true, "ViT-B-32", Some("laion2b_s34b_b79k")).unwrap_err().to_string();
    assert!(
        message.ends_with("run `openclip pull --model ViT-B-32 --pretrained laion2b_s34b_b79k`"),
        "{message}"
    );
    let message = zoo.resolve(true, "hf-hub:org/name@v1", None).unwrap_err().to_string();
    assert!(message.ends_with("run `openclip pull --model hf-hub:org/name@v1`"), "{message}");
    assert_eq!(message.lines().count(), 1);
    assert_eq!(zoo.server.take_requests(), []);
}

#[test]
fn the_wrong_activation_is_a_warning() {
    let zoo = Zoo::new();
    zoo.server.add("timm/vit_base_patch32_clip_224.openai", "open_clip_model.safetensors", b"x", true);
    let model = zoo.resolve(false, "ViT-B-32", Some("openai")).unwrap();
    assert!(!model.config.model_cfg.quick_gelu, "the architecture's activation stays, as in the reference");
    let [warning @ ResolveWarning::QuickGelu { trained_with: true, .. }] = model.warnings.as_slice() else {
        panic!("{:?}", model.warnings)
    };
    assert!(warning.to_string().contains("use `ViT-B-32-quickgelu`"), "{warning}");
    let model = zoo.resolve(false, "ViT-B-32-quickgelu", Some("openai")).unwrap();
    assert!(model.config.model_cfg.quick_gelu);
    assert_eq!(model.warnings, []);
}

#[test]
fn a_repository_of_the_hub_is_a_model() {
    let zoo = Zoo::new();
    let config = r#"{"model_cfg": {"embed_dim": 8, "vision_cfg": {"image_size": [32, 48]}, "text_cfg": {"context_length": 16,
        "hf_tokenizer_name": "org/tokenizer", "tokenizer_kwargs": {"strip_sep_token": true}}},
        "preprocess_cfg": {"resize_mode": "squash"}}"#;
    zoo.server.add("org/name", "open_clip_config.json", config.as_bytes(), false);
    let message = zoo.resolve(false, "hf-hub:org/name", None).unwrap_err().to_string();
    for part in ["open_clip_model.safetensors", "open_clip_pytorch_model.bin", "org/name"] {
        assert!(message.contains(part), "{message}");
    }
    zoo.server.add("org/name", "open_clip_model.safetensors", b"weights", true);
    let model = zoo.resolve(false, "hf-hub:org/name", Some("ignored")).unwrap();
    assert_eq!(file_of(&model), b"weights");
    assert_eq!(model.config.model_cfg.embed_dim, 8);
    let preprocess = model.config.preprocess_cfg.as_ref().unwrap();
    assert_eq!(preprocess["size"], serde_json::json!([32, 48]));
    assert_eq!(preprocess["resize_mode"], "squash");
    let TokenizerSource::Hub(repositories) = &model.tokenizer.source else { panic!("{:?}", model.tokenizer) };
    assert_eq!(repositories.last().map(ToString::to_string).as_deref(), Some("org/tokenizer"));
    assert_eq!(model.tokenizer.options["strip_sep_token"], true);
    assert!(matches!(model.warnings.as_slice(), [ResolveWarning::PretrainedIgnored { .. }]));
    assert_eq!(zoo.resolve(true, "hf-hub:org/name", None).unwrap().weights, model.weights);

    zoo.server.add("org/broken", "open_clip_config.json", b"{\"model_cfg\": {}}", false);
    let message = zoo.resolve(false, "hf-hub:org/broken", None).unwrap_err().to_string();
    assert!(message.contains("open_clip_config.json") && message.contains("embed_dim"), "{message}");
}

#[test]
fn a_file_goes_with_an_architectures_name() {
    let zoo = Zoo::new();
    let file = zoo.folder.path().join("weights.pt");
    fs::write(&file, "x").unwrap();
    let name = file.to_str().unwrap();
    let model = zoo.resolve(true, "ViT-B-32", Some(name)).unwrap();
    assert_eq!(model.weights, WeightsLocation::File(file.clone()));
    assert_eq!(model.config.preprocess_cfg.unwrap()["mean"][0], 0.48145466);
    // Tags that all want the same preprocessing speak for a file of that architecture.
    let model = zoo.resolve(true, "ViT-H-14-378-quickgelu", Some(name)).unwrap();
    assert_eq!(model.config.preprocess_cfg.unwrap()["resize_mode"], "squash");

    for (model, pretrained, expected) in [
        ("ViT-B-32", Some("no/such/file.pt"), "no pretrained tag `no/such/file.pt`, and there is no file"),
        ("ViT-B-32", None, "its tags are `openai`"),
        ("ViT-B-32", Some(""), "give a pretrained tag or a checkpoint file"),
        ("ViT-e-14", None, "has no tags"),
        (name, None, "there is no open_clip_config.json or config.json of transformers beside the file"),
        (zoo.folder.path().to_str().unwrap(), None, "a folder is not an architecture's name"),
        ("ViT-B-33", None, "did you mean `ViT-B-3"),
    ] {
        let message = zoo.resolve(true, model, pretrained).unwrap_err().to_string();
        assert!(message.contains(expected), "{model} {pretrained:?}: {message}");
    }
}

#[cfg(feature = "emoji-clip")]
#[test]
fn the_bundled_model_needs_nothing() {
    let zoo = Zoo::new();
    for pretrained in [None, Some("emoji")] {
        let model = zoo.resolve(true, "emoji-clip", pretrained).unwrap();
        let WeightsLocation::Bundled { name, bytes } = &model.weights else { panic!("{:?}", model.weights) };
        assert_eq!((name.as_str(), bytes.len()), ("emoji-clip", 15_974_076));
        assert_eq!(model.tokenizer.context_length, 32);
        assert_eq!(model.config.preprocess_cfg.unwrap()["size"], serde_json::json!([64, 64]));
    }
    assert_eq!(fs::read_dir(zoo.folder.path()).unwrap().count(), 0, "and writes nothing");
}
