//! Huffman codes and the bits that they are read from. A scan's bytes are freed of their stuffing first, so that the
//! reader is a plain window of 64 bits; past the end it gives zeros, as libjpeg's does.

use super::super::Fault;

/// Bits that the first table is indexed with; longer codes are rare.
const LOOKAHEAD: u32 = 10;
/// Bits that are taken for a code that there is none of, as libjpeg does.
const BAD_CODE_BITS: u32 = 17;
/// Zeros behind the data, so that the reader may take whole words.
const PADDING: usize = 8;

/// A code and the magnitude bits after it, in one word, so that the next code's place depends on one look-up only.
#[derive(Clone, Copy, Default)]
pub(super) struct Entry(u32);

impl Entry {
    fn new(length: u32, symbol: u8) -> Self {
        let magnitude = u32::from(symbol & 15);
        Self(u32::from(symbol) << 16 | length << 8 | (length + magnitude))
    }

    /// Bits of the code and its magnitude.
    #[inline(always)]
    fn total(self) -> u32 {
        self.0 & 0xff
    }

    /// Bits of the code.
    #[inline(always)]
    fn length(self) -> u32 {
        self.0 >> 8 & 0xff
    }

    /// Bits of the magnitude.
    #[inline(always)]
    pub(super) fn magnitude(self) -> u32 {
        self.0 >> 16 & 15
    }

    /// Zeros before the coefficient.
    #[inline(always)]
    pub(super) fn run(self) -> usize {
        (self.0 >> 20) as usize
    }
}

/// A Huffman table.
pub(super) struct HuffmanTable {
    lookup: Box<[Entry; 1 << LOOKAHEAD]>,
    /// One past the last code of each length, at the top of 16 bits.
    limits: [u32; 17],
    /// What to add to a code of each length for its symbol's place.
    offsets: [i32; 17],
    symbols: [u8; 256],
    /// Why nothing may be decoded with it.
    fault: Option<&'static str>,
}

impl HuffmanTable {
    /// The table with `counts` codes of every length from 1 to 16 bits.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8], is_dc: bool) -> Self {
        let mut table = Self {
            lookup: Box::new([Entry::default(); 1 << LOOKAHEAD]),
            limits: [0; 17],
            offsets: [0; 17],
            symbols: [0; 256],
            fault: None,
        };
        if symbols.len() > 256 {
            table.fault = Some("more than 256 Huffman codes");
            return table;
        }
        if is_dc && symbols.iter().any(|&symbol| symbol > 15) {
            table.fault = Some("DC coefficients of more than 15 bits");
            return table;
        }
        table.symbols[..symbols.len()].copy_from_slice(symbols);
        let (mut code, mut place) = (0_u32, 0_usize);
        for (length, &count) in (1..=16_u32).zip(counts) {
            let index = length as usize;
            table.offsets[index] = place as i32 - code as i32;
            // No code may be all ones.
            if count > 0 && code + u32::from(count) >= 1 << length {
                table.fault = Some("more Huffman codes than there can be");
                return table;
            }
            for &symbol in symbols.iter().skip(place).take(usize::from(count)) {
                if length <= LOOKAHEAD {
                    let first = (code << (LOOKAHEAD - length)) as usize;
                    let entries = &mut table.lookup[first..first + (1 << (LOOKAHEAD - length))];
                    entries.fill(Entry::new(length, symbol));
                }
                code += 1;
            }
            place += usize::from(count);
            if count > 0 {
                table.limits[index] = code << (16 - length);
            }
            code <<= 1;
        }
        table
    }

    /// The table, if codes can be read with it.
    pub(super) fn checked(&self) -> Result<&Self, Fault> {
        match self.fault {
            Some(message) => Err(Fault::Damaged(message.to_owned())),
            None => Ok(self),
        }
    }

    /// The entry of a code that the first table doesn't have.
    #[cold]
    #[inline(never)]
    fn long(&self, bits: u64) -> Entry {
        let window = (bits >> 48) as u32;
        let length = (1..=16_u32).find(|&length| window < self.limits[length as usize]);
        let Some(length) = length else { return Entry(BAD_CODE_BITS << 8 | BAD_CODE_BITS) };
        let place = self.offsets[length as usize] + (window >> (16 - length)) as i32;
        Entry::new(length, self.symbols[place as usize & 0xff])
    }
}

