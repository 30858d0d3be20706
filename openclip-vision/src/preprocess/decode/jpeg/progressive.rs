//! Blocks of progressive scans: a coefficient's high bits come first, and scans after refine them bit by bit (ITU-T T.81,
//! annex G).

use super::coefficients::Block;
use super::header::{Scan, ZIGZAG};
use super::huffman::{BitReader, HuffmanTable};

/// Reads what a scan says of a block. `run` is the number of blocks that still have no new coefficients.
#[inline(always)]
pub(super) fn read_block(
    reader: &mut BitReader<'_>,
    scan: &Scan,
    dc: Option<&HuffmanTable>,
    ac: Option<&HuffmanTable>,
    prediction: &mut i32,
    run: &mut u32,
    block: &mut Block<'_>,
) {
    match (dc, ac, scan.high) {
        (Some(dc), _, _) => {
            let (_, difference) = reader.coefficient(dc);
            *prediction = prediction.wrapping_add(difference);
            block.set(0, (*prediction << scan.low) as i16);
        }
        (None, None, _) => {
            if reader.bit() {
                block.set(0, block.get(0) | 1 << scan.low);
            }
        }
        (None, Some(ac), 0) => first_ac(reader, scan, ac, run, block),
        (None, Some(ac), _) => refine_ac(reader, scan, ac, run, block),
    }
}

#[inline(always)]
fn first_ac(
    reader: &mut BitReader<'_>,
    scan: &Scan,
    ac: &HuffmanTable,
    run: &mut u32,
    block: &mut Block<'_>,
) {
    if *run > 0 {
        *run -= 1;
        return;
    }
    let mut index = scan.first;
    while index <= scan.last {
        let (entry, value) = reader.coefficient(ac);
        let zeros = entry.run();
        if entry.magnitude() > 0 {
            index += zeros;
            block.set(ZIGZAG[index % ZIGZAG.len()], (value << scan.low) as i16);
        } else if zeros == 15 {
            index += 15;
        } else {
            *run = (1 << zeros) - 1 + reader.bits(zeros as u32);
            break;
        }
        index += 1;
    }
}

#[inline(always)]
fn refine_ac(
    reader: &mut BitReader<'_>,
    scan: &Scan,
    ac: &HuffmanTable,
    run: &mut u32,
    block: &mut Block<'_>,
) {
    let one = 1_i16 << scan.low;
    let mut index = scan.first;
    if *run == 0 {
        while index <= scan.last {
            let entry = reader.code(ac);
            let mut zeros = entry.run();
            let new = match (entry.magnitude(), zeros) {
                (0, 15) => 0,
                (0, _) => {
                    *run = (1 << zeros) + reader.bits(zeros as u32);
                    break;
                }
                _ if reader.bit() => one,
                _ => -one,
            };
            // Past all coefficients that are known already and as many that stay zero.
            while index <= scan.last {
                let place = ZIGZAG[index % ZIGZAG.len()];
                if block.get(place) != 0 {
                    refine(reader, block, place, one);
                } else if zeros == 0 {
                    break;
                } else {
                    zeros -= 1;
                }
                index += 1;
            }
            if new != 0 {
                block.set(ZIGZAG[index % ZIGZAG.len()], new);
            }
            index += 1;
        }
    }
    if *run > 0 {
        for &place in ZIGZAG.get(index..=scan.last).unwrap_or_default() {
            if block.get(place) != 0 {
                refine(reader, block, place, one);
            }
        }
        *run -= 1;
    }
}

/// Reads the next bit of a coefficient.
#[inline(always)]
fn refine(reader: &mut BitReader<'_>, block: &mut Block<'_>, place: u8, one: i16) {
    let value = block.get(place);
    if reader.bit() && value & one == 0 {
        block.set(place, value.wrapping_add(if value >= 0 { one } else { -one }));
    }
}
