//! Opening devices.

use candle_core::Device;
use openclip_core::{Error, Result, backend::DeviceSpec};

/// Opens the device.
///
/// # Errors
/// [`Error::Unsupported`] when this build has no kernels for the device, or the machine hasn't got it.
pub fn open(spec: DeviceSpec) -> Result<Device> {
    let (feature, built, device) = match spec {
        DeviceSpec::Cpu => return Ok(Device::Cpu),
        DeviceSpec::Cuda(number) => {
            ("cuda", candle_core::utils::cuda_is_available(), Device::new_cuda(number))
        }
        DeviceSpec::Metal => ("metal", candle_core::utils::metal_is_available(), Device::new_metal(0)),
    };
    device.map_err(|error| {
        let reason = match built {
            true => format!("device {spec} can't be opened: {error}"),
            false => format!(
                "device {spec} needs a build with the cargo feature `{feature}`; \
                 use --device cpu, or build with `--features {feature}`"
            ),
        };
        Error::Unsupported { backend: "candle", message: reason }
    })
}

#[cfg(all(test, not(feature = "cuda")))]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_was_not_built_in_says_what_to_do() {
        let error = open(DeviceSpec::Cuda(0)).unwrap_err().to_string();
        assert!(error.contains("--features cuda"), "{error}");
    }
}
