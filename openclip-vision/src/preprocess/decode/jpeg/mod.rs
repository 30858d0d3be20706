//! JPEG: baseline and progressive, decoded to the very pixels that libjpeg-turbo gives to Pillow (accurate integer
//! transform, smooth chroma upsampling).
//!
//! A caller that will resize and crop can say which region it needs: all of the data is read, but only that region's
//! blocks are transformed, upsampled and converted. It can also ask for a smaller image, which leaves out most of the
//! transform (libjpeg's scaled decoding, Pillow's `draft`).

mod coefficients;
mod color;
mod header;
mod huffman;
mod idct;
mod progressive;
mod rows;
mod scan;
mod standard_tables;

use std::ops::Range;

use pulp::Arch;

use super::super::image::Region;
use super::super::scratch::{LARGEST_KEPT, Scratch};
use super::{DecodeOptions, Fault, Mode, Raw, Wish};
use coefficients::Coefficients;
use header::{ColorSpace, Frame, Headers, Scan};
use rows::{RowBuffers, RowWriter, scaled_size};
use scan::{Next, ScanReader, Target};

/// Scans of a file that are read. A progressive file of good faith has some ten; each may go through the whole image.
const MAX_SCANS: usize = 500;

/// Buffers that are of use for the next image too.
#[derive(Default)]
pub(crate) struct JpegScratch {
    piece: Vec<u8>,
    coefficients: Vec<Coefficients>,
    rows: RowBuffers,
}

impl JpegScratch {
    /// Gives back what an unusually large image has left behind.
    fn shrink(&mut self) {
        if self.piece.capacity() > LARGEST_KEPT {
            self.piece = Vec::new();
        }
        self.coefficients.iter_mut().for_each(|coefficients| coefficients.shrink(LARGEST_KEPT));
    }
}

/// Decodes that part of a file which `wish` asks for when it gets to know the width and height of the image.
pub(super) fn decode(
    bytes: &[u8],
    options: &DecodeOptions,
    scratch: &mut Scratch,
    wish: impl Fn(usize, usize) -> Wish,
) -> Result<Raw, Fault> {
    let Scratch { jpeg: scratch, pool } = scratch;
    let mut headers = Headers::new(bytes);
    let first = headers.next_scan(options)?;
    let (Some(first), Some(frame)) = (first, headers.frame.clone()) else {
        return Err(Fault::Damaged("no image data".to_owned()));
    };
    let mode = match frame.components.len() {
        1 => Mode::Gray,
        3 => Mode::Rgb,
        _ => Mode::Cmyk,
    };
    let Wish { scale, region } = wish(frame.width, frame.height);
    let (width, height) = scaled_size(&frame, scale);
    let mut pixels = pool.take(region.columns.len() * region.rows.len() * frame.components.len());
    let color_space = headers.color_space(&frame);
    scratch.coefficients.resize_with(scratch.coefficients.len().max(4), Coefficients::default);
    let job = Job {
        headers,
        frame,
        color_space,
        scale,
        region: region.clone(),
        options,
        scratch,
        pixels: &mut pixels,
    };
    let streams = !job.frame.progressive && first.components.len() == job.frame.components.len();
    let decoded = if streams {
        Arch::new().dispatch(Streamed(job, first))
    } else {
        Arch::new().dispatch(Collected(job, first))
    };
    scratch.shrink();
    decoded?;
    if mode == Mode::Cmyk {
        // Pillow takes every four-component file to be inverted, as Adobe's are.
        pixels.iter_mut().for_each(|value| *value = 255 - *value);
    }
    Ok(Raw { region, ..Raw::bytes(width, height, mode, pixels) })
}

/// All that decoding needs.
struct Job<'a> {
    headers: Headers<'a>,
    frame: Frame,
    color_space: ColorSpace,
    scale: usize,
    region: Region,
    options: &'a DecodeOptions,
    scratch: &'a mut JpegScratch,
    pixels: &'a mut [u8],
}

/// A file with one scan: pixels are written as soon as their units are read.
struct Streamed<'a>(Job<'a>, Scan);

impl pulp::NullaryFnOnce for Streamed<'_> {
    type Output = Result<(), Fault>;

    #[inline(always)]
    fn call(self) -> Self::Output {
        let Self(Job { mut headers, frame, color_space, scale, region, options, scratch, pixels }, scan) =
            self;
        let JpegScratch { piece, coefficients, rows } = scratch;
        let mut writer = RowWriter::new(&frame, color_space, scale, region, rows, pixels);
        let units = frame.units().0;
        let wanted = |writer: &RowWriter<'_>, row: usize, index: usize| -> Range<usize> {
            if writer.needs(row) { writer.blocks(index) } else { 0..0 }
        };
        let mut targets: Vec<Target<'_>> = coefficients
            .iter_mut()
            .zip(&frame.components)
            .enumerate()
            .map(|(index, (coefficients, component))| {
                coefficients.reset(units * component.h, component.v);
                Target { coefficients, columns: wanted(&writer, 0, index) }
            })
            .collect();
        let reader = ScanReader { headers: &mut headers, frame: &frame, scan: &scan, piece };
        reader.read(&mut targets, false, |row, targets| {
            if writer.needs(row) {
                let components: Vec<_> = targets.iter().map(|target| (&*target.coefficients, 0)).collect();
                writer.push(row, &components);
            }
            if writer.is_done() {
                return Next::Stop;
            }
            for ((index, target), component) in targets.iter_mut().enumerate().zip(&frame.components) {
                target.coefficients.reset(units * component.h, component.v);
                target.columns = wanted(&writer, row + 1, index);
            }
            Next::Row
        })?;
        match headers.next_scan(options)? {
            None => Ok(()),
            Some(_) => Err(Fault::Damaged("image data after the image".to_owned())),
        }
    }
}

/// A file with several scans, all of which are read before the first pixel is known.
struct Collected<'a>(Job<'a>, Scan);

impl pulp::NullaryFnOnce for Collected<'_> {
    type Output = Result<(), Fault>;

    #[inline(always)]
    fn call(self) -> Self::Output {
        let Self(Job { mut headers, mut frame, color_space, scale, region, options, scratch, pixels }, scan) =
            self;
        let JpegScratch { piece, coefficients, rows } = scratch;
        let (units, unit_rows) = frame.units();
        let mut targets: Vec<Target<'_>> = coefficients
            .iter_mut()
            .zip(&frame.components)
            .map(|(coefficients, component)| {
                coefficients.reset(units * component.h, unit_rows * component.v);
                Target { coefficients, columns: 0..units * component.h }
            })
            .collect();
        let mut next = Some(scan);
        let mut scans = 0;
        while let Some(scan) = next {
            scans += 1;
            if scans > MAX_SCANS {
                return Err(Fault::Damaged(format!("more than {MAX_SCANS} scans")));
            }
            ScanReader { headers: &mut headers, frame: &frame, scan: &scan, piece }.read(
                &mut targets,
                true,
                |_, _| Next::Row,
            )?;
            next = headers.next_scan(options)?;
            if let Some(latest) = &headers.frame {
                frame.clone_from(latest);
            }
        }
        let mut writer = RowWriter::new(&frame, color_space, scale, region, rows, pixels);
        for row in 0..unit_rows {
            if writer.needs(row) {
                let components: Vec<_> = targets
                    .iter()
                    .zip(&frame.components)
                    .map(|(target, component)| (&*target.coefficients, row * component.v))
                    .collect();
                writer.push(row, &components);
            }
        }
        Ok(())
    }
}
