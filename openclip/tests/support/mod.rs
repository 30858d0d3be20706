//! Running the real binary, and inputs for it.

#![allow(dead_code, reason = "every test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "the helpers of a test")]

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use openclip::{core::weights::save_safetensors, zoo::emoji_clip};
use serde_json::Value;
use tempfile::TempDir;

/// What the command printed, and how it ended.
pub struct Run {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Run {
    /// Standard output as JSON lines.
    pub fn json(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Asserts that the command ended with `code` and said something of `part` in one line, without a panic.
    #[track_caller]
    pub fn failed(&self, code: i32, part: &str) {
        assert_eq!(self.code, code, "stderr: {}", self.err);
        assert!(self.err.contains(part), "`{part}` is not in: {}", self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
    }
}

/// A folder for inputs and outputs, and an empty hub cache in it.
pub struct Sandbox {
    folder: TempDir,
    variables: Vec<(String, String)>,
}

impl Sandbox {
    /// An empty one, offline.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("cache").display().to_string();
        let variables = vec![
            ("HF_HUB_CACHE".to_owned(), cache),
            ("HF_HUB_OFFLINE".to_owned(), "1".to_owned()),
            ("HF_TOKEN".to_owned(), String::new()),
            ("XDG_CACHE_HOME".to_owned(), folder.path().join("user-cache").display().to_string()),
        ];
        Self { folder, variables }
    }

    /// With another value of an environment variable.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file into the folder.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Writes the bundled sample images into the subfolder `samples`.
    pub fn samples(&self) -> PathBuf {
        for sample in &emoji_clip::SAMPLE_IMAGES {
            self.write(&format!("samples/{}", sample.file), sample.png);
        }
        self.path("samples")
    }

    /// A model folder of the bundled model, its weights changed by `change`.
    pub fn model(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut bytes = emoji_clip::WEIGHTS.to_vec();
        change(&mut bytes);
        self.write(&format!("{name}/open_clip_config.json"), emoji_clip::CONFIG);
        self.write(&format!("{name}/open_clip_model.safetensors"), bytes);
        format!("local-dir:{}", self.path(name).display())
    }

    /// A model folder of the bundled model whose tensors `edit` has changed: name, dimensions, values.
    pub fn edited_model(
        &self,
        name: &str,
        edit: impl Fn(&mut Vec<(String, Vec<usize>, Vec<f32>)>),
    ) -> String {
        use openclip::core::weights::{TensorData, open_embedded_checkpoint};
        let source = open_embedded_checkpoint("emoji-clip", emoji_clip::WEIGHTS).unwrap();
        let mut tensors: Vec<_> = source
            .names()
            .into_iter()
            .map(|name| {
                let dims = source.info(&name).unwrap().dims;
                let values = source.read(&name, &dims).unwrap().to_f32();
                (name, dims, values)
            })
            .collect();
        edit(&mut tensors);
        self.write(&format!("{name}/open_clip_config.json"), emoji_clip::CONFIG);
        let path = self.path(name).join("open_clip_model.safetensors");
        let tensors =
            tensors.iter().map(|(name, dims, values)| (name.clone(), TensorData::from_f32(dims, values)));
        save_safetensors(&path, tensors, None).unwrap();
        format!("local-dir:{}", self.path(name).display())
    }

    /// Runs the command.
    pub fn run<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Run {
        self.run_with_input(arguments, "")
    }

    /// Runs the command with `input` on its standard input.
    pub fn run_with_input<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S], input: &str) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_openclip"));
        command.args(arguments).envs(self.variables.clone()).current_dir(self.folder.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A command that takes no input may have ended already.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Run { code: status.code().unwrap(), out: text(stdout), err: text(stderr) }
    }
}

/// A NumPy file `[N, D]` in f32 as rows.
pub fn read_npy(path: &Path) -> Vec<Vec<f32>> {
    let bytes = fs::read(path).unwrap();
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..start]).unwrap();
    assert!(header.contains("'descr': '<f4', 'fortran_order': False"), "{header}");
    let shape = header.split("'shape': (").nth(1).unwrap().split(')').next().unwrap();
    let shape: Vec<usize> = shape.split(", ").map(|size| size.parse().unwrap()).collect();
    let values: Vec<f32> =
        bytes[start..].as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    assert_eq!(values.len(), shape[0] * shape[1]);
    values.chunks(shape[1]).map(<[f32]>::to_vec).collect()
}

/// The project's own files for these tests.
pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// The labels of the bundled sample images.
pub fn sample_labels() -> String {
    emoji_clip::SAMPLE_IMAGES.map(|sample| sample.label).join(", ")
}

/// The dot product.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Recall in percent of the bundled model on 203 emoji of a font that it hasn't seen, run with `options`: direction, `k`,
/// and how many are among the first `k`.
pub fn noto_recall(options: &[&str]) -> Vec<(&'static str, usize, f64)> {
    let sandbox = Sandbox::new();
    let prompts: String = fs::read_to_string(data("noto-v1/labels.txt"))
        .unwrap()
        .lines()
        .map(|label| format!("an emoji of {label}\n"))
        .collect();
    let prompts = sandbox.write("prompts.txt", prompts);
    let images = data("noto-v1");
    let embed = |arguments: &[&str], out: &str| {
        let run = sandbox.run(&[&["embed"], arguments, &["-o", out], options].concat());
        assert_eq!(run.code, 0, "{}", run.err);
        read_npy(&sandbox.path(out))
    };
    let images = embed(&["image", images.to_str().unwrap()], "images.npy");
    let texts = embed(&["text", "--input", prompts.to_str().unwrap()], "texts.npy");
    assert_eq!((images.len(), texts.len()), (203, 203));
    let mut recalls = Vec::new();
    for (direction, queries, candidates) in
        [("image_to_text_recall", &images, &texts), ("text_to_image_recall", &texts, &images)]
    {
        let ranks: Vec<usize> = queries
            .iter()
            .enumerate()
            .map(|(index, query)| {
                let scores: Vec<f32> = candidates.iter().map(|candidate| dot(query, candidate)).collect();
                scores.iter().filter(|&&score| score >= scores[index]).count()
            })
            .collect();
        for k in [1, 5, 10] {
            let hits = ranks.iter().filter(|&&rank| rank <= k).count();
            recalls.push((direction, k, 100.0 * hits as f64 / ranks.len() as f64));
        }
    }
    recalls
}
