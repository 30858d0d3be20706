//! Where things are said: tables on stdout, or records there and tables on stderr.

use std::io::{self, Write};

use anyhow::Result;

use super::record::Record;

/// What is said, and to whom.
pub struct Output {
    json: bool,
}

impl Output {
    /// Records on stdout where `json` says so, else none.
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Says something to people.
    pub fn text(&self, text: &str) {
        let mut stream: Box<dyn Write> =
            if self.json { Box::new(io::stderr()) } else { Box::new(io::stdout()) };
        // Whoever closes the stream has heard enough.
        let _ = writeln!(stream, "{text}");
    }

    /// Says something to programs.
    ///
    /// # Errors
    /// When stdout can't be written to.
    pub fn record(&self, record: &Record) -> Result<()> {
        if self.json {
            let mut stdout = io::stdout().lock();
            writeln!(stdout, "{}", serde_json::to_string(record)?)?;
            stdout.flush()?;
        }
        Ok(())
    }
}
