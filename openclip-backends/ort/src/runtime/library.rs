//! Finding and loading ONNX Runtime, once for the process.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use openclip_core::{Error, Result};
use ort::{
    environment::{Environment, GlobalThreadPoolOptions},
    logging::LogLevel,
};

use super::failed;

/// Names the library to load, and nothing else is tried.
const VARIABLE: &str = "ORT_DYLIB_PATH";
/// The oldest version that has the operator `Attention`.
const OLDEST: &str = "1.23";

/// The process's ONNX Runtime.
#[derive(Clone)]
pub struct Runtime {
    pub environment: Environment,
    /// Threads of the pool that sessions share; `None` stands for all cores, and for a pool that somebody else made.
    pub threads: Option<usize>,
}

static RUNTIME: Mutex<Option<Runtime>> = Mutex::new(None);

/// ONNX Runtime, which the first call loads and gives a pool of `threads` threads.
///
/// # Errors
/// [`Error::Unsupported`] when the library isn't found or isn't a version that does, with what to do.
pub fn runtime(threads: Option<usize>) -> Result<Runtime> {
    let mut runtime = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = &*runtime {
        return Ok(runtime.clone());
    }
    Ok(runtime.insert(load(threads)?).clone())
}

/// Takes the ONNX Runtime of an application that uses one itself, since a process can have only one. Models that are built
/// later run on it. Returns whether it came in time: before the first of them was built.
pub fn adopt(environment: Environment) -> bool {
    let mut runtime = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    let in_time = runtime.is_none();
    runtime.get_or_insert(Runtime { environment, threads: None });
    in_time
}

fn load(threads: Option<usize>) -> Result<Runtime> {
    let candidates = candidates();
    let mut reasons = Vec::new();
    for path in &candidates {
        match ort::init_from(path) {
            Ok(builder) => {
                // Zero stands for all cores.
                let pool = GlobalThreadPoolOptions::default()
                    .with_intra_threads(threads.unwrap_or(0))
                    // Operations run one after the other.
                    .and_then(|pool| pool.with_inter_threads(1))
                    .map_err(failed("ONNX Runtime's threads"))?;
                let environment = builder
                    .with_name("openclip")
                    .with_telemetry(false)
                    .with_global_thread_pool(pool)
                    .build()
                    .map_err(failed("ONNX Runtime"))?;
                // Its warnings are about how it optimises graphs.
                environment.set_log_level(LogLevel::Error);
                return Ok(Runtime { environment, threads });
            }
            Err(error) => reasons.push(error.to_string()),
        }
    }
    Err(Error::Unsupported {
        backend: "ort",
        message: format!(
            "ONNX Runtime can't be loaded: {}. Get version {OLDEST} or later (`pip install onnxruntime` has it in its folder \
             `capi`, and so has https://github.com/microsoft/onnxruntime/releases) and set {VARIABLE} to the path of {}",
            reasons.join("; "),
            file_name()
        ),
    })
}

fn file_name() -> String {
    format!("{}onnxruntime{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX)
}

/// Where the library may be, in the order in which it is looked for.
fn candidates() -> Vec<PathBuf> {
    if let Some(path) = env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        // A path as the shell takes it; the loader would look beside the program first.
        let path = PathBuf::from(path);
        return vec![std::path::absolute(&path).unwrap_or(path)];
    }
    let beside = env::current_exe().ok().and_then(|program| program.parent().map(libraries_in));
    // The system's own search takes bare names.
    let system = [file_name(), format!("{}.1", file_name())].map(PathBuf::from);
    beside.and_then(Result::ok).unwrap_or_default().into_iter().chain(system).collect()
}

/// The libraries in `folder`, the one without a version in its name first, then the latest.
fn libraries_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let stem = format!("{}onnxruntime.", env::consts::DLL_PREFIX);
    let mut versioned = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if name.starts_with(&stem) && name.contains(env::consts::DLL_SUFFIX) && name != file_name() {
            versioned.push(path);
        }
    }
    versioned.sort_by_key(|path| version(path));
    versioned.reverse();
    let plain = Some(folder.join(file_name())).filter(|path| path.exists());
    Ok(plain.into_iter().chain(versioned).collect())
}

/// The numbers in a library's name.
fn version(path: &Path) -> Vec<u32> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.split('.').filter_map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn libraries_beside_the_program_are_ordered_by_version() {
        let folder = tempfile::tempdir().unwrap();
        let names =
            ["libonnxruntime.so.1.9.0", "libonnxruntime.so.1.32.0", "libother.so", "libonnxruntime.txt"];
        for name in names {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let found = |folder: &Path| -> Vec<String> {
            let paths = libraries_in(folder).unwrap();
            paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(found(folder.path()), ["libonnxruntime.so.1.32.0", "libonnxruntime.so.1.9.0"]);
        fs::write(folder.path().join("libonnxruntime.so"), "").unwrap();
        assert_eq!(found(folder.path())[0], "libonnxruntime.so");
    }
}