/// Reads codes from a piece of a scan between two markers. It is copied for each block, so that it lies in registers.
#[derive(Clone, Copy)]
pub(super) struct BitReader<'a> {
    /// The bytes without stuffing, and zeros.
    data: &'a [u8],
    /// Where the next byte comes from; runs past the end as zeros are read.
    position: usize,
    /// The next bits, from the top.
    window: u64,
    /// How many of them are there.
    count: u32,
}

impl<'a> BitReader<'a> {
    /// A reader of bytes that [`unstuff`] has made.
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { data, position: 0, window: 0, count: 0 }
    }

    /// A reader of nothing, from which too much was read already or not yet.
    pub(super) fn finished(is_overrun: bool) -> Self {
        Self { data: &[], position: usize::from(is_overrun), window: 0, count: 0 }
    }

    /// Whether more was read than there is.
    #[inline(always)]
    pub(super) fn is_overrun(&self) -> bool {
        let available = self.data.len().saturating_sub(PADDING) * 8;
        self.position * 8 > available + self.count as usize
    }

    /// Makes at least 56 bits available.
    #[inline(always)]
    fn refill(&mut self) {
        let next = self.data.get(self.position..).and_then(<[u8]>::first_chunk);
        self.window |= next.map_or(0, |&bytes| u64::from_be_bytes(bytes)) >> self.count;
        self.position += (63 - self.count) as usize >> 3;
        self.count |= 56;
    }

    #[inline(always)]
    fn consume(&mut self, bits: u32) {
        self.window <<= bits;
        self.count -= bits;
    }

    /// Reads a code and the value of its magnitude bits (0 where there are none).
    #[inline(always)]
    pub(super) fn coefficient(&mut self, table: &HuffmanTable) -> (Entry, i32) {
        self.refill();
        let mut entry = table.lookup[(self.window >> (64 - LOOKAHEAD)) as usize];
        if entry.total() == 0 {
            entry = table.long(self.window);
        }
        let value = extend(self.window << entry.length(), entry.magnitude());
        self.consume(entry.total());
        (entry, value)
    }

    /// Reads a code alone.
    #[inline(always)]
    pub(super) fn code(&mut self, table: &HuffmanTable) -> Entry {
        self.refill();
        let mut entry = table.lookup[(self.window >> (64 - LOOKAHEAD)) as usize];
        if entry.total() == 0 {
            entry = table.long(self.window);
        }
        self.consume(entry.length());
        entry
    }

    /// Reads up to 16 bits as a number.
    #[inline(always)]
    pub(super) fn bits(&mut self, count: u32) -> u32 {
        self.refill();
        let value = (self.window >> 1 >> (63 - count)) as u32;
        self.consume(count);
        value
    }

    /// Reads one bit.
    #[inline(always)]
    pub(super) fn bit(&mut self) -> bool {
        if self.count == 0 {
            self.refill();
        }
        let bit = self.window >> 63 == 1;
        self.consume(1);
        bit
    }
}

/// The signed value of the first `magnitude` bits of `bits`: numbers that start with a 0 are negative.
#[inline(always)]
fn extend(bits: u64, magnitude: u32) -> i32 {
    let value = (bits >> 1 >> (63 - magnitude)) as i32;
    let negative = !((bits as i64 >> 63) as i32);
    value - (negative & ((1 << magnitude) - 1))
}

