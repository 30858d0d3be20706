//! The machine that numbers were measured on, as far as it tells.

use std::{fmt, fs, thread};

use super::peak;

/// What numbers depend on.
#[derive(Clone, Debug)]
pub struct Machine {
    processor: Option<String>,
    cores: usize,
    load: Option<String>,
    bf16: bool,
    peak: Option<f64>,
}

impl Machine {
    /// Looks around.
    pub fn look() -> Self {
        Self { processor: processor(), cores: cores(), load: load(), bf16: bf16(), peak: None }
    }

    /// The same, its peak of `threads` threads measured.
    #[must_use]
    pub fn with_peak(self, threads: usize) -> Self {
        Self { peak: Some(peak::measure(threads)), ..self }
    }

    /// f32 operations a second that it reaches, if that was measured.
    pub fn peak(&self) -> Option<f64> {
        self.peak
    }

    /// Whether the processor multiplies bf16.
    pub fn has_bf16(&self) -> bool {
        self.bf16
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let processor = self.processor.as_deref().unwrap_or("unknown processor");
        write!(
            f,
            "{processor}, {} cores, {} bf16 instructions",
            self.cores,
            if self.bf16 { "with" } else { "no" }
        )?;
        if let Some(peak) = self.peak {
            write!(f, ", peak {:.0} GFLOP/s of f32 multiply-adds", peak / 1e9)?;
        }
        self.load.as_ref().map_or(Ok(()), |load| write!(f, "; load at the start {load}"))
    }
}

/// Cores that this process may use.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim().to_owned())
}

/// Average number of busy threads in the last minute.
fn load() -> Option<String> {
    fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next().map(str::to_owned)
}

#[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
fn bf16() -> bool {
    std::arch::is_x86_feature_detected!("avx512bf16")
}

#[cfg(target_arch = "aarch64")]
fn bf16() -> bool {
    std::arch::is_aarch64_feature_detected!("bf16")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64")))]
fn bf16() -> bool {
    false
}

/// Whether the processor sums products of 8-bit numbers in 32 bits (VNNI).
#[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
pub fn has_int8_dot_products() -> bool {
    std::arch::is_x86_feature_detected!("avx512vnni") || std::arch::is_x86_feature_detected!("avxvnni")
}

/// Whether the processor sums products of 8-bit numbers without an overflow, as all but x86 do.
#[cfg(not(any(target_arch = "x86_64", target_arch = "x86")))]
pub fn has_int8_dot_products() -> bool {
    true
}
