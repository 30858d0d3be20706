//! Scans: the order of the blocks, restart markers, and the blocks of sequential files. Damaged data is followed as
//! libjpeg follows it: zeros where bits are missing, and another look at the restart markers.

use std::ops::Range;

use super::super::Fault;
use super::coefficients::{Block, Coefficients};
use super::header::{Frame, Headers, Scan, ZIGZAG};
use super::huffman::{BitReader, HuffmanTable, unstuff};
use super::progressive;

/// What of a component a scan leaves behind.
pub(super) struct Target<'a> {
    pub coefficients: &'a mut Coefficients,
    /// Columns of blocks that are of use; others needn't be kept.
    pub columns: Range<usize>,
}

/// A component while its scan is read.
struct Part<'a> {
    /// Its place in the frame.
    index: usize,
    dc: Option<&'a HuffmanTable>,
    ac: Option<&'a HuffmanTable>,
    /// The DC coefficient before.
    prediction: i32,
}

/// Whether a row of units is followed by another one that is of use.
pub(super) enum Next {
    /// Read on.
    Row,
    /// The rest of the scan is of no use.
    Stop,
}

/// The data of a scan up to the next marker, and how far reading has come.
struct Segments<'a> {
    bytes: &'a [u8],
    /// Where the marker after the piece of data is, and which.
    marker: Option<(usize, u8)>,
    /// The number of the next restart marker.
    expected: u8,
}

impl Segments<'_> {
    /// Goes past a restart marker and reads the piece of data after it. Where another marker stands, what it says about
    /// the data that was lost decides: to go on as if nothing were wrong, to look for another, or to wait for the next.
    /// Returns whether there is new data.
    fn restart(&mut self, piece: &mut Vec<u8>) -> bool {
        let expected = self.expected;
        self.expected = (expected + 1) % 8;
        loop {
            let Some((position, marker)) = self.marker else { return false };
            let ahead = marker.wrapping_sub(0xd0).wrapping_sub(expected) % 8;
            match marker {
                0xd0..=0xd7 if matches!(ahead, 1 | 2) => return false,
                0xd0..=0xd7 if matches!(ahead, 6 | 7) => {}
                0xd0..=0xd7 => {
                    self.marker = unstuff(self.bytes, position + 2, piece);
                    return true;
                }
                0xc0.. => return false,
                _ => {}
            }
            self.marker = unstuff(self.bytes, position + 2, piece);
        }
    }
}

/// Reads a scan. Single components come in rows of their own blocks, several components in units that hold as many blocks
/// of each as its sampling factors say.
pub(super) struct ScanReader<'h, 'a, 's> {
    pub headers: &'h mut Headers<'a>,
    pub frame: &'h Frame,
    pub scan: &'h Scan,
    /// Room for a piece of the data.
    pub piece: &'s mut Vec<u8>,
}

