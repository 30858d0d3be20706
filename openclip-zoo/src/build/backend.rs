//! The backends that are compiled in, and what a model runs on.

use std::{fmt, path::PathBuf, str::FromStr};

use openclip_core::{Error, Precision, Result, Weights, backend::DeviceSpec};

/// A backend that is compiled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendKind {
    /// Pure Rust.
    #[cfg(feature = "candle")]
    Candle,
    /// libtorch.
    #[cfg(feature = "tch")]
    Tch,
    /// ONNX Runtime.
    #[cfg(feature = "ort")]
    Ort,
}

impl BackendKind {
    /// All backends that there are, compiled in or not, by the names of their cargo features.
    pub const NAMES: [&str; 3] = ["candle", "tch", "ort"];

    /// The backends that are compiled in, the default first.
    pub const ALL: &[Self] = &[
        #[cfg(feature = "candle")]
        Self::Candle,
        #[cfg(feature = "tch")]
        Self::Tch,
        #[cfg(feature = "ort")]
        Self::Ort,
    ];
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match *self {
            #[cfg(feature = "candle")]
            Self::Candle => "candle",
            #[cfg(feature = "tch")]
            Self::Tch => "tch",
            #[cfg(feature = "ort")]
            Self::Ort => "ort",
        })
    }
}

impl FromStr for BackendKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.iter().copied().find(|kind| kind.to_string() == text).ok_or_else(|| {
            let built: Vec<String> = Self::ALL.iter().map(Self::to_string).collect();
            let remedy = match Self::NAMES.contains(&text) {
                true => format!("build with `--features {text}` to add it"),
                false => format!("choose one of {}", Self::NAMES.join(", ")),
            };
            let built = built.join(", ");
            Error::InvalidArgument(format!(
                "backend `{text}` is not in this build, which has {built}; {remedy}"
            ))
        })
    }
}

/// What a model runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendOptions {
    /// The backend.
    pub kind: BackendKind,
    /// The device.
    pub device: DeviceSpec,
    /// The precision.
    pub precision: Precision,
    /// Threads that share the work of one operation; all cores where nothing is said. libtorch has one pool of threads for
    /// the process: the number that was set last holds for it.
    pub threads: Option<usize>,
    /// A folder where the candle backend keeps packed weights between runs, about as many bytes as the weights have in the
    /// precision, so that a model starts in a fraction of the time. Other backends, and checkpoints that aren't files, leave
    /// it alone. It is written to when a tower is built for the first time or its checkpoint has changed, and can be emptied
    /// at any time.
    pub packed_cache: Option<PathBuf>,
}

#[cfg(any(feature = "candle", feature = "tch", feature = "ort"))]
impl Default for BackendOptions {
    fn default() -> Self {
        let [kind, ..] = BackendKind::ALL else { unreachable!() };
        Self {
            kind: *kind,
            device: DeviceSpec::default(),
            precision: Precision::default(),
            threads: None,
            packed_cache: None,
        }
    }
}

impl BackendOptions {
    /// Whether the backend computes in this precision on this device, found out without a model.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with the reason.
    pub fn check(&self) -> Result<()> {
        match self.kind {
            #[cfg(feature = "candle")]
            BackendKind::Candle => self.candle().map(drop),
            #[cfg(feature = "tch")]
            BackendKind::Tch => self.tch().map(drop),
            #[cfg(feature = "ort")]
            BackendKind::Ort => openclip_ort::runtime::check(self.precision, &self.ort()),
        }
    }

    #[cfg(feature = "candle")]
    fn candle(&self) -> Result<openclip_candle::CandleBackend> {
        let backend = openclip_candle::CandleBackend::new(self.device, self.precision)?;
        match self.threads {
            Some(threads) => backend.with_threads(threads),
            None => Ok(backend),
        }
    }

    /// Builds a tower from the weights of `w` on candle, with packed weights from disk where they are kept there.
    #[cfg(feature = "candle")]
    pub(super) fn on_candle<T: Send>(
        &self,
        w: &Weights,
        build: impl FnOnce(&openclip_candle::CandleBackend) -> Result<T> + Send,
    ) -> Result<(openclip_candle::CandleBackend, T)> {
        use openclip_core::backend::Eager;

        let mut backend = self.candle()?;
        if let Some(folder) = &self.packed_cache {
            backend = backend.with_packed_cache(folder, w);
        }
        // On the backend's own threads, so that packing takes no more of them than computing.
        let tower = backend.run(|| build(&backend))?;
        backend.keep_packed();
        Ok((backend, tower))
    }

    #[cfg(feature = "tch")]
    pub(super) fn tch(&self) -> Result<openclip_tch::TchBackend> {
        if let Some(threads) = self.threads {
            openclip_tch::set_threads(threads);
        }
        openclip_tch::TchBackend::new(self.device, self.precision)
    }

    #[cfg(feature = "ort")]
    pub(super) fn ort(&self) -> openclip_ort::runtime::OrtOptions {
        openclip_ort::runtime::OrtOptions { device: self.device, threads: self.threads }
    }
}
