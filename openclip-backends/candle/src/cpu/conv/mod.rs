//! Convolutions: those over all channels as products of packed weights with gathered windows, depthwise ones by a kernel
//! of their own; and pooling. All give feature maps whose channels lie side by side, and take them as they are.

mod dense;
mod depthwise;
mod pool;

pub use dense::DenseConv2d;
pub use depthwise::DepthwiseConv2d;
pub use pool::pool;

/// Where windows lie on a feature map. Each pair is for rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Places of a window.
    pub kernel: [usize; 2],
    /// Places between windows.
    pub stride: [usize; 2],
    /// Places of zeros on each side of the map.
    pub padding: [usize; 2],
}

impl Geometry {
    /// Number of windows on a map of `size` places, where there is any.
    pub fn windows(&self, size: [usize; 2]) -> Option<[usize; 2]> {
        let along = |axis: usize| {
            let padded = size[axis] + 2 * self.padding[axis];
            padded.checked_sub(self.kernel[axis])?.checked_div(self.stride[axis]).map(|steps| steps + 1)
        };
        Some([along(0)?, along(1)?])
    }
}
