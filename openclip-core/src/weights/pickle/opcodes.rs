//! The instructions of a pickle, protocols 0 to 5, with their arguments decoded. Nothing is carried out here.
//!
//! The format is described in the comments of CPython's `Lib/pickletools.py`.

use std::borrow::Cow;

use super::value::Fault;

/// An instruction.
#[derive(Debug, PartialEq)]
pub(super) enum Op<'p> {
    /// Nothing to do: protocol version and framing.
    Skip,
    Mark,
    Stop,
    Pop,
    PopMark,
    Dup,
    /// Pushes a value that no tensor depends on.
    Inert,
    Int(i64),
    Str(Cow<'p, str>),
    EmptyTuple,
    /// A tuple of the topmost values, so many of them.
    TupleOf(usize),
    /// A tuple of the values since the mark.
    Tuple,
    EmptyList,
    List,
    Append,
    Appends,
    EmptySet,
    FrozenSet,
    AddItems,
    EmptyDict,
    Dict,
    SetItem,
    SetItems,
    Get(u32),
    Put(u32),
    Memoize,
    Global(&'p str, &'p str),
    StackGlobal,
    Reduce,
    Build,
    NewObj,
    NewObjEx,
    PersistentId,
}

/// The instructions of a pickle, one after the other.
pub(super) struct Ops<'p> {
    bytes: &'p [u8],
    position: usize,
}

impl<'p> Ops<'p> {
    /// The instructions of `bytes`.
    pub(super) fn new(bytes: &'p [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// Where in the pickle the next instruction starts.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// The next instruction.
    pub(super) fn next(&mut self) -> Result<Op<'p>, Fault> {
        let at = self.position;
        let code = self.byte()?;
        Ok(match code {
            b'(' => Op::Mark,
            b'.' => Op::Stop,
            b'0' => Op::Pop,
            b'1' => Op::PopMark,
            b'2' => Op::Dup,
            // None, floats, byte strings.
            b'N' => Op::Inert,
            b'F' => {
                self.line()?;
                Op::Inert
            }
            b'G' => {
                self.take(8)?;
                Op::Inert
            }
            b'C' | b'B' | 0x8e | 0x96 => {
                let length = match code {
                    b'C' => u64::from(self.byte()?),
                    b'B' => u64::from(self.u32()?),
                    _ => u64::from_le_bytes(self.array()?),
                };
                self.counted(length)?;
                Op::Inert
            }
            // Whole numbers. `I01` and `I00` are booleans.
            b'I' | b'L' => {
                let line = self.line()?;
                whole(line.strip_suffix('L').unwrap_or(line))
            }
            b'J' => Op::Int(i64::from(i32::from_le_bytes(self.array()?))),
            b'K' => Op::Int(i64::from(self.byte()?)),
            b'M' => Op::Int(i64::from(u16::from_le_bytes(self.array()?))),
            0x8a => {
                let length = u64::from(self.byte()?);
                little_endian(self.counted(length)?)
            }
            0x8b => {
                let length = u64::from(self.u32()?);
                little_endian(self.counted(length)?)
            }
            0x88 => Op::Int(1),
            0x89 => Op::Int(0),
            // Text. What isn't UTF-8 can't be the name of a tensor or of a Python object.
            b'S' | b'V' => Op::Str(Cow::Borrowed(unquoted(self.line()?))),
            b'U' | 0x8c => {
                let length = u64::from(self.byte()?);
                text(self.counted(length)?)
            }
            b'T' | b'X' => {
                let length = u64::from(self.u32()?);
                text(self.counted(length)?)
            }
            0x8d => {
                let length = u64::from_le_bytes(self.array()?);
                text(self.counted(length)?)
            }
            b')' => Op::EmptyTuple,
            b't' => Op::Tuple,
            0x85 => Op::TupleOf(1),
            0x86 => Op::TupleOf(2),
            0x87 => Op::TupleOf(3),
            b']' => Op::EmptyList,
            b'l' => Op::List,
            b'a' => Op::Append,
            b'e' => Op::Appends,
            0x8f => Op::EmptySet,
            0x90 => Op::AddItems,
            0x91 => Op::FrozenSet,
            b'}' => Op::EmptyDict,
            b'd' => Op::Dict,
            b's' => Op::SetItem,
            b'u' => Op::SetItems,
            b'g' => Op::Get(self.line_index()?),
            b'h' => Op::Get(u32::from(self.byte()?)),
            b'j' => Op::Get(self.u32()?),
            b'p' => Op::Put(self.line_index()?),
            b'q' => Op::Put(u32::from(self.byte()?)),
            b'r' => Op::Put(self.u32()?),
            0x94 => Op::Memoize,
            b'c' => Op::Global(self.line()?, self.line()?),
            0x93 => Op::StackGlobal,
            b'R' => Op::Reduce,
            b'b' => Op::Build,
            0x81 => Op::NewObj,
            0x92 => Op::NewObjEx,
            b'Q' => Op::PersistentId,
            0x80 => {
                self.byte()?;
                Op::Skip
            }
            0x95 => {
                self.take(8)?;
                Op::Skip
            }
            // `INST` names the class that it makes; the name is worth reporting.
            b'i' => return Err(Fault::Unsafe(format!("{}.{}", self.line()?, self.line()?))),
            other => {
                return Err(Fault::Malformed(format!(
                    "its pickle has instruction 0x{other:02x} at byte {at}, which no checkpoint needs; the file is damaged or not a checkpoint"
                )));
            }
        })
    }

