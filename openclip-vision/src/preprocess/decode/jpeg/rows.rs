//! From coefficients to rows of pixels: the inverse transform of a row of units at a time into a ring of samples, and from
//! there upsampling and colour conversion of those rows whose neighbours are known. Only what the wanted region needs is
//! computed.

use std::ops::Range;

use pulp::Arch;

use super::super::super::image::Region;
use super::coefficients::{Coefficients, LANES};
use super::color;
use super::header::{ColorSpace, Frame, QuantTable};
use super::idct;

/// How a component's samples become as many as the image has pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upsampling {
    None,
    /// Weighted by distance, twice the width.
    Smooth21,
    /// Weighted by distance, twice the height.
    Smooth12,
    /// Weighted by distance, twice both.
    Smooth22,
    /// Repeated so many times in width and height.
    Repeated(usize, usize),
}

/// A component's samples of the last two rows of units.
#[derive(Default)]
struct Plane {
    quant: Option<QuantTable>,
    /// Blocks of a unit in height.
    v: usize,
    /// Samples of a block's side.
    size: usize,
    upsampling: Option<Upsampling>,
    /// Columns and rows that hold image.
    width: usize,
    height: usize,
    /// Blocks that the region needs.
    blocks: Range<usize>,
    /// First column that the ring holds.
    origin: usize,
    stride: usize,
    ring: Vec<u8>,
    ring_rows: usize,
    /// A row in full width.
    full: Vec<u8>,
    /// Samples on the way there.
    line: Vec<u16>,
}

impl Plane {
    fn row(&self, row: usize) -> &[u8] {
        let start = row % self.ring_rows * self.stride;
        &self.ring[start..start + self.stride]
    }

    /// The samples of a row of pixels, in the columns of the region, from the start of [`Self::full`].
    #[inline(always)]
    fn upsample(&mut self, y: usize, columns: &Range<usize>) -> usize {
        let mut line = std::mem::take(&mut self.line);
        let mut full = std::mem::take(&mut self.full);
        let upsampling = self.upsampling.unwrap_or(Upsampling::None);
        let offset = match upsampling {
            Upsampling::None => {
                let start = columns.start - self.origin;
                full[..columns.len()].copy_from_slice(&self.row(y)[start..start + columns.len()]);
                0
            }
            Upsampling::Smooth12 => {
                let (near, far) = self.neighbours(y);
                let bias = if y.is_multiple_of(2) { 1 } else { 2 };
                let range = columns.start - self.origin..columns.end - self.origin;
                let (near, far) = (&self.row(near)[range.clone()], &self.row(far)[range]);
                for ((output, &near), &far) in full.iter_mut().zip(near).zip(far) {
                    *output = ((3 * u16::from(near) + u16::from(far) + bias) >> 2) as u8;
                }
                0
            }
            Upsampling::Smooth21 | Upsampling::Smooth22 => {
                let samples = columns.start / 2..columns.end.div_ceil(2);
                let around = samples.start.max(1) - 1..(samples.end + 1).min(self.width);
                let range = around.start - self.origin..around.end - self.origin;
                let first = usize::from(samples.start == 0);
                let inner = &mut line[first..first + range.len()];
                let (bias, shift) = if upsampling == Upsampling::Smooth21 {
                    let row = &self.row(y)[range.clone()];
                    inner.iter_mut().zip(row).for_each(|(output, &sample)| *output = u16::from(sample));
                    ([1, 2], 2)
                } else {
                    let (near, far) = self.neighbours(y);
                    color::blend(&self.row(near)[range.clone()], &self.row(far)[range.clone()], inner);
                    ([8, 7], 4)
                };
                // Beyond the image its last sample goes on.
                if first == 1 {
                    line[0] = line[1];
                }
                let end = first + range.len();
                if end < samples.len() + 2 {
                    line[end] = line[end - 1];
                }
                color::double(&line, bias, shift, &mut full[..samples.len() * 2]);
                columns.start % 2
            }
            Upsampling::Repeated(h, v) => {
                let samples = columns.start / h..columns.end.div_ceil(h);
                let row = &self.row(y / v)[samples.start - self.origin..samples.end - self.origin];
                color::repeat(row, h, &mut full[..samples.len() * h]);
                columns.start % h
            }
        };
        self.line = line;
        self.full = full;
        offset
    }

