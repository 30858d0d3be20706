//! Features on the disk, so that an interrupted evaluation goes on where it was and a second one computes nothing.
//!
//! A [`Journal`] is a folder with `rows.f32`, the features one after the other, and `journal.jsonl`, a line for each batch:
//! how many rows it added, their checksum, and which inputs have none. A line is written when its rows are, so that whatever
//! a cut leaves behind the last whole line is computed again.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};

/// A folder with a journal for each model and dataset.
#[derive(Clone, Debug)]
pub struct FeatureStore {
    folder: PathBuf,
}

/// A line of the journal.
#[derive(Serialize, Deserialize)]
struct Line {
    /// Width of a row.
    width: usize,
    /// Rows that the batch added.
    rows: usize,
    /// CRC-32 of their bytes.
    crc32: u32,
    /// Inputs of the batch: nothing for one that has a row, or why it has none.
    broken: Vec<Option<String>>,
}

/// What was computed for an input: the number of its row, or why there is none.
pub type Saved = std::result::Result<usize, String>;

/// Features that are kept as they are computed.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    /// Held while the journal is in use.
    _lock: File,
    rows: BufWriter<File>,
    lines: File,
    /// What was computed in earlier runs.
    saved: Vec<Saved>,
    values: Vec<f32>,
    width: usize,
}

impl FeatureStore {
    /// A store in `folder`, which needn't be there yet.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The journal of what `parts` identify: everything that the features depend on. `label` makes its folder's name readable.
    /// Waits while another process uses it.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder can't be made or read.
    pub fn journal(&self, label: &str, parts: &[&[u8]]) -> Result<Journal> {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let digest: String = hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let plain = |character: char| character.is_ascii_alphanumeric() || "-._".contains(character);
        let label: String =
            label.chars().map(|character| if plain(character) { character } else { '_' }).take(80).collect();
        Journal::open(&self.folder.join(format!("{label}-{digest}")))
    }
}

impl Journal {
    /// Opens the journal of a folder, and cuts off what isn't whole.
    fn open(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let open = |name: &str| {
            let path = folder.join(name);
            let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
            options.map_err(Error::io(&path))
        };
        let lock = open("lock")?;
        lock.lock().map_err(Error::io(folder))?;
        let (mut rows, mut lines) = (open("rows.f32")?, open("journal.jsonl")?);
        let mut journal_end = 0;
        let (mut saved, mut values, mut width) = (Vec::new(), Vec::new(), 0);
        let mut reader = BufReader::new(&lines);
        let mut data = BufReader::new(&rows);
        let mut text = String::new();
        loop {
            text.clear();
            let length = reader.read_line(&mut text).unwrap_or(0);
            let Some(line) = whole_line(&text) else { break };
            let Some(batch) = read_batch(&mut data, &line) else { break };
            if width != 0 && line.width != width {
                break;
            }
            width = line.width;
            saved.extend(in_rows(line.broken, saved_rows(&values, width)));
            values.extend(batch);
            journal_end += length as u64;
        }
        let rows_end = 4 * values.len() as u64;
        let cut = |file: &mut File, end: u64| {
            file.set_len(end)?;
            file.seek(SeekFrom::Start(end))
        };
        cut(&mut lines, journal_end).map_err(Error::io(folder))?;
        cut(&mut rows, rows_end).map_err(Error::io(folder))?;
        let rows = BufWriter::new(rows);
        Ok(Self { folder: folder.to_owned(), _lock: lock, rows, lines, saved, values, width })
    }

    /// What earlier runs computed, input by input.
    pub fn saved(&self) -> &[Saved] {
        &self.saved
    }

