//! GIF: the first frame's indices on the canvas, as Pillow shows a GIF.

use ::gif::{ColorOutput, DecodeOptions as GifOptions, DecodingError, MemoryLimit};

use super::{DecodeOptions, Fault, Mode, Raw};

pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Raw, Fault> {
    let screen = |at: usize| bytes.get(at..at + 2).map(|pair| u64::from(pair[0]) | u64::from(pair[1]) << 8);
    let (Some(width), Some(height)) = (screen(6), screen(8)) else { return Err(Fault::Truncated) };
    options.checked(width.max(1), height.max(1))?;
    let mut decoder = GifOptions::new();
    decoder.set_color_output(ColorOutput::Indexed);
    decoder.allow_unknown_blocks(true);
    decoder.set_memory_limit(MemoryLimit::Bytes(
        options.max_pixels.try_into().unwrap_or(std::num::NonZeroU64::MIN),
    ));
    let mut decoder = decoder.read_info(bytes).map_err(fault)?;
    let frame = decoder.next_frame_info().map_err(fault)?.ok_or(Fault::Truncated)?;
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let (frame_width, frame_height) = (usize::from(frame.width), usize::from(frame.height));
    let background = frame.transparent.unwrap_or(0);
    let local = frame.palette.clone();
    // A frame that reaches beyond the canvas enlarges it.
    let (width, height) = options.checked(
        u64::from(decoder.width()).max((left + frame_width) as u64),
        u64::from(decoder.height()).max((top + frame_height) as u64),
    )?;
    let mut indices = vec![0; decoder.buffer_size()];
    decoder.read_into_buffer(&mut indices).map_err(fault)?;
    let mut canvas = vec![background; width * height];
    if frame_width > 0 {
        for (target, source) in
            canvas.chunks_exact_mut(width).skip(top).zip(indices.chunks_exact(frame_width))
        {
            target[left..left + frame_width].copy_from_slice(source);
        }
    }
    let palette =
        local.as_deref().or(decoder.global_palette()).unwrap_or_default().as_chunks::<3>().0.to_vec();
    let gray_ramp =
        palette.iter().enumerate().all(|(index, color)| color.iter().all(|&v| usize::from(v) == index));
    let mode = if gray_ramp { Mode::Gray } else { Mode::Palette };
    Ok(Raw { palette, ..Raw::bytes(width, height, mode, canvas) })
}

fn fault(error: DecodingError) -> Fault {
    match &error {
        DecodingError::UnexpectedEof => Fault::Truncated,
        DecodingError::Io(error) => Fault::from_io(error),
        _ => Fault::damaged(error),
    }
}
