//! What stands between the image data of a JPEG: the frame, the tables, and what a scan holds. Segments are read in
//! order until a scan or the end of the image, with libjpeg's checks.

use super::super::reader::Reader;
use super::super::{DecodeOptions, Fault};
use super::huffman::HuffmanTable;
use super::standard_tables::STANDARD_TABLES;

/// Places of the zigzag order in the natural order (row by row). Damaged data may run past the last of 64, which is
/// taken to mean the last.
pub(super) const ZIGZAG: [u8; 128] = {
    const ORDER: [u8; 64] = [
        0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13,
        6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38,
        31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
    ];
    let mut padded = [63; 128];
    let mut index = 0;
    while index < 64 {
        padded[index] = ORDER[index];
        index += 1;
    }
    padded
};

/// Quantisation steps in the natural order.
pub(super) type QuantTable = [i32; 64];

/// A component (plane) of the image.
#[derive(Clone, Debug)]
pub(super) struct Component {
    id: u8,
    /// Horizontal sampling factor: blocks per unit of interleaving.
    pub h: usize,
    /// Vertical sampling factor.
    pub v: usize,
    quant_selector: usize,
    /// The table as it stood at the start of the component's first scan.
    pub quant: Option<QuantTable>,
}

/// The frame header.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub width: usize,
    pub height: usize,
    pub progressive: bool,
    pub components: Vec<Component>,
    /// The largest horizontal sampling factor.
    pub max_h: usize,
    /// The largest vertical sampling factor.
    pub max_v: usize,
}

impl Frame {
    /// Columns and rows of interleaved units.
    pub(super) fn units(&self) -> (usize, usize) {
        (self.width.div_ceil(self.max_h * 8), self.height.div_ceil(self.max_v * 8))
    }
}

/// What the samples of the components mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ColorSpace {
    /// As they are wanted: grey, RGB or CMYK.
    Direct,
    /// Luma and chroma.
    YCbCr,
    /// Luma and chroma of inverted inks, and black.
    Ycck,
}

/// A component's part in a scan.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScanComponent {
    /// Its place in the frame.
    pub index: usize,
    /// Which table codes the DC coefficients.
    pub dc: usize,
    /// Which table codes the AC coefficients.
    pub ac: usize,
}

/// The header of a scan.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    pub components: Vec<ScanComponent>,
    /// First coefficient in zigzag order.
    pub first: usize,
    /// Last coefficient.
    pub last: usize,
    /// Bit position of the scan before that this one refines; 0 where it is the first.
    pub high: u32,
    /// Bit position of this scan.
    pub low: u32,
}

/// Reads the segments of a file, and keeps what they define.
pub(super) struct Headers<'a> {
    pub bytes: &'a [u8],
    /// Where the next segment is looked for.
    pub position: usize,
    pub frame: Option<Frame>,
    pub dc_tables: [Option<HuffmanTable>; 4],
    pub ac_tables: [Option<HuffmanTable>; 4],
    /// Units between restart markers, or 0.
    pub restart_interval: usize,
    quant_tables: [Option<QuantTable>; 4],
    jfif: bool,
    adobe_transform: Option<u8>,
}

fn damaged<T>(message: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Damaged(message.into()))
}