    /// Adds a batch: for each input nothing, or the reason why it has no row, and the rows of the others, `[N, width]`.
    ///
    /// # Errors
    /// [`Error::Io`] when it can't be written.
    pub fn add(&mut self, broken: Vec<Option<String>>, rows: &[f32], width: usize) -> Result<()> {
        let bytes: Vec<u8> = rows.iter().flat_map(|value| value.to_le_bytes()).collect();
        let line = Line { width, rows: rows.len() / width.max(1), crc32: crc32fast::hash(&bytes), broken };
        let mut write = || {
            self.rows.write_all(&bytes)?;
            self.rows.flush()?;
            let mut text = serde_json::to_string(&line)?;
            text.push('\n');
            self.lines.write_all(text.as_bytes())
        };
        write().map_err(Error::io(&self.folder))?;
        self.saved.extend(in_rows(line.broken, saved_rows(&self.values, width)));
        self.values.extend_from_slice(rows);
        self.width = width;
        Ok(())
    }

    /// All that was computed: what there is for each input, the rows, and their width.
    pub fn into_parts(self) -> (Vec<Saved>, Vec<f32>, usize) {
        (self.saved, self.values, self.width)
    }
}

/// What there is for each input of a batch whose first row is `first`.
fn in_rows(broken: Vec<Option<String>>, first: usize) -> impl Iterator<Item = Saved> {
    broken.into_iter().scan(first, |row, reason| {
        Some(reason.map_or_else(
            || {
                *row += 1;
                Ok(*row - 1)
            },
            Err,
        ))
    })
}

fn saved_rows(values: &[f32], width: usize) -> usize {
    values.len() / width.max(1)
}

/// A line that ends where it should and says what it should.
fn whole_line(text: &str) -> Option<Line> {
    let line: Line = serde_json::from_str(text.strip_suffix('\n')?).ok()?;
    let rows = line.broken.iter().filter(|reason| reason.is_none()).count();
    (rows == line.rows && (line.width > 0 || rows == 0)).then_some(line)
}

/// The rows of a batch, if they are there and undamaged.
fn read_batch(data: &mut impl Read, line: &Line) -> Option<Vec<f32>> {
    let length = line.rows.checked_mul(line.width)?.checked_mul(4)?;
    let mut bytes = Vec::new();
    data.take(length as u64).read_to_end(&mut bytes).ok()?;
    if bytes.len() != length || crc32fast::hash(&bytes) != line.crc32 {
        return None;
    }
    Some(bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_goes_on_where_it_was_cut() {
        let folder = tempfile::tempdir().unwrap();
        let store = FeatureStore::new(folder.path());
        let open = |parts: &[&[u8]]| store.journal("model/data", parts).unwrap();
        let mut journal = open(&[b"a", b"b"]);
        assert!(journal.saved().is_empty());
        journal.add(vec![None, Some("0.png is broken".into()), None], &[1.0, 2.0, 3.0, 4.0], 2).unwrap();
        journal.add(vec![None], &[5.0, 6.0], 2).unwrap();
        let path = journal.folder.clone();
        assert!(path.file_name().unwrap().to_str().unwrap().starts_with("model_data-"));
        drop(journal);
        let expected = vec![Ok(0), Err("0.png is broken".to_owned()), Ok(1), Ok(2)];
        assert_eq!(open(&[b"a", b"b"]).saved(), expected);
        assert!(open(&[b"ab", b""]).saved().is_empty(), "other parts");

        // Half a line, rows without a line, and damaged rows.
        let lines = path.join("journal.jsonl");
        let whole = fs::read(&lines).unwrap();
        fs::write(&lines, &whole[..whole.len() - 3]).unwrap();
        let mut journal = open(&[b"a", b"b"]);
        assert_eq!(journal.saved(), &expected[..3]);
        journal.add(vec![None], &[7.0, 8.0], 2).unwrap();
        drop(journal);
        let (saved, values, width) = open(&[b"a", b"b"]).into_parts();
        assert_eq!((saved.len(), width, &values[4..]), (4, 2, &[7.0, 8.0][..]));
        let rows = path.join("rows.f32");
        let mut damaged = fs::read(&rows).unwrap();
        damaged[1] ^= 1;
        fs::write(&rows, damaged).unwrap();
        assert!(open(&[b"a", b"b"]).saved().is_empty());
    }
}