    /// The row of samples nearest to a row of pixels at twice the height, and the second nearest.
    fn neighbours(&self, y: usize) -> (usize, usize) {
        let near = y / 2;
        let far = if y.is_multiple_of(2) { near.max(1) - 1 } else { (near + 1).min(self.height - 1) };
        (near, far)
    }

    /// Columns of samples that columns of pixels need, neighbours included.
    fn needed(&self, columns: &Range<usize>) -> Range<usize> {
        match self.upsampling.unwrap_or(Upsampling::None) {
            Upsampling::None | Upsampling::Smooth12 => columns.clone(),
            Upsampling::Smooth21 | Upsampling::Smooth22 => {
                (columns.start / 2).max(1) - 1..(columns.end.div_ceil(2) + 1).min(self.width)
            }
            Upsampling::Repeated(h, _) => columns.start / h..columns.end.div_ceil(h),
        }
    }
}

/// Buffers that are of use for the next image too.
#[derive(Default)]
pub(super) struct RowBuffers {
    planes: Vec<Plane>,
}

/// Turns coefficients into the pixels of a region.
pub(super) struct RowWriter<'a> {
    planes: &'a mut [Plane],
    color_space: ColorSpace,
    region: Region,
    /// Rows of pixels of a row of units.
    unit_rows: usize,
    /// Rows whose lower neighbours aren't known when their units are.
    pending: usize,
    height: usize,
    /// The next row of pixels.
    next: usize,
    output: &'a mut [u8],
}

impl<'a> RowWriter<'a> {
    /// A writer of the region of an image at `scale` samples for eight, into `output` (interleaved, a byte per channel).
    pub(super) fn new(
        frame: &Frame,
        color_space: ColorSpace,
        scale: usize,
        region: Region,
        buffers: &'a mut RowBuffers,
        output: &'a mut [u8],
    ) -> Self {
        let (width, height) = scaled_size(frame, scale);
        let count = frame.components.len();
        buffers.planes.resize_with(buffers.planes.len().max(count), Plane::default);
        let planes = &mut buffers.planes[..count];
        for (plane, component) in planes.iter_mut().zip(&frame.components) {
            // As libjpeg does it: a smaller transform of the other components spares their upsampling.
            let mut size = scale;
            while size < 8
                && (frame.max_h * scale).is_multiple_of(component.h * size * 2)
                && (frame.max_v * scale).is_multiple_of(component.v * size * 2)
            {
                size *= 2;
            }
            let samples = |side: usize, factor: usize, max: usize| (side * factor * size).div_ceil(max * 8);
            plane.quant = component.quant;
            plane.v = component.v;
            plane.size = size;
            plane.width = samples(frame.width, component.h, frame.max_h);
            plane.height = samples(frame.height, component.v, frame.max_v);
            let h = frame.max_h * scale / (component.h * size);
            let v = frame.max_v * scale / (component.v * size);
            let smooth = scale > 1;
            plane.upsampling = Some(match (h, v) {
                (1, 1) => Upsampling::None,
                (2, 1) if smooth && plane.width > 2 => Upsampling::Smooth21,
                (1, 2) if smooth => Upsampling::Smooth12,
                (2, 2) if smooth && plane.width > 2 => Upsampling::Smooth22,
                (h, v) => Upsampling::Repeated(h, v),
            });
            let needed = plane.needed(&region.columns);
            plane.blocks = needed.start / size..needed.end.div_ceil(size);
            let groups = plane.blocks.start / LANES..plane.blocks.end.div_ceil(LANES);
            plane.origin = groups.start * LANES * size;
            plane.stride = groups.len() * LANES * size;
            plane.ring_rows = 2 * component.v * size;
            plane.ring.resize(plane.stride * plane.ring_rows, 0);
            // Upsampled rows start up to three pixels before the region and end as many after it.
            plane.full.resize(region.columns.len() + 8, 0);
            plane.line.resize(region.columns.len() / 2 + 8, 0);
        }
        let smooth_rows =
            |plane: &Plane| matches!(plane.upsampling, Some(Upsampling::Smooth12 | Upsampling::Smooth22));
        let pending = if planes.iter().any(smooth_rows) { 2 } else { 0 };
        debug_assert!(region.columns.end <= width && region.rows.end <= height);
        Self {
            planes,
            color_space,
            unit_rows: frame.max_v * scale,
            pending,
            height,
            next: region.rows.start,
            region,
            output,
        }
    }