/// Appends the bytes from `position` up to the next marker to `output`, which is cleared before, without their stuffing,
/// and the padding that a [`BitReader`] needs. Returns where the marker's 0xff is, and the marker; or nothing where the data
/// ends.
pub(super) fn unstuff(bytes: &[u8], position: usize, output: &mut Vec<u8>) -> Option<(usize, u8)> {
    output.clear();
    let mut rest = bytes.get(position..).unwrap_or_default();
    let marker = loop {
        let plain = find_ff(rest);
        let (copied, after) = rest.split_at(plain);
        output.extend_from_slice(copied);
        // Any number of 0xff may stand before the byte that says what they are.
        let fill = after.iter().take_while(|&&byte| byte == 0xff).count();
        match after.get(fill) {
            None => break None,
            Some(0) => {
                output.push(0xff);
                rest = &after[fill + 1..];
            }
            Some(&marker) => break Some((bytes.len() - after.len() + fill - 1, marker)),
        }
    };
    output.extend_from_slice(&[0; PADDING]);
    marker
}

/// The position of the first 0xff, or the length.
fn find_ff(bytes: &[u8]) -> usize {
    let (words, _) = bytes.as_chunks::<32>();
    let clean =
        words.iter().take_while(|word| word.iter().fold(0, |any, &b| any | u8::from(b == 0xff)) == 0).count();
    let start = clean * 32;
    let found = bytes[start..].iter().position(|&byte| byte == 0xff);
    found.map_or(bytes.len(), |offset| start + offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magnitudes_are_signed() {
        let cases = [(0b0, 1, -1), (0b1, 1, 1), (0b00, 2, -3), (0b01, 2, -2), (0b10, 2, 2), (0b11, 2, 3)];
        for (bits, magnitude, expected) in cases {
            assert_eq!(extend(bits << (64 - magnitude), magnitude), expected, "{bits:b}");
        }
        assert_eq!(extend(u64::MAX, 0), 0);
        assert_eq!(extend(0, 0), 0);
    }

    #[test]
    fn codes_of_every_length_are_read() {
        // One code of every length: 0, 10, 110, ...
        let symbols: Vec<u8> = (0..16).map(|length| length << 4).collect();
        let table = HuffmanTable::new(&[1; 16], &symbols, false);
        let mut bits = Vec::new();
        for length in 0..16 {
            bits.extend(std::iter::repeat_n(1_u8, length));
            bits.push(0);
        }
        let bytes: Vec<u8> = bits
            .chunks(8)
            .map(|byte| (0..8).fold(0, |sum, i| sum << 1 | byte.get(i).unwrap_or(&0)))
            .collect();
        let mut data = Vec::new();
        let stuffed: Vec<u8> =
            bytes.iter().flat_map(|&byte| if byte == 0xff { vec![0xff, 0] } else { vec![byte] }).collect();
        assert_eq!(unstuff(&stuffed, 0, &mut data), None);
        let mut reader = BitReader::new(&data);
        let found: Vec<usize> = (0..16).map(|_| reader.code(&table).run()).collect();
        assert_eq!(found, (0..16).collect::<Vec<_>>());
        assert!(!reader.is_overrun());
    }

    #[test]
    fn markers_end_a_piece_and_stuffing_does_not() {
        let mut data = Vec::new();
        assert_eq!(unstuff(&[9, 1, 0xff, 0, 2, 0xff, 0xff, 0xd9, 5], 1, &mut data), Some((6, 0xd9)));
        assert_eq!(data[..data.len() - PADDING], [1, 0xff, 2]);
        let mut reader = BitReader::new(&data);
        assert_eq!(reader.bits(16), 0x01ff);
        assert_eq!(reader.bits(8), 2);
        assert!(!reader.is_overrun());
        assert!(!reader.bit());
        assert!(reader.is_overrun());
    }

    #[test]
    fn impossible_tables_are_refused() {
        let mut counts = [0; 16];
        for count in [2, 3] {
            counts[0] = count;
            assert!(HuffmanTable::new(&counts, &[1, 2, 3][..count.into()], false).checked().is_err());
        }
        counts[0] = 1;
        assert!(HuffmanTable::new(&counts, &[16], true).checked().is_err());
        assert!(HuffmanTable::new(&counts, &[16], false).checked().is_ok());
    }
}
