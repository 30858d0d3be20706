//! Names that come from a registry, a hub or a user and end up in addresses and in paths of the cache: repositories,
//! revisions, files and digests. A value of these types is safe in both places, so that no name escapes the cache.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::HubError;

/// Everything but RFC 3986's unreserved characters, as Python's client encodes a path segment.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The longest name of a repository that the hub allows.
const LONGEST_REPOSITORY: usize = 96;

fn invalid(kind: &'static str, name: &str, reason: &str) -> HubError {
    HubError::InvalidName { kind, name: name.to_owned(), reason: reason.to_owned() }
}

fn encode(segment: &str) -> String {
    utf8_percent_encode(segment, SEGMENT).to_string()
}

/// Whether `text` can be one component of a path on every platform, and stays where it is put.
pub(crate) fn is_plain_component(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 255
        && text != "."
        && text != ".."
        && !text.ends_with(['.', ' '])
        && !text
            .chars()
            .any(|c| c.is_control() || matches!(c, '/' | '\\' | ':' | '<' | '>' | '"' | '|' | '?' | '*'))
}

/// A repository of the hub, `org/name` or a bare `name`: with a model, unless it is said to be a dataset's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RepositoryId {
    name: String,
    is_dataset: bool,
}

impl RepositoryId {
    /// Checks `name` by the hub's own rules: one or two parts of letters, digits, `-`, `_` and `.`, none of which
    /// starts or ends with `-` or `.`, without `--` and `..`.
    ///
    /// # Errors
    /// [`HubError::InvalidName`].
    pub fn parse(name: &str) -> Result<Self, HubError> {
        let fail = |reason| Err(invalid("repository", name, reason));
        if name.len() > LONGEST_REPOSITORY {
            return fail("it has more than 96 characters");
        }
        if name.split('/').count() > 2 {
            return fail("it has more than two parts; write `org/name`");
        }
        for part in name.split('/') {
            if part.is_empty()
                || !part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
            {
                return fail("write `org/name` with letters, digits, `-`, `_` and `.`");
            }
            if part.starts_with(['-', '.']) || part.ends_with(['-', '.']) {
                return fail("no part may start or end with `-` or `.`");
            }
        }
        if name.contains("--") || name.contains("..") {
            return fail("`--` and `..` are not allowed");
        }
        Ok(Self { name: name.to_owned(), is_dataset: false })
    }

    /// The repository of a dataset.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn dataset(name: &str) -> Result<Self, HubError> {
        Ok(Self { is_dataset: true, ..Self::parse(name)? })
    }

    /// The name, `org/name`.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The folder of the repository in the cache, `models--org--name`.
    pub(crate) fn folder(&self) -> String {
        let kind = if self.is_dataset { "datasets" } else { "models" };
        format!("{kind}--{}", self.name.replace('/', "--"))
    }
}

/// The repository's part of an address: that of a dataset begins with `datasets/`.
impl fmt::Display for RepositoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_dataset {
            f.write_str("datasets/")?;
        }
        f.write_str(&self.name)
    }
}

/// A branch, a tag, a pull request (`refs/pr/1`) or a commit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Revision(String);

