//! Image preprocessing and image towers of OpenCLIP models.
//!
//! [`preprocess`] turns image files into tensors, equal to the reference pixel by pixel.
//! [`vit`] is the native vision transformer, [`resnet`] the modified ResNet and [`timm`] the towers with a trunk of timm,
//! written over the backend seam of `openclip-core`.

mod attention_pool;
pub mod preprocess;
pub mod resnet;
pub mod timm;
pub mod vit;

pub use preprocess::{DecodedImage, ImageError, PreprocessConfig, Preprocessor};
pub use resnet::{ModifiedResNet, ModifiedResNetConfig, ModifiedResNetFamily};
pub use timm::{TimmConfig, TimmFamily, TimmTower};
pub use vit::{VisionTransformer, VisionTransformerConfig, VisionTransformerFamily};
