//! WebP through the crate `image-webp`, which gives libwebp's pixels for lossless and for lossy files.

use image_webp::{DecodingError, WebPDecoder};

use super::{DecodeOptions, Fault, Mode, Raw};

pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Raw, Fault> {
    let mut decoder = WebPDecoder::new(std::io::Cursor::new(bytes)).map_err(fault)?;
    let (width, height) = decoder.dimensions();
    let (width, height) = options.checked(width.into(), height.into())?;
    let size = decoder.output_buffer_size().ok_or(Fault::Damaged("too large".to_owned()))?;
    decoder.set_memory_limit(size.saturating_mul(4).max(1 << 26));
    let mut data = vec![0; size];
    if decoder.is_animated() {
        // libwebp's animation decoder starts from a transparent canvas, whatever background the file asks for.
        decoder.set_background_color([0; 4]).map_err(fault)?;
        decoder.read_frame(&mut data).map_err(fault)?;
    } else {
        decoder.read_image(&mut data).map_err(fault)?;
    }
    let mode = if decoder.has_alpha() { Mode::Rgba } else { Mode::Rgb };
    Ok(Raw::bytes(width, height, mode, data))
}

fn fault(error: DecodingError) -> Fault {
    match &error {
        DecodingError::IoError(error) => Fault::from_io(error),
        DecodingError::NotEnoughInitData => Fault::Truncated,
        _ => Fault::damaged(error),
    }
}