    /// Blocks of a component that the region needs, in a row.
    pub(super) fn blocks(&self, component: usize) -> Range<usize> {
        self.planes.get(component).map_or(0..0, |plane| plane.blocks.clone())
    }

    /// Whether nothing is left to write.
    pub(super) fn is_done(&self) -> bool {
        self.next >= self.region.rows.end
    }

    /// Whether the pixels of a row of units, or of its neighbours, are wanted.
    pub(super) fn needs(&self, unit_row: usize) -> bool {
        let rows = unit_row * self.unit_rows..(unit_row + 1) * self.unit_rows;
        rows.end + self.unit_rows > self.region.rows.start
            && rows.start < self.region.rows.end + self.unit_rows
    }

    /// Takes a row of units, whose blocks start in row `first_row` of a component's coefficients, and writes the pixels
    /// that have all their neighbours then. Rows of units come in order.
    pub(super) fn push(&mut self, unit_row: usize, components: &[(&Coefficients, usize)]) {
        Arch::new().dispatch(Push { writer: self, unit_row, components });
    }

    #[inline(always)]
    fn write_row(&mut self, y: usize) {
        let columns = &self.region.columns;
        let channels = self.planes.len();
        let mut starts = [0; 4];
        for (start, plane) in starts.iter_mut().zip(self.planes.iter_mut()) {
            *start = plane.upsample(y, columns);
        }
        let stride = columns.len() * channels;
        let offset = (y - self.region.rows.start) * stride;
        let output = &mut self.output[offset..offset + stride];
        let row = |index: usize| &self.planes[index].full[starts[index]..starts[index] + columns.len()];
        match (self.color_space, channels) {
            (ColorSpace::YCbCr, 3) => color::ycbcr_row(row(0), row(1), row(2), output),
            (ColorSpace::Ycck, 4) => color::ycck_row(row(0), row(1), row(2), row(3), output),
            (_, 3) => color::interleave([row(0), row(1), row(2)], output),
            (_, 4) => color::interleave([row(0), row(1), row(2), row(3)], output),
            _ => output.copy_from_slice(row(0)),
        }
    }
}

/// The work on a row of units.
struct Push<'w, 'a, 'c> {
    writer: &'w mut RowWriter<'a>,
    unit_row: usize,
    components: &'c [(&'c Coefficients, usize)],
}

impl pulp::NullaryFnOnce for Push<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { writer, unit_row, components } = self;
        for (plane, &(coefficients, first_row)) in writer.planes.iter_mut().zip(components) {
            let zeros = [0; 64];
            let quant = plane.quant.as_ref().unwrap_or(&zeros);
            let (size, stride) = (plane.size, plane.stride);
            for row in 0..plane.v {
                let start = (unit_row * plane.v + row) * size % plane.ring_rows * stride;
                let rows = &mut plane.ring[start..start + size * stride];
                for (index, (group, extent)) in
                    coefficients.groups(first_row + row, &plane.blocks).enumerate()
                {
                    idct::transform(group, extent, quant, size, &mut rows[index * LANES * size..], stride);
                }
            }
        }
        let known = (unit_row + 1) * writer.unit_rows;
        let end = if known >= writer.height { writer.height } else { known - writer.pending.min(known) };
        for y in writer.next..end.min(writer.region.rows.end) {
            writer.write_row(y);
            writer.next = y + 1;
        }
    }
}

/// Width and height of an image at `scale` samples for eight.
pub(super) fn scaled_size(frame: &Frame, scale: usize) -> (usize, usize) {
    ((frame.width * scale).div_ceil(8), (frame.height * scale).div_ceil(8))
}