impl<'a> Headers<'a> {
    /// The file, whose first two bytes are known to be a JPEG's.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            position: 2,
            frame: None,
            dc_tables: [const { None }; 4],
            ac_tables: [const { None }; 4],
            restart_interval: 0,
            quant_tables: [None; 4],
            jfif: false,
            adobe_transform: None,
        }
    }

    /// Reads on up to the next scan; `None` is the end of the image.
    pub(super) fn next_scan(&mut self, options: &DecodeOptions) -> Result<Option<Scan>, Fault> {
        loop {
            let marker = self.next_marker()?;
            match marker {
                // Markers that stand alone.
                0x01 | 0xd0..=0xd7 => continue,
                0xd8 => return damaged("a second start of image"),
                0xd9 => return Ok(None),
                _ => {}
            }
            let mut reader = Reader::new(self.bytes.get(self.position..).unwrap_or_default());
            let length = usize::from(u16::from_be_bytes(reader.array()?));
            let segment = reader.take(length.saturating_sub(2))?;
            self.position += length.max(2);
            match marker {
                0xc0..=0xc2 => self.read_frame(segment, marker == 0xc2, options)?,
                0xc4 => self.read_huffman_tables(segment)?,
                0xc3 | 0xc5..=0xc7 | 0xc9..=0xcf => {
                    return Err(Fault::Unsupported(match marker {
                        0xc3 | 0xc7 => "lossless".to_owned(),
                        0xc9..=0xcf => "arithmetic coding".to_owned(),
                        _ => "hierarchical".to_owned(),
                    }));
                }
                0xda => {
                    let scan = self.read_scan(segment)?;
                    if self.frame.as_ref().is_some_and(|frame| !frame.progressive) {
                        self.complete_huffman_tables(&scan)?;
                    }
                    return Ok(Some(scan));
                }
                0xdb => self.read_quant_tables(segment)?,
                0xdd => {
                    let &[high, low] = segment else { return damaged("restart interval") };
                    self.restart_interval = usize::from(u16::from_be_bytes([high, low]));
                }
                0xe0 if segment.len() >= 12 && segment.starts_with(b"JFIF\0") => self.jfif = true,
                0xee if segment.len() >= 12 && segment.starts_with(b"Adobe") => {
                    self.adobe_transform = segment.get(11).copied();
                }
                0xdc | 0xe0..=0xef | 0xfe => {}
                _ => return damaged(format!("unknown marker {marker:#04x}")),
            }
        }
    }

    /// The next marker, past anything that isn't one.
    fn next_marker(&mut self) -> Result<u8, Fault> {
        let mut reader = Reader::new(self.bytes);
        reader.position = self.position;
        loop {
            while reader.u8()? != 0xff {}
            let mut marker = 0xff;
            while marker == 0xff {
                marker = reader.u8()?;
            }
            if marker != 0 {
                self.position = reader.position;
                return Ok(marker);
            }
        }
    }

    fn read_frame(
        &mut self,
        segment: &[u8],
        progressive: bool,
        options: &DecodeOptions,
    ) -> Result<(), Fault> {
        if self.frame.is_some() {
            return damaged("two frame headers");
        }
        let &[precision, h1, h0, w1, w0, count, ref specifications @ ..] = segment else {
            return damaged("frame header");
        };
        if precision != 8 {
            return Err(Fault::Unsupported(format!("{precision} bits per sample")));
        }
        let (width, height) =
            options.checked(u16::from_be_bytes([w1, w0]).into(), u16::from_be_bytes([h1, h0]).into())?;
        if !matches!(count, 1 | 3 | 4) {
            return Err(Fault::Unsupported(format!("{count} components")));
        }
        if specifications.len() != usize::from(count) * 3 {
            return damaged("frame header");
        }
        let mut components: Vec<Component> = specifications
            .as_chunks::<3>()
            .0
            .iter()
            .map(|&[id, sampling, quant_selector]| Component {
                id,
                h: usize::from(sampling >> 4),
                v: usize::from(sampling & 15),
                quant_selector: usize::from(quant_selector),
                quant: None,
            })
            .collect();
        if components
            .iter()
            .any(|component| !(1..=4).contains(&component.h) || !(1..=4).contains(&component.v))
        {
            return damaged("sampling factors");
        }
        if let [component] = components.as_mut_slice() {
            // Blocks of a single component aren't interleaved, whatever its factors say.
            (component.h, component.v) = (1, 1);
        }
        let max_h = components.iter().map(|component| component.h).max().unwrap_or(1);
        let max_v = components.iter().map(|component| component.v).max().unwrap_or(1);
        if components.iter().any(|component| max_h % component.h != 0 || max_v % component.v != 0) {
            return Err(Fault::Unsupported("fractional sampling".to_owned()));
        }
        self.frame = Some(Frame { width, height, progressive, components, max_h, max_v });
        Ok(())
    }

    fn read_huffman_tables(&mut self, mut segment: &[u8]) -> Result<(), Fault> {
        while let Some((&selector, rest)) = segment.split_first() {
            let Some((counts, rest)) = rest.split_first_chunk::<16>() else {
                return damaged("Huffman table");
            };
            let symbols = counts.iter().map(|&count| usize::from(count)).sum();
            let Some((symbols, rest)) = rest.split_at_checked(symbols) else {
                return damaged("Huffman table");
            };
            let is_dc = selector & 0x10 == 0;
            let table = HuffmanTable::new(counts, symbols, is_dc);
            let tables = if is_dc { &mut self.dc_tables } else { &mut self.ac_tables };
            match tables.get_mut(usize::from(selector & !0x10)) {
                Some(slot) => *slot = Some(table),
                None => return damaged("Huffman table selector"),
            }
            segment = rest;
        }
        Ok(())
    }

    /// Puts the standard tables where a scan uses one that the file doesn't define.
    fn complete_huffman_tables(&mut self, scan: &Scan) -> Result<(), Fault> {
        let is_defined = |tables: &[Option<HuffmanTable>; 4], selector: usize| {
            tables.get(selector).is_some_and(Option::is_some)
        };
        let complete = |part: &ScanComponent| {
            is_defined(&self.dc_tables, part.dc) && is_defined(&self.ac_tables, part.ac)
        };
        if scan.components.iter().all(complete) {
            return Ok(());
        }
        let defined = [self.dc_tables.each_mut(), self.ac_tables.each_mut()];
        let defined = defined.map(|tables| tables.map(Option::take));
        self.read_huffman_tables(STANDARD_TABLES)?;
        for (tables, defined) in [&mut self.dc_tables, &mut self.ac_tables].into_iter().zip(defined) {
            for (table, defined) in tables.iter_mut().zip(defined) {
                *table = defined.or(table.take());
            }
        }
        Ok(())
    }

    fn read_quant_tables(&mut self, mut segment: &[u8]) -> Result<(), Fault> {
        while let Some((&selector, rest)) = segment.split_first() {
            let width = if selector >> 4 == 0 { 1 } else { 2 };
            let Some((values, rest)) = rest.split_at_checked(64 * width) else {
                return damaged("quantisation table");
            };
            let mut table = [0; 64];
            for (value, &place) in values.chunks_exact(width).zip(&ZIGZAG) {
                table[usize::from(place)] = value.iter().fold(0, |sum, &byte| sum << 8 | i32::from(byte));
            }
            match self.quant_tables.get_mut(usize::from(selector & 15)) {
                Some(slot) => *slot = Some(table),
                None => return damaged("quantisation table selector"),
            }
            segment = rest;
        }
        Ok(())
    }

    fn read_scan(&mut self, segment: &[u8]) -> Result<Scan, Fault> {
        let Some(frame) = &mut self.frame else { return damaged("no frame header before the image data") };
        let Some((&count, rest)) = segment.split_first() else { return damaged("scan header") };
        let (specifications, parameters) = rest.as_chunks::<2>();
        let (specifications, progression) = match specifications.split_at_checked(usize::from(count)) {
            Some((specifications, [progression])) if (1..=4).contains(&count) => {
                (specifications, progression)
            }
            _ => return damaged("scan header"),
        };
        let &[approximation] = parameters else { return damaged("scan header") };
        let mut components = Vec::with_capacity(specifications.len());
        for &[id, tables] in specifications {
            let index = frame.components.iter().position(|component| component.id == id);
            let Some(index) =
                index.filter(|index| components.iter().all(|c: &ScanComponent| c.index != *index))
            else {
                return damaged(format!("scan of component {id}"));
            };
            let component = &mut frame.components[index];
            if component.quant.is_none() {
                component.quant = self.quant_tables.get(component.quant_selector).copied().flatten();
                if component.quant.is_none() {
                    return damaged(format!("no quantisation table {}", component.quant_selector));
                }
            }
            components.push(ScanComponent {
                index,
                dc: usize::from(tables >> 4),
                ac: usize::from(tables & 15),
            });
        }
        let blocks: usize = components
            .iter()
            .map(|component| frame.components[component.index].h * frame.components[component.index].v)
            .sum();
        if components.len() > 1 && blocks > 10 {
            return damaged("too many blocks in a unit");
        }
        let mut scan = Scan {
            components,
            first: usize::from(progression[0]),
            last: usize::from(progression[1]),
            high: u32::from(approximation >> 4),
            low: u32::from(approximation & 15),
        };
        if !frame.progressive {
            (scan.first, scan.last, scan.high, scan.low) = (0, 63, 0, 0);
        } else if (scan.first == 0 && scan.last != 0)
            || scan.last > 63
            || scan.first > scan.last
            || (scan.first > 0 && scan.components.len() > 1)
            || (scan.high > 0 && scan.high != scan.low + 1)
            || scan.low > 13
        {
            return damaged("progression parameters");
        }
        Ok(scan)
    }

    /// What the components mean, as libjpeg guesses it.
    pub(super) fn color_space(&self, frame: &Frame) -> ColorSpace {
        match (frame.components.as_slice(), self.adobe_transform) {
            ([_, _, _], _) if self.jfif => ColorSpace::YCbCr,
            ([_, _, _], Some(0)) => ColorSpace::Direct,
            ([_, _, _], Some(_)) => ColorSpace::YCbCr,
            ([r, g, b], None) if [r.id, g.id, b.id] == *b"RGB" => ColorSpace::Direct,
            ([_, _, _], None) => ColorSpace::YCbCr,
            ([_, _, _, _], Some(transform)) if transform != 0 => ColorSpace::Ycck,
            _ => ColorSpace::Direct,
        }
    }
}
