//! What libtorch says when it fails, in a line or two.

use openclip_core::Error;
use tch::TchError;

/// Lines of a message that are kept at most.
const LINES: usize = 3;

/// A failure inside libtorch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("libtorch: {message}")]
pub struct LibtorchError {
    message: String,
}

impl From<TchError> for LibtorchError {
    fn from(error: TchError) -> Self {
        let text = match error {
            TchError::Torch(text) => text,
            other => other.to_string(),
        };
        Self { message: essence(&text) }
    }
}

/// A C++ exception's text without the stack trace, the list of kernels and the advice for people who write kernels.
fn essence(text: &str) -> String {
    let noise = ["Exception raised from", "frame #", "CUDA kernel errors might be", "Compile with"];
    let lines: Vec<&str> = text
        .lines()
        .map(|line| line.split(". This could be because").next().unwrap_or_default().trim())
        .take_while(|line| !line.is_empty() && !noise.iter().any(|start| line.starts_with(start)))
        .take(LINES)
        .collect();
    match lines.as_slice() {
        [] => "unknown failure".to_owned(),
        lines => lines.join(" "),
    }
}

/// Turns libtorch's failures during `op` into the project's.
pub fn failed(op: &str) -> impl Fn(TchError) -> Error + '_ {
    move |error| Error::backend(op, LibtorchError::from(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_of_a_message_is_kept() {
        for (text, expected) in [
            (
                "mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)\nException raised from meta at x.cpp:204 (most \
                 recent call first):\nframe #0: c10::Error::Error + 0x9d (0x7f in libc10.so)\n",
                "mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)",
            ),
            (
                "Could not run 'aten::empty' with arguments from the 'CUDA' backend. This could be because the operator \
                 doesn't exist for this backend\n\nCPU: registered at x.cpp:1 [kernel]",
                "Could not run 'aten::empty' with arguments from the 'CUDA' backend",
            ),
            (
                "CUDA error: invalid device ordinal\nCUDA kernel errors might be\n",
                "CUDA error: invalid device ordinal",
            ),
            ("one\ntwo\nthree\nfour", "one two three"),
            ("", "unknown failure"),
        ] {
            assert_eq!(essence(text), expected);
        }
    }

    #[test]
    fn real_failures_are_short() {
        let x = tch::Tensor::f_ones([2, 3], (tch::Kind::Float, tch::Device::Cpu)).unwrap();
        let error = failed("matmul")(x.f_matmul(&x).unwrap_err()).to_string();
        assert_eq!(error, "matmul: libtorch: mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)");
    }
}
