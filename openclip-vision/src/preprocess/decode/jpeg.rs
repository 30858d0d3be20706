//! JPEG, by one of two libraries. With the feature `turbojpeg`, libjpeg-turbo's decoder, as mozjpeg carries it, gives
//! the very pixels that Pillow's does: accurate integer DCT and smooth chroma upsampling. Without its vector code it is
//! exact but slower than the pure-Rust `zune-jpeg`, so that is the default. libjpeg reports errors by unwinding; where
//! panics abort, the feature changes nothing and `zune-jpeg` decodes.

use super::{DecodeOptions, Fault, Mode, Raw};

const END_OF_IMAGE: [u8; 2] = [0xff, 0xd9];

/// Frame header: dimensions and number of components.
struct Frame {
    width: usize,
    height: usize,
    components: u8,
    /// Where the frame header ends. An embedded thumbnail lies before that.
    data_start: usize,
}

pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Raw, Fault> {
    let frame = read_frame(bytes, options)?;
    let (mode, channels) = match frame.components {
        1 => (Mode::Gray, 1),
        3 => (Mode::Rgb, 3),
        4 => (Mode::Cmyk, 4),
        count => return Err(Fault::Unsupported(format!("{count} components"))),
    };
    let mut pixels = vec![0; frame.width * frame.height * channels];
    library::decode(bytes, &frame, &mut pixels)?;
    let data = bytes.get(frame.data_start..).unwrap_or_default();
    if library::FILLS_GAPS && !data.windows(2).rev().any(|pair| pair == END_OF_IMAGE) {
        return Err(Fault::Truncated);
    }
    if mode == Mode::Cmyk {
        // Pillow takes every four-component file to be inverted, as Adobe's are.
        pixels.iter_mut().for_each(|value| *value = 255 - *value);
    }
    Ok(Raw::bytes(frame.width, frame.height, mode, pixels))
}

/// Walks the markers up to the frame header.
fn read_frame(bytes: &[u8], options: &DecodeOptions) -> Result<Frame, Fault> {
    let mut reader = super::reader::Reader::new(bytes);
    reader.take(2)?;
    loop {
        while reader.u8()? != 0xff {}
        let mut marker = 0xff;
        while marker == 0xff {
            marker = reader.u8()?;
        }
        match marker {
            // Standalone markers and stuffed bytes have no length.
            0x00 | 0x01 | 0xd0..=0xd8 => continue,
            0xd9 | 0xda => return Err(Fault::Damaged("no frame header before the image data".to_owned())),
            _ => {}
        }
        let length = usize::from(u16::from_be_bytes(reader.array()?));
        let segment = reader.take(length.saturating_sub(2))?;
        if matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc) {
            let &[precision, h1, h0, w1, w0, components, ..] = segment else { return Err(Fault::Truncated) };
            if precision != 8 {
                return Err(Fault::Unsupported(format!("{precision} bits per sample")));
            }
            let (width, height) =
                options.checked(u16::from_be_bytes([w1, w0]).into(), u16::from_be_bytes([h1, h0]).into())?;
            return Ok(Frame { width, height, components, data_start: reader.position });
        }
    }
}

#[cfg(all(feature = "turbojpeg", panic = "unwind"))]
mod library {
    //! libjpeg-turbo.

    use std::cell::Cell;
    use std::io::{BufRead, Read};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::rc::Rc;

    use mozjpeg::{ColorSpace, Decompress};

    use super::{Fault, Frame};

    /// Whether a file that just ends is completed with grey instead of refused.
    pub(super) const FILLS_GAPS: bool = false;

    /// A reader that notes when more is asked of it than there is: libjpeg goes on with grey pixels then.
    struct Source<'a> {
        bytes: &'a [u8],
        exhausted: Rc<Cell<bool>>,
    }

    impl Read for Source<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.bytes.read(buffer)
        }
    }

    impl BufRead for Source<'_> {
        fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
            if self.bytes.is_empty() {
                self.exhausted.set(true);
            }
            Ok(self.bytes)
        }

        fn consume(&mut self, count: usize) {
            self.bytes = self.bytes.get(count..).unwrap_or_default();
        }
    }

    pub(super) fn decode(bytes: &[u8], frame: &Frame, pixels: &mut [u8]) -> Result<(), Fault> {
        let exhausted = Rc::new(Cell::new(false));
        let source = Source { bytes, exhausted: Rc::clone(&exhausted) };
        let result = catch_unwind(AssertUnwindSafe(|| {
            let decoder = Decompress::builder().from_reader(source)?;
            let found = (decoder.width(), decoder.height(), decoder.components().len());
            if found != (frame.width, frame.height, usize::from(frame.components)) {
                return Ok(false);
            }
            let space = match frame.components {
                1 => ColorSpace::JCS_GRAYSCALE,
                3 => ColorSpace::JCS_RGB,
                _ => ColorSpace::JCS_CMYK,
            };
            let mut decoder = decoder.to_colorspace(space)?;
            decoder.read_scanlines_into(pixels)?;
            Ok(true)
        }));
        if exhausted.get() {
            return Err(Fault::Truncated);
        }
        match result {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(Fault::Damaged("two frame headers that differ".to_owned())),
            Ok(Err(error)) => Err(Fault::from_io(&error)),
            Err(payload) => {
                let message = payload.downcast_ref::<String>().map_or("libjpeg failed", String::as_str);
                Err(Fault::damaged(message.trim_start_matches("libjpeg fatal error: ")))
            }
        }
    }
}

#[cfg(not(all(feature = "turbojpeg", panic = "unwind")))]
mod library {
    //! The pure-Rust decoder.

    use zune_jpeg::JpegDecoder;
    use zune_jpeg::zune_core::bytestream::ZCursor;
    use zune_jpeg::zune_core::colorspace::ColorSpace;
    use zune_jpeg::zune_core::options::DecoderOptions;

    use super::{Fault, Frame};

    /// Whether a file that just ends is completed with grey instead of refused.
    pub(super) const FILLS_GAPS: bool = true;

    pub(super) fn decode(bytes: &[u8], frame: &Frame, pixels: &mut [u8]) -> Result<(), Fault> {
        let space = match frame.components {
            1 => ColorSpace::Luma,
            3 => ColorSpace::RGB,
            _ => ColorSpace::CMYK,
        };
        let options = DecoderOptions::default()
            .set_strict_mode(false)
            .set_max_width(usize::from(u16::MAX))
            .set_max_height(usize::from(u16::MAX))
            .jpeg_set_out_colorspace(space);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
        decoder.decode_headers().map_err(fault)?;
        if decoder.dimensions() != Some((frame.width, frame.height)) {
            return Err(Fault::Damaged("two frame headers that differ".to_owned()));
        }
        decoder.decode_into(pixels).map_err(fault)
    }

    fn fault(error: zune_jpeg::errors::DecodeErrors) -> Fault {
        match error {
            zune_jpeg::errors::DecodeErrors::ExhaustedData => Fault::Truncated,
            other => Fault::damaged(format!("{other:?}").replace('"', "")),
        }
    }
}
