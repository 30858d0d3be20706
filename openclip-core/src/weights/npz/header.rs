//! The header of a `.npy` array: a magic number, a length, and a Python dictionary literal in ASCII.
//!
//! The format is described in NumPy's `numpy.lib.format`.

use super::super::{DType, strided::Strided};

/// The longest header that is read. NumPy itself refuses longer ones than 10 000 bytes unless it is told otherwise.
pub(super) const MAX_HEADER_BYTES: usize = 1 << 16;

const MAGIC: &[u8] = b"\x93NUMPY";

/// What a header says of its array.
#[derive(Debug)]
pub(super) struct Header {
    /// The element type in NumPy's notation.
    pub(super) descr: String,
    /// `None` if no model here uses the element type, or its elements are big-endian.
    pub(super) dtype: Option<DType>,
    /// Where the elements lie behind the header; of bytes if the element type isn't known.
    pub(super) strided: Strided,
    /// Bytes of magic number, length and dictionary: where the elements start.
    pub(super) bytes: usize,
}

impl Header {
    /// Bytes of all elements, if they can be read.
    pub(super) fn element_bytes(&self) -> Option<usize> {
        let size = self.dtype?.size();
        self.strided.dims.iter().try_fold(size, |bytes, &dim| bytes.checked_mul(dim))
    }

    /// Reads the header at the start of `content`, which may end behind it.
    pub(super) fn read(content: &[u8]) -> Result<Self, String> {
        let cut = || "it is cut off within its header".to_owned();
        let rest = content.strip_prefix(MAGIC).ok_or("it doesn't start as a NumPy array does")?;
        let (&[major, _minor], rest) = rest.split_first_chunk::<2>().ok_or_else(cut)?;
        let (length, rest) = match major {
            1 => {
                let (length, rest) = rest.split_first_chunk::<2>().ok_or_else(cut)?;
                (usize::from(u16::from_le_bytes(*length)), rest)
            }
            2 | 3 => {
                let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
                (usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX), rest)
            }
            _ => return Err(format!("it has version {major} of the format, and 1 to 3 are known")),
        };
        let before = content.len() - rest.len();
        if length > MAX_HEADER_BYTES {
            return Err(format!("its header has {length} bytes, more than any array's of numbers"));
        }
        let text = rest.get(..length).ok_or_else(cut)?;
        let text = std::str::from_utf8(text).map_err(|_| "its header isn't text")?;
        let literal = Literal(text)
            .dictionary()
            .ok_or_else(|| format!("its header isn't what NumPy writes: {}", shown(text)))?;
        let dtype = dtype(&literal.descr);
        let size = dtype.map_or(1, DType::size);
        let strided = match literal.fortran_order {
            true => Strided::column_major(size, &literal.shape),
            false => Strided::row_major(size, &literal.shape),
        };
        let strided =
            strided.ok_or_else(|| format!("{:?} are more elements than can be addressed", literal.shape))?;
        Ok(Self { descr: literal.descr, dtype, strided, bytes: before + length })
    }
}

/// The start of a text, for messages.
fn shown(text: &str) -> String {
    text.trim_end().chars().take(80).collect()
}

/// Element types by NumPy's notation. Programs in JAX write bfloat16, which NumPy hasn't got, as two bytes without a type.
fn dtype(descr: &str) -> Option<DType> {
    let dtype = match descr {
        "<f4" => DType::F32,
        "<f2" => DType::F16,
        "|V2" | "<V2" => DType::Bf16,
        "<f8" => DType::F64,
        "|u1" | "|b1" => DType::U8,
        "|i1" => DType::I8,
        "<i2" => DType::I16,
        "<i4" => DType::I32,
        "<i8" => DType::I64,
        _ => return None,
    };
    Some(dtype)
}

/// The dictionary's three items.
#[derive(Default)]
struct Items {
    descr: String,
    fortran_order: bool,
    shape: Vec<usize>,
}

/// What is left of a Python literal.
struct Literal<'a>(&'a str);

impl<'a> Literal<'a> {
    fn skip(&mut self, token: &str) -> Option<()> {
        self.0 = self.0.trim_start().strip_prefix(token)?;
        Some(())
    }

