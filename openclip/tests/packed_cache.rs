//! Packed weights that are kept between runs of the real binary.

mod support;

use std::{fs, path::Path, process::Command};

use openclip::Precision;
use support::{Sandbox, read_npy};

/// Embeddings of the samples, then of some texts, and what the command said.
fn embed(sandbox: &Sandbox, options: &[&str]) -> ([Vec<Vec<f32>>; 2], String) {
    let mut said = String::new();
    let mut embed = |inputs: &[&str]| {
        let common = ["-o", "out.npy", "--model", "local-dir:model"];
        let run = sandbox.run(&[&["embed"], inputs, &common, options].concat());
        assert_eq!(run.code, 0, "{}", run.err);
        said += &run.err;
        read_npy(&sandbox.path("out.npy"))
    };
    let embeddings = [embed(&["image", "samples"]), embed(&["text", "cat face", "an emoji of a rocket", ""])];
    (embeddings, said)
}

fn files(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.samples();
    sandbox.model("model", |_| {});
    sandbox
}

#[test]
fn embeddings_are_the_same_in_every_precision() {
    let sandbox = sandbox();
    let mut count = 0;
    for precision in Precision::ALL.map(|precision| precision.to_string()) {
        let plain = embed(&sandbox, &["--precision", &precision]).0;
        let options = ["--precision", &precision, "--packed-cache", "packed"];
        for round in ["packing", "keeping"] {
            let (found, said) = embed(&sandbox, &options);
            assert!(found == plain, "{precision}, {round}");
            assert_eq!(said, "", "{precision}, {round}");
        }
        let found = files(&sandbox.path("packed")).len();
        // A file per tower.
        assert_eq!(found, count + 2, "{precision}: {:?}", files(&sandbox.path("packed")));
        count = found;
    }
}

#[test]
fn a_variable_that_is_set_to_nothing_keeps_nothing() {
    let sandbox = sandbox().with("OPENCLIP_PACKED_CACHE", "");
    embed(&sandbox, &[]);
    assert!(!sandbox.path("packed").exists());
}

#[test]
fn damage_is_said_and_repaired() {
    let sandbox = sandbox().with("OPENCLIP_PACKED_CACHE", "packed");
    let plain = embed(&sandbox, &[]).0;
    let kept = files(&sandbox.path("packed"));
    for name in &kept {
        let path = sandbox.path("packed").join(name);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    let (found, said) = embed(&sandbox, &[]);
    assert!(found == plain);
    assert_eq!(said.lines().filter(|line| line.contains("packing the weights again")).count(), 2, "{said}");
    let (found, said) = embed(&sandbox, &[]);
    assert!(found == plain && said.is_empty(), "{said}");
    assert_eq!(files(&sandbox.path("packed")), kept);
}

#[test]
fn a_changed_checkpoint_is_packed_again() {
    let sandbox = sandbox();
    let options = ["--packed-cache", "packed"];
    let first = embed(&sandbox, &options).0;
    let kept = files(&sandbox.path("packed"));
    sandbox.edited_model("model", |tensors| {
        for (name, dims, values) in tensors {
            if dims.len() == 2 && name.ends_with("weight") {
                values.reverse();
            }
        }
    });
    let (changed, said) = embed(&sandbox, &options);
    assert_eq!(said, "");
    assert!(changed == embed(&sandbox, &[]).0);
    assert!(changed[0] != first[0] && changed[1] != first[1]);
    assert_eq!(files(&sandbox.path("packed")), kept);
}

#[test]
fn processes_may_write_at_once() {
    let sandbox = sandbox();
    let texts = |out: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_openclip"));
        command.args([
            "embed",
            "text",
            "cat face",
            "--model",
            "local-dir:model",
            "--packed-cache",
            "packed",
            "-o",
            out,
        ]);
        command.current_dir(sandbox.path("")).spawn().unwrap()
    };
    let processes: Vec<_> = ["a.npy", "b.npy", "c.npy"].map(texts).into();
    for mut process in processes {
        assert!(process.wait().unwrap().success());
    }
    assert!(texts("d.npy").wait().unwrap().success());
    let first = read_npy(&sandbox.path("a.npy"));
    for name in ["b.npy", "c.npy", "d.npy"] {
        assert!(read_npy(&sandbox.path(name)) == first, "{name}");
    }
    assert_eq!(files(&sandbox.path("packed")).len(), 1);
}

#[test]
fn a_place_that_cant_be_written_to_is_a_warning() {
    let sandbox = sandbox();
    let plain = embed(&sandbox, &[]).0;
    sandbox.write("packed", "a file");
    let (found, said) = embed(&sandbox, &["--packed-cache", "packed"]);
    assert!(found == plain);
    assert!(said.contains("packed weights can't be kept"), "{said}");
}
