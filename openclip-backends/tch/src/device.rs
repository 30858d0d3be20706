//! Opening devices.

use std::{error::Error as _, sync::OnceLock};

use libloading::{Library, library_filename};
use openclip_core::{Error, Result, backend::DeviceSpec};
use tch::{Cuda, Device, Kind, Tensor};

use crate::error::LibtorchError;

/// Opens the device.
///
/// # Errors
/// [`Error::Unsupported`] when libtorch was built without the device or the machine hasn't got it.
pub fn open(spec: DeviceSpec) -> Result<Device> {
    match spec {
        DeviceSpec::Cpu => Ok(Device::Cpu),
        DeviceSpec::Cuda(number) => open_cuda(number),
        DeviceSpec::Metal if tch::utils::has_mps() => Ok(Device::Mps),
        DeviceSpec::Metal => Err(unsupported("this libtorch has no Metal; use --device cpu".to_owned())),
    }
}

fn open_cuda(number: usize) -> Result<Device> {
    load_cuda().map_err(|reason| {
        unsupported(format!(
            "libtorch's CUDA part can't be loaded ({reason}); install a libtorch for CUDA with the CUDA libraries that \
             it needs, or use --device cpu"
        ))
    })?;
    let reason = match usize::try_from(Cuda::device_count()).unwrap_or(0) {
        0 => "libtorch finds no NVIDIA GPU or no driver for one; use --device cpu".to_owned(),
        count if number >= count => format!("the machine has {count}, counted from cuda:0"),
        _ => return Ok(Device::Cuda(number)),
    };
    Err(unsupported(format!("device {} is not there: {reason}", DeviceSpec::Cuda(number))))
}

/// Multiplies two numbers of `kind` on the device.
///
/// # Errors
/// [`Error::Unsupported`] with libtorch's reason.
pub fn probe(spec: DeviceSpec, device: Device, kind: Kind) -> Result<()> {
    let run = || {
        let one = Tensor::f_ones([1, 1], (kind, device))?;
        one.f_matmul(&one)?.f_double_value(&[0, 0])
    };
    match run() {
        Ok(_) => Ok(()),
        Err(error) => {
            let reason = LibtorchError::from(error);
            Err(unsupported(format!("device {spec} can't compute in {kind:?}: {reason}")))
        }
    }
}

fn unsupported(message: String) -> Error {
    Error::Unsupported { backend: "tch", message }
}

/// Loads the part of libtorch that knows CUDA. Linkers leave it out of programs, because no symbol of it is called by name,
/// which is just as well: it is large, and most programs run without it. It has to be there before libtorch is asked
/// about CUDA for the first time.
fn load_cuda() -> Result<(), &'static str> {
    static CUDA: OnceLock<Result<Library, String>> = OnceLock::new();
    let loaded = CUDA.get_or_init(|| {
        // SAFETY: loading runs the library's initialisers, which register its kernels with the libtorch that is in the
        // process already. It is never unloaded.
        unsafe { Library::new(library_filename("torch_cuda")) }
            // The error itself only says that loading failed; its source says which library is missing.
            .map_err(|error| error.source().map_or_else(|| error.to_string(), ToString::to_string))
    });
    match loaded {
        Ok(_) => Ok(()),
        Err(reason) => Err(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_not_there_says_so() {
        for spec in [DeviceSpec::Cuda(99), DeviceSpec::Metal] {
            if let Err(error) = open(spec) {
                let text = error.to_string();
                assert!(matches!(error, Error::Unsupported { .. }), "{text}");
                assert!(text.contains("--device cpu") || text.contains("cuda:0"), "{text}");
                assert!(!text.contains("Exception raised"), "{text}");
            }
        }
        assert!(open(DeviceSpec::Cuda(99)).is_err());
    }

    #[test]
    fn the_cpu_computes_in_every_kind() {
        for kind in [Kind::Float, Kind::Half, Kind::BFloat16] {
            probe(DeviceSpec::Cpu, Device::Cpu, kind).unwrap();
        }
        let error = probe(DeviceSpec::Cpu, Device::Cpu, Kind::Bool).unwrap_err().to_string();
        assert!(error.contains("can't compute in Bool"), "{error}");
    }
}