    fn dictionary(mut self) -> Option<Items> {
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        self.skip("{")?;
        while self.skip("}").is_none() {
            let key = self.string()?;
            self.skip(":")?;
            match key {
                "descr" => descr = Some(self.descr()?),
                "fortran_order" => fortran_order = Some(self.boolean()?),
                "shape" => shape = Some(self.tuple()?),
                _ => return None,
            }
            if self.skip(",").is_none() {
                self.skip("}")?;
                break;
            }
        }
        let is_end = self.0.trim().is_empty();
        is_end.then_some(Items { descr: descr?, fortran_order: fortran_order?, shape: shape? })
    }

    fn string(&mut self) -> Option<&'a str> {
        let text = self.0.trim_start();
        let quote = text.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
        let (string, rest) = text.strip_prefix(quote)?.split_once(quote)?;
        self.0 = rest;
        Some(string)
    }

    /// A type, or the list of a record's fields, which is no type that can be read.
    fn descr(&mut self) -> Option<String> {
        if let Some(string) = self.string() {
            return Some(string.to_owned());
        }
        let (record, rest) = self.0.trim_start().strip_prefix('[')?.split_once(']')?;
        self.0 = rest;
        Some(format!("[{record}]"))
    }

    fn boolean(&mut self) -> Option<bool> {
        self.skip("True").map(|()| true).or_else(|| self.skip("False").map(|()| false))
    }

    fn tuple(&mut self) -> Option<Vec<usize>> {
        let (items, rest) = self.0.trim_start().strip_prefix('(')?.split_once(')')?;
        self.0 = rest;
        let items = items.trim();
        let items = items.strip_suffix(',').unwrap_or(items);
        match items.is_empty() {
            true => Some(Vec::new()),
            // Python 2 marked long integers.
            false => items.split(',').map(|item| item.trim().trim_end_matches('L').parse().ok()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(version: u8, literal: &str) -> Vec<u8> {
        let length = literal.len() as u32;
        let length =
            if version == 1 { (length as u16).to_le_bytes().to_vec() } else { length.to_le_bytes().to_vec() };
        [MAGIC, &[version, 0], &length, literal.as_bytes()].concat()
    }

    #[test]
    fn headers_of_all_versions_are_read() {
        let cases = [
            (
                1,
                "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }   \n",
                DType::F32,
                vec![3, 2],
                vec![2, 1],
            ),
            (
                2,
                "{\"descr\": \"|V2\", \"fortran_order\": True, \"shape\": (3L, 2L)}",
                DType::Bf16,
                vec![3, 2],
                vec![1, 3],
            ),
            (3, "{'shape': (), 'fortran_order': False, 'descr': '<f2'}", DType::F16, vec![], vec![]),
            (1, "{'shape': (5,), 'fortran_order': False, 'descr': '|b1'}", DType::U8, vec![5], vec![1]),
        ];
        for (version, literal, dtype, dims, strides) in cases {
            let content = array(version, literal);
            let header = Header::read(&[&content[..], &[0; 99]].concat()).unwrap();
            assert_eq!((header.dtype, header.bytes), (Some(dtype), content.len()), "{literal}");
            assert_eq!((header.strided.dims, header.strided.strides), (dims, strides), "{literal}");
        }
    }

    #[test]
    fn other_element_types_are_kept_by_name() {
        for descr in ["'>f4'", "'<c8'", "'|O'", "[('a', '<f4'), ('b', '<i4')]"] {
            let literal = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (2,), }}");
            let header = Header::read(&array(1, &literal)).unwrap();
            assert_eq!(header.dtype, None, "{descr}");
            assert_eq!(header.descr, descr.trim_matches('\''));
            assert_eq!(header.element_bytes(), None);
        }
    }

    #[test]
    fn what_is_no_header_is_said() {
        let cases: [(Vec<u8>, &str); 8] = [
            (b"\x93NUMP".to_vec(), "doesn't start"),
            (MAGIC.to_vec(), "cut off"),
            (array(4, "{}"), "version 4"),
            (array(1, "{'descr': '<f4'}"), "isn't what NumPy writes"),
            (array(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}"), "isn't what NumPy writes"),
            (
                array(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} x"),
                "isn't what NumPy writes",
            ),
            (
                array(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999, 9999999999)}"),
                "more elements",
            ),
            ([MAGIC, &[2, 0], &u32::MAX.to_le_bytes()].concat(), "more than any"),
        ];
        for (content, expected) in cases {
            let message = Header::read(&content).unwrap_err();
            assert!(message.contains(expected), "`{expected}` not in `{message}`");
        }
        let whole = array(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}");
        for length in 0..whole.len() {
            assert!(Header::read(&whole[..length]).is_err(), "{length}");
        }
    }
}