impl Revision {
    /// Checks that `name` can be a git reference and a path below the cache's `refs` folder.
    ///
    /// # Errors
    /// [`HubError::InvalidName`].
    pub fn parse(name: &str) -> Result<Self, HubError> {
        if name.split('/').all(is_plain_component) {
            Ok(Self(name.to_owned()))
        } else {
            Err(invalid("revision", name, "it is not the name of a branch, a tag or a commit"))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is a whole commit hash, which never moves.
    pub(crate) fn is_commit(&self) -> bool {
        self.0.len() == 40 && self.0.bytes().all(|byte| byte.is_ascii_hexdigit())
    }

    /// As one segment of an address: the hub wants `/` encoded here.
    pub(crate) fn encoded(&self) -> String {
        encode(&self.0)
    }

    /// As a relative path.
    pub(crate) fn path(&self) -> PathBuf {
        self.0.split('/').collect()
    }
}

impl Default for Revision {
    fn default() -> Self {
        Self("main".to_owned())
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A file of a repository, with `/` between folders.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FileName(String);

impl FileName {
    /// Checks that `name` is a relative path that stays below the folder that it is put into.
    ///
    /// # Errors
    /// [`HubError::InvalidName`].
    pub fn parse(name: &str) -> Result<Self, HubError> {
        if name.split('/').all(is_plain_component) {
            Ok(Self(name.to_owned()))
        } else {
            Err(invalid("file", name, "it is not a plain relative path"))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As segments of an address.
    pub(crate) fn encoded(&self) -> String {
        self.0.split('/').map(encode).collect::<Vec<_>>().join("/")
    }

    /// As a relative path.
    pub(crate) fn path(&self) -> PathBuf {
        self.0.split('/').collect()
    }

    /// Number of folders above the file.
    pub(crate) fn depth(&self) -> usize {
        self.0.matches('/').count()
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A SHA-256 digest in lower-case hexadecimal, or as much of its beginning as is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256Digest(String);

impl Sha256Digest {
    /// Reads 8 to 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`HubError::InvalidName`].
    pub fn parse(digits: &str) -> Result<Self, HubError> {
        if (8..=64).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            Ok(Self(digits.to_ascii_lowercase()))
        } else {
            Err(invalid("sha256", digits, "it is not 8 to 64 hexadecimal digits"))
        }
    }

    /// The digest that `text` is, if it is a whole one: the hub names large files by theirs.
    pub(crate) fn whole(text: &str) -> Option<Self> {
        Self::parse(text).ok().filter(|digest| digest.0.len() == 64)
    }

    /// The digest with these 32 bytes.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The digits that are known.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `other` begins with the digits that are known.
    pub fn matches(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }
}

impl TryFrom<String> for Sha256Digest {
    type Error = HubError;

    fn try_from(digits: String) -> Result<Self, HubError> {
        Self::parse(&digits)
    }
}

impl From<Sha256Digest> for String {
    fn from(digest: Sha256Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A file of a repository at a revision, and what is known of its contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubFile {
    /// The repository.
    pub repository: RepositoryId,
    /// The branch, tag or commit.
    pub revision: Revision,
    /// The file.
    pub file: FileName,
    /// The digest that the file must have. Without it the hub's own digest is what counts.
    pub sha256: Option<Sha256Digest>,
}

impl HubFile {
    /// The file `file` of the main branch of `repository`.
    ///
    /// # Errors
    /// [`HubError::InvalidName`] when either name isn't one.
    pub fn new(repository: &str, file: &str) -> Result<Self, HubError> {
        Ok(Self {
            repository: RepositoryId::parse(repository)?,
            revision: Revision::default(),
            file: FileName::parse(file)?,
            sha256: None,
        })
    }

    /// At another revision.
    #[must_use]
    pub fn with_revision(mut self, revision: Revision) -> Self {
        self.revision = revision;
        self
    }

    /// With a digest that the file must have.
    #[must_use]
    pub fn with_sha256(mut self, sha256: Option<Sha256Digest>) -> Self {
        self.sha256 = sha256;
        self
    }

    /// The address below `endpoint`.
    pub(crate) fn address(&self, endpoint: &str) -> String {
        format!("{endpoint}/{}/resolve/{}/{}", self.repository, self.revision.encoded(), self.file.encoded())
    }
}

impl fmt::Display for HubFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.file, self.repository)?;
        if self.revision != Revision::default() {
            write!(f, " at {}", self.revision)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_escape_the_cache_are_refused() {
        let hostile = [
            "",
            ".",
            "..",
            "../x",
            "a/../b",
            "a/..",
            "/etc/passwd",
            "a//b",
            "a\\b",
            "..\\x",
            "C:\\x",
            "c:x",
            "a\0b",
            "a\nb",
            "x/",
            "nul.",
            "a*",
            "con\u{7f}",
        ];
        for name in hostile {
            assert!(FileName::parse(name).is_err(), "file {name:?}");
            assert!(Revision::parse(name).is_err(), "revision {name:?}");
            assert!(RepositoryId::parse(name).is_err(), "repository {name:?}");
        }
        for name in ["a/b/c", "org/na me", "-a/b", "a/b-", "a/b.", "a--b/c", "a/b..c", "o/é", &"a".repeat(97)]
        {
            assert!(RepositoryId::parse(name).is_err(), "repository {name:?}");
        }
    }

    #[test]
    fn plain_names_pass_and_map_to_the_shared_layout() {
        for name in
            ["gpt2", "timm/vit_base_patch32_clip_224.openai", "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K"]
        {
            assert!(RepositoryId::parse(name).is_ok(), "{name}");
        }
        assert_eq!(RepositoryId::parse("a/b").unwrap().folder(), "models--a--b");
        let file = HubFile::new("a/b", "sub dir/é#1.bin")
            .unwrap()
            .with_revision(Revision::parse("refs/pr/1").unwrap());
        assert_eq!(file.address("http://h"), "http://h/a/b/resolve/refs%2Fpr%2F1/sub%20dir/%C3%A9%231.bin");
        assert_eq!(file.file.depth(), 1);
    }

    #[test]
    fn a_digest_may_be_known_in_part() {
        let whole = "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af";
        let found = Sha256Digest::whole(&whole.to_uppercase()).unwrap();
        assert!(Sha256Digest::parse("40d36571").unwrap().matches(&found));
        assert!(!Sha256Digest::parse("40d36572").unwrap().matches(&found));
        assert!(Sha256Digest::whole("40d36571").is_none());
        for bad in ["", "40d3657", "zzzzzzzz", &"0".repeat(65)] {
            assert!(Sha256Digest::parse(bad).is_err(), "{bad:?}");
        }
    }
}
