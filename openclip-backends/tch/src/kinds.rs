//! Element types: those that values are kept in, and those that products are computed in.

use openclip_core::{Error, Precision, Result};
use tch::{Device, Kind};

/// Element types of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds {
    /// Of weights and of every value between two operations.
    pub storage: Kind,
    /// Of matrix products, convolutions and attention. A CPU without instructions for the storage's type computes them
    /// in `f32`, on values and weights widened for the length of the operation: that is several times faster than
    /// libtorch's loops for such CPUs, and at least as exact.
    pub product: Kind,
}

impl Kinds {
    /// Those of `precision` on `device`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for integers.
    pub fn new(precision: Precision, device: Device) -> Result<Self> {
        let (storage, native) = match precision {
            Precision::F32 => (Kind::Float, true),
            Precision::F16 => (Kind::Half, cpu_multiplies_f16()),
            Precision::Bf16 => (Kind::BFloat16, cpu_multiplies_bf16()),
            Precision::Int8 | Precision::Int8Weights => {
                let message = format!(
                    "precision {precision} is not available: libtorch quantises whole models with tools of its own, not \
                     single layers; use --precision bf16, or --backend candle for {precision}"
                );
                return Err(Error::Unsupported { backend: "tch", message });
            }
        };
        let product = if native || device != Device::Cpu { storage } else { Kind::Float };
        Ok(Self { storage, product })
    }
}

/// Whether this CPU has instructions for `bf16`, which libtorch uses through oneDNN.
#[cfg(target_arch = "x86_64")]
fn cpu_multiplies_bf16() -> bool {
    is_x86_feature_detected!("avx512bf16")
}

/// Whether this CPU has instructions for `f16`, which libtorch uses through oneDNN.
#[cfg(target_arch = "x86_64")]
fn cpu_multiplies_f16() -> bool {
    is_x86_feature_detected!("avx512fp16")
}

/// Whether this CPU has instructions for `bf16`, which libtorch uses through oneDNN.
#[cfg(all(target_arch = "aarch64", target_os = "linux"))]
fn cpu_multiplies_bf16() -> bool {
    std::arch::is_aarch64_feature_detected!("bf16")
}

/// Other CPUs have no `bf16` products in libtorch.
#[cfg(not(any(target_arch = "x86_64", all(target_arch = "aarch64", target_os = "linux"))))]
fn cpu_multiplies_bf16() -> bool {
    false
}

/// Arm's `f16` instructions accumulate in `f16`, which is not what the precision promises.
#[cfg(not(target_arch = "x86_64"))]
fn cpu_multiplies_f16() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cpus_widen() {
        for (precision, kind) in
            [(Precision::F32, Kind::Float), (Precision::F16, Kind::Half), (Precision::Bf16, Kind::BFloat16)]
        {
            assert_eq!(
                Kinds::new(precision, Device::Cuda(0)).unwrap(),
                Kinds { storage: kind, product: kind }
            );
            let cpu = Kinds::new(precision, Device::Cpu).unwrap();
            assert_eq!(cpu.storage, kind);
            assert!(cpu.product == kind || cpu.product == Kind::Float);
        }
    }
}