    fn take(&mut self, count: usize) -> Result<&'p [u8], Fault> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let taken = rest.get(..count).ok_or_else(|| {
            Fault::Malformed(format!(
                "its pickle is cut off after {} bytes; get the file again",
                self.bytes.len()
            ))
        })?;
        self.position += count;
        Ok(taken)
    }

    fn counted(&mut self, length: u64) -> Result<&'p [u8], Fault> {
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        self.array().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Fault> {
        self.array().map(u32::from_le_bytes)
    }

    /// The text up to the next line break, which is consumed.
    fn line(&mut self) -> Result<&'p str, Fault> {
        let at = self.position;
        let rest = self.bytes.get(at..).unwrap_or_default();
        let length = rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
        let line = self.take(length)?;
        self.take(1)?;
        std::str::from_utf8(line)
            .map(|line| line.strip_suffix('\r').unwrap_or(line))
            .map_err(|_| Fault::Malformed(format!("its pickle has a line at byte {at} that is not text")))
    }

    fn line_index(&mut self) -> Result<u32, Fault> {
        let at = self.position;
        self.line()?.parse().map_err(|_| {
            Fault::Malformed(format!("its pickle has no memo index at byte {at}; the file is damaged"))
        })
    }
}

fn whole(digits: &str) -> Op<'static> {
    digits.parse().map_or(Op::Inert, Op::Int)
}

/// Two's complement of any length; what is beyond 64 bits matters to no tensor.
fn little_endian(bytes: &[u8]) -> Op<'static> {
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    match wide.get_mut(..bytes.len()) {
        Some(low) => {
            low.copy_from_slice(bytes);
            Op::Int(i64::from_le_bytes(wide))
        }
        None => Op::Inert,
    }
}

fn text(bytes: &[u8]) -> Op<'_> {
    std::str::from_utf8(bytes).map_or(Op::Inert, |text| Op::Str(Cow::Borrowed(text)))
}

/// The text of protocol 0 without its quotes. Escapes are left as they are: names have none.
fn unquoted(line: &str) -> &str {
    let quoted = |quote: char| line.strip_prefix(quote).and_then(|line| line.strip_suffix(quote));
    quoted('\'').or_else(|| quoted('"')).unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(bytes: &[u8]) -> Result<Op<'_>, Fault> {
        let mut ops = Ops::new(bytes);
        let op = ops.next();
        assert!(op.is_err() || ops.position() == bytes.len(), "{bytes:?}");
        op
    }

    #[test]
    fn numbers_of_every_encoding() {
        let cases: [(&[u8], Op<'_>); 12] = [
            (b"I-7\n", Op::Int(-7)),
            (b"I01\n", Op::Int(1)),
            (b"L42L\n", Op::Int(42)),
            (b"J\xfe\xff\xff\xff", Op::Int(-2)),
            (b"K\xff", Op::Int(255)),
            (b"M\x00\x01", Op::Int(256)),
            (b"\x8a\x00", Op::Int(0)),
            (b"\x8a\x02\x00\xff", Op::Int(-256)),
            (b"\x8a\x09\0\0\0\0\0\0\0\0\x01", Op::Inert),
            (b"\x8b\x01\0\0\0\x05", Op::Int(5)),
            (b"\x88", Op::Int(1)),
            (b"G\0\0\0\0\0\0\0\0", Op::Inert),
        ];
        for (bytes, expected) in cases {
            assert_eq!(only(bytes), Ok(expected), "{bytes:?}");
        }
    }

    #[test]
    fn text_of_every_encoding() {
        let cases: [&[u8]; 7] = [
            b"S'abc'\n",
            b"Vabc\n",
            b"U\x03abc",
            b"\x8c\x03abc",
            b"X\x03\0\0\0abc",
            b"T\x03\0\0\0abc",
            b"\x8d\x03\0\0\0\0\0\0\0abc",
        ];
        for bytes in cases {
            assert_eq!(only(bytes), Ok(Op::Str("abc".into())), "{bytes:?}");
        }
        assert_eq!(only(b"X\x02\0\0\0\xff\xfe"), Ok(Op::Inert));
        assert_eq!(only(b"cos\nsystem\n"), Ok(Op::Global("os", "system")));
    }

    #[test]
    fn what_is_cut_off_or_unknown_is_refused() {
        for bytes in [
            &b""[..],
            b"X\xff\xff\xff\xffabc",
            b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffabc",
            b"cos\nsys",
            b"J\0",
        ] {
            let Err(Fault::Malformed(message)) = only(bytes) else { panic!("{bytes:?}") };
            assert!(message.contains("cut off"), "{message}");
        }
        // Extension registry, out-of-band buffers, objects of protocol 1, persistent ids as text.
        for code in [0x82, 0x83, 0x84, 0x97, 0x98, b'o', b'P', 0xff] {
            assert!(matches!(only(&[code, 0, 0, 0, 0]), Err(Fault::Malformed(_))), "{code}");
        }
        assert_eq!(only(b"ios\nsystem\n"), Err(Fault::Unsafe("os.system".into())));
    }
}
