//! The product on processors with AVX-512 BF16.

use std::arch::x86_64::{__m512bh, __m512i, _mm512_dpbf16_ps, _mm512_loadu_si512, _mm512_set1_epi32};

use rten_simd::isa::Avx512Isa;

use crate::cpu::gemm::{
    Panels,
    product::{Arithmetic, Product},
};

/// The registers of [`Avx512Isa`].
type F32 = <Avx512Isa as rten_simd::Isa>::F32;

pub fn is_available() -> bool {
    is_x86_feature_detected!("avx512bf16") && Avx512Isa::new().is_some()
}

/// # Panics
/// On a processor without AVX-512 BF16.
pub fn multiply(product: Product<Panels<u32>>) {
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512bf16,f16c")]
    fn run(product: Product<Panels<u32>>, isa: Avx512Isa, pairs: Pairs) {
        product.run(isa, pairs);
    }
    let kernel = Avx512Isa::new().zip(Pairs::new());
    let Some((isa, pairs)) = kernel else { unreachable!("pairs are only made where they can be multiplied") };
    // SAFETY: the processor has these instructions, or there were neither `isa` nor `pairs`.
    unsafe { run(product, isa, pairs) };
}

/// Two bfloat16 numbers at each step. There is a value only where the processor has AVX-512 BF16.
#[derive(Clone, Copy)]
struct Pairs {
    _private: (),
}

impl Pairs {
    fn new() -> Option<Self> {
        is_x86_feature_detected!("avx512bf16").then_some(Self { _private: () })
    }
}

/// A register as one of pairs.
#[inline(always)]
fn pairs(register: __m512i) -> __m512bh {
    // SAFETY: both are 64 bytes for which every bit pattern is valid.
    unsafe { std::mem::transmute::<__m512i, __m512bh>(register) }
}

impl Arithmetic<Avx512Isa> for Pairs {
    type Word = u32;
    type Words = __m512bh;

    #[inline(always)]
    fn splat(self, _: Avx512Isa, word: u32) -> __m512bh {
        // SAFETY: `Avx512Isa` exists where AVX-512 does.
        pairs(unsafe { _mm512_set1_epi32(word.cast_signed()) })
    }

    #[inline(always)]
    unsafe fn load(self, _: Avx512Isa, words: *const u32) -> __m512bh {
        // SAFETY: the caller's promise, and `Avx512Isa` exists where AVX-512 does.
        pairs(unsafe { _mm512_loadu_si512(words.cast()) })
    }

    #[inline(always)]
    fn multiply_add(self, _: Avx512Isa, a: __m512bh, b: __m512bh, sum: F32) -> F32 {
        // SAFETY: `Pairs` exists where AVX-512 BF16 does.
        unsafe { _mm512_dpbf16_ps(sum.0, a, b) }.into()
    }
}
