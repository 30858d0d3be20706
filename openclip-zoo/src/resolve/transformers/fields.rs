//! A section of a configuration, of which every field has to be accounted for.

use openclip_core::{Error, Result};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The fields of a section that haven't been looked at yet.
pub(super) struct Fields {
    origin: String,
    /// What error messages put in front of a field: nothing, or the section with a dot.
    section: String,
    fields: Map<String, Value>,
}

impl Fields {
    /// The section `section` of the file `origin`; the file itself if `section` is empty. `null` stands for a field that
    /// isn't there.
    pub(super) fn new(origin: &str, section: &str, mut fields: Map<String, Value>) -> Self {
        fields.retain(|_, value| !value.is_null());
        let section = if section.is_empty() { String::new() } else { format!("{section}.") };
        Self { origin: origin.to_owned(), section, fields }
    }

    /// Takes `field`, if it is there.
    ///
    /// # Errors
    /// [`Error::Config`] when it is of another type.
    pub(super) fn take<T: DeserializeOwned>(&mut self, field: &str) -> Result<Option<T>> {
        let value = self.fields.remove(field);
        let parsed =
            value.map(|value| serde_json::from_value(value).map_err(|error| self.wrong(field, error)));
        parsed.transpose()
    }

    /// Takes `field`, or what transformers assumes where it isn't there.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub(super) fn take_or<T: DeserializeOwned>(&mut self, field: &str, default: T) -> Result<T> {
        Ok(self.take(field)?.unwrap_or(default))
    }

    /// Passes over fields that have no influence on embeddings.
    pub(super) fn ignore(&mut self, fields: &[&str]) {
        self.fields.retain(|field, _| !fields.contains(&field.as_str()));
    }

    /// Says that everything has been looked at.
    ///
    /// # Errors
    /// [`Error::Config`] naming a field that is left: nobody knows what it changes.
    pub(super) fn finish(self) -> Result<()> {
        match self.fields.iter().next() {
            None => Ok(()),
            Some((field, value)) => {
                let message = format!("`{}{field}` is {value}, and this field isn't known", self.section);
                Err(Error::config(self.origin, message))
            }
        }
    }

    /// An error about `field`.
    pub(super) fn wrong(&self, field: &str, message: impl std::fmt::Display) -> Error {
        Error::config(&self.origin, format!("`{}{field}`: {message}", self.section))
    }
}
