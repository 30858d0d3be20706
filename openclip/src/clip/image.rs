//! What [`Clip`](super::Clip) takes as an image.

use std::borrow::Cow;

use openclip_vision::preprocess::DecodedImage;

/// An image in memory: a [`DecodedImage`], which keeps what the file held, or one of the crate `image`.
pub trait AsImage {
    /// The image as preprocessing takes it.
    fn as_image(&self) -> Cow<'_, DecodedImage>;
}

impl AsImage for DecodedImage {
    fn as_image(&self) -> Cow<'_, DecodedImage> {
        Cow::Borrowed(self)
    }
}

impl AsImage for image::DynamicImage {
    fn as_image(&self) -> Cow<'_, DecodedImage> {
        Cow::Owned(DecodedImage::from(self))
    }
}