impl ScanReader<'_, '_, '_> {
    /// Reads all rows of the scan. `targets` hold the coefficients of every component of the frame: of the whole image if
    /// `keeps_rows`, otherwise of one row of units. Each time a row of units is complete, `finished` gets its number, and
    /// may take the coefficients out of the targets and change them for the next.
    ///
    /// # Errors
    /// [`Fault::Damaged`] without the tables that the scan needs, [`Fault::Truncated`] where the file ends too early.
    #[inline(always)]
    pub(super) fn read(
        self,
        targets: &mut [Target<'_>],
        keeps_rows: bool,
        mut finished: impl FnMut(usize, &mut [Target<'_>]) -> Next,
    ) -> Result<(), Fault> {
        let Self { headers, frame, scan, piece } = self;
        let interval = headers.restart_interval;
        let mut parts = Vec::with_capacity(scan.components.len());
        for component in &scan.components {
            let table = |tables: &'_ [Option<HuffmanTable>; 4], index: usize| -> Result<usize, Fault> {
                let table = tables.get(index).and_then(Option::as_ref);
                table.ok_or_else(|| Fault::Damaged(format!("no Huffman table {index}")))?.checked()?;
                Ok(index)
            };
            let needs_dc = scan.first == 0 && scan.high == 0;
            let dc = needs_dc.then(|| table(&headers.dc_tables, component.dc)).transpose()?;
            let ac = (scan.last > 0).then(|| table(&headers.ac_tables, component.ac)).transpose()?;
            parts.push(Part {
                index: component.index,
                dc: dc.and_then(|index| headers.dc_tables[index].as_ref()),
                ac: ac.and_then(|index| headers.ac_tables[index].as_ref()),
                prediction: 0,
            });
        }
        let (mut units, mut rows) = frame.units();
        let interleaved = parts.len() > 1;
        // The blocks of a unit: which part, column and row.
        let mut blocks = Vec::new();
        for (part, description) in parts.iter().enumerate() {
            let component = &frame.components[description.index];
            if interleaved {
                blocks.extend((0..component.v).flat_map(|y| (0..component.h).map(move |x| (part, x, y))));
            } else {
                blocks.push((part, 0, 0));
                units = (frame.width * component.h).div_ceil(frame.max_h * 8);
                rows = (frame.height * component.v).div_ceil(frame.max_v * 8);
            }
        }
        let steps: Vec<(usize, usize)> = parts
            .iter()
            .map(|part| &frame.components[part.index])
            .map(|component| if interleaved { (component.h, component.v) } else { (1, 1) })
            .collect();

        let mut segments = Segments { bytes: headers.bytes, marker: None, expected: 0 };
        segments.marker = unstuff(headers.bytes, headers.position, piece);
        let mut reader = BitReader::new(piece);
        let mut until_restart = interval;
        let mut run = 0_u32;
        'rows: for row in 0..rows {
            for unit in 0..units {
                if interval > 0 {
                    if until_restart == 0 {
                        let was_overrun = reader.is_overrun();
                        parts.iter_mut().for_each(|part| part.prediction = 0);
                        run = 0;
                        until_restart = interval;
                        if segments.restart(piece) {
                            reader = BitReader::new(piece);
                        } else {
                            reader = BitReader::finished(was_overrun);
                        }
                    }
                    until_restart -= 1;
                }
                if reader.is_overrun() {
                    if segments.marker.is_none() {
                        return Err(Fault::Truncated);
                    }
                    continue;
                }
                for &(part, x, y) in &blocks {
                    let part_state = &mut parts[part];
                    let (columns, lines) = steps[part];
                    let column = unit * columns + x;
                    let line = if keeps_rows { row * lines + y } else { y };
                    let target = &mut targets[part_state.index];
                    let block = if target.columns.contains(&column) {
                        target.coefficients.block(column, line)
                    } else {
                        None
                    };
                    if frame.progressive {
                        let Some((mut block, extent)) = block else { continue };
                        *extent = (*extent).max(scan.last as u8);
                        progressive::read_block(
                            &mut reader,
                            scan,
                            part_state.dc,
                            part_state.ac,
                            &mut part_state.prediction,
                            &mut run,
                            &mut block,
                        );
                    } else if let (Some(dc), Some(ac)) = (part_state.dc, part_state.ac) {
                        match block {
                            Some((mut block, extent)) => {
                                let last =
                                    read_block(&mut reader, dc, ac, &mut part_state.prediction, &mut block);
                                *extent = (*extent).max(last as u8);
                            }
                            None => skip_block(&mut reader, dc, ac, &mut part_state.prediction),
                        }
                    }
                }
            }
            if let Next::Stop = finished(row, targets) {
                break 'rows;
            }
        }
        // The marker that ends the scan is the next one that isn't a restart marker.
        headers.position = match segments.marker {
            Some((position, _)) => position,
            None => headers.bytes.len(),
        };
        Ok(())
    }
}

/// Reads a block of a sequential scan; returns its last coefficient that isn't zero, in zigzag order.
#[inline(always)]
fn read_block(
    reader: &mut BitReader<'_>,
    dc: &HuffmanTable,
    ac: &HuffmanTable,
    prediction: &mut i32,
    block: &mut Block<'_>,
) -> usize {
    let shared = reader;
    let mut reader = *shared;
    let (_, difference) = reader.coefficient(dc);
    *prediction = prediction.wrapping_add(difference);
    block.set(0, *prediction as i16);
    let mut index = 1;
    let mut last = 0;
    while index < 64 {
        let (entry, value) = reader.coefficient(ac);
        let run = entry.run();
        if entry.magnitude() == 0 {
            if run != 15 {
                break;
            }
            index += 16;
        } else {
            index += run;
            block.set(ZIGZAG[index % ZIGZAG.len()], value as i16);
            last = index;
            index += 1;
        }
    }
    *shared = reader;
    last.min(63)
}

/// Reads past a block of a sequential scan.
#[inline(always)]
fn skip_block(reader: &mut BitReader<'_>, dc: &HuffmanTable, ac: &HuffmanTable, prediction: &mut i32) {
    let shared = reader;
    let mut reader = *shared;
    let (_, difference) = reader.coefficient(dc);
    *prediction = prediction.wrapping_add(difference);
    let mut index = 1;
    while index < 64 {
        let (entry, _) = reader.coefficient(ac);
        if entry.magnitude() == 0 && entry.run() != 15 {
            break;
        }
        index += entry.run() + 1;
    }
    *shared = reader;
}
