//! How a command ended, as an exit code.

use std::process::ExitCode;

use crate::coca::InvalidOption;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is done.
    Done,
    /// Nothing useful was done.
    Failed,
    /// The command line makes no sense.
    Usage,
    /// Some inputs failed and the rest are done.
    SomeFailed,
}

/// A command line that makes no sense, found after parsing.
#[derive(Debug)]
pub struct UsageError(pub String);

impl UsageError {
    /// An option of generation, by its name on the command line.
    pub fn of_option(error: InvalidOption) -> Self {
        Self(format!("--{} {}", error.option.replace('_', "-"), error.message.replace('_', "-")))
    }
}

impl std::fmt::Display for UsageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

impl Outcome {
    /// The outcome when `failed` of `total` inputs failed.
    pub fn of_inputs(failed: usize, total: usize) -> Self {
        match failed {
            0 => Self::Done,
            _ if failed == total => Self::Failed,
            _ => Self::SomeFailed,
        }
    }

    /// Reports `error` on one line of stderr.
    pub fn of_error(error: anyhow::Error) -> Self {
        // A reader that has seen enough, such as `head`, is no failure of ours.
        let closed = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
        if closed.into_iter().any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe) {
            return Self::Done;
        }
        eprintln!("error: {error:#}");
        if error.is::<UsageError>() { Self::Usage } else { Self::Failed }
    }

    /// The process's exit code.
    pub fn exit_code(self) -> ExitCode {
        ExitCode::from(match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::SomeFailed => 3,
        })
    }
}
