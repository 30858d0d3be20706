//! Image preprocessing and image towers of OpenCLIP models.
//!
//! [`preprocess`] turns image files into tensors, equal to the reference pixel by pixel.
//! [`vit`] is the native vision transformer and [`resnet`] the modified ResNet, written over the backend seam of
//! `openclip-core`.

pub mod preprocess;
pub mod resnet;
pub mod vit;

pub use preprocess::{DecodedImage, ImageError, PreprocessConfig, Preprocessor};
pub use resnet::{ModifiedResNet, ModifiedResNetConfig, ModifiedResNetFamily};
pub use vit::{VisionTransformer, VisionTransformerConfig, VisionTransformerFamily};
