//! Where the hub and its cache are. [`HubConfig::from_env`] reads the variables that Python's `huggingface_hub` reads, so
//! that both share one cache and one token.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The public hub.
const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// Where the hub is, where its files are kept, and how hard to try.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// Address of the hub, without a `/` at the end (`HF_ENDPOINT`).
    pub endpoint: String,
    /// Folder of the shared cache (`HF_HUB_CACHE`, or `hub` below `HF_HOME`).
    pub cache_dir: PathBuf,
    /// Access token (`HF_TOKEN`, or the file that a login wrote).
    pub token: Option<Token>,
    /// Never use the network (`HF_HUB_OFFLINE`).
    pub offline: bool,
    /// Ask the hub whether a branch has moved although the file is cached. Without it a cached file is used as it is.
    pub refresh: bool,
    /// How often in a row a request may fail, or a transfer break off without a byte more, before it is given up.
    pub retries: u32,
    /// Pause before the first retry; it doubles with each further one.
    pub retry_delay: Duration,
    /// How long a server may take to accept a connection, and then to send something.
    pub timeout: Duration,
}

impl HubConfig {
    /// The public hub without a token, with its files in `cache_dir`. Reads no environment variable.
    pub fn new(cache_dir: impl Into<PathBuf>) -> Self {
        Self {
            endpoint: DEFAULT_ENDPOINT.to_owned(),
            cache_dir: cache_dir.into(),
            token: None,
            offline: false,
            refresh: false,
            retries: 5,
            retry_delay: Duration::from_millis(500),
            timeout: Duration::from_secs(30),
        }
    }

    /// As the environment says: `HF_ENDPOINT`, `HF_HUB_CACHE` (or `HUGGINGFACE_HUB_CACHE`), `HF_HOME`, `XDG_CACHE_HOME`,
    /// `HF_TOKEN` (or `HUGGING_FACE_HUB_TOKEN`), `HF_TOKEN_PATH`, `HF_HUB_DISABLE_IMPLICIT_TOKEN`, `HF_HUB_OFFLINE` (or
    /// `TRANSFORMERS_OFFLINE`).
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var_os(name))
    }

    /// As the variables say that `get` gives, which [`from_env`](Self::from_env) takes from the process. An empty
    /// variable counts as unset.
    pub fn from_variables(get: impl Fn(&str) -> Option<OsString>) -> Self {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let text = |name: &str| get(name).and_then(|value| value.into_string().ok());
        let user = get("HOME").or_else(|| get("USERPROFILE")).map_or_else(std::env::temp_dir, PathBuf::from);
        let path = |name: &str| get(name).map(|value| expand_home(Path::new(&value), &user));
        let is_true = |name: &str| text(name).is_some_and(|value| is_true(&value));

        let home = path("HF_HOME").unwrap_or_else(|| {
            path("XDG_CACHE_HOME").unwrap_or_else(|| user.join(".cache")).join("huggingface")
        });
        let cache_dir = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .unwrap_or_else(|| home.join("hub"));
        let token = text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN")).or_else(|| {
            if is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
                return None;
            }
            std::fs::read_to_string(path("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"))).ok()
        });
        let mut config = Self::new(cache_dir);
        if let Some(endpoint) = text("HF_ENDPOINT") {
            config.endpoint = endpoint.trim_end_matches('/').to_owned();
        }
        config.token = token.and_then(|token| Token::new(&token));
        // Python's client asks the second variable only when the first one is unset or empty.
        config.offline = match text("HF_HUB_OFFLINE") {
            Some(value) => self::is_true(&value),
            None => is_true("TRANSFORMERS_OFFLINE"),
        };
        config
    }
}

fn is_true(value: &str) -> bool {
    ["1", "ON", "YES", "TRUE"].iter().any(|word| value.eq_ignore_ascii_case(word))
}

fn expand_home(path: &Path, user: &Path) -> PathBuf {
    path.strip_prefix("~").map_or_else(|_| path.to_owned(), |rest| user.join(rest))
}

/// An access token. It never shows itself in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The token in `text`, without the line end that a file has; nothing when it is empty or can't be sent.
    pub fn new(text: &str) -> Option<Self> {
        let token = text.trim();
        (!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()))
            .then(|| Self(token.to_owned()))
    }

    /// The value of the `Authorization` header.
    pub(crate) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> HubConfig {
        HubConfig::from_variables(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn the_cache_is_where_python_has_it() {
        let cases: [(&[(&str, &str)], &str); 8] = [
            (&[("HOME", "/h")], "/h/.cache/huggingface/hub"),
            (&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub"),
            (&[("HOME", "/h"), ("HF_HOME", "/hf"), ("XDG_CACHE_HOME", "/x")], "/hf/hub"),
            (&[("HOME", "/h"), ("HF_HOME", "~/hf")], "/h/hf/hub"),
            (&[("HOME", "/h"), ("HF_HOME", "")], "/h/.cache/huggingface/hub"),
            (&[("HF_HUB_CACHE", "/c"), ("HF_HOME", "/hf")], "/c"),
            (&[("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HOME", "/hf")], "/old"),
            (&[("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HUB_CACHE", "/c")], "/c"),
        ];
        for (variables, expected) in cases {
            assert_eq!(config(variables).cache_dir, Path::new(expected), "{variables:?}");
        }
    }

    #[test]
    fn offline_takes_pythons_words() {
        for (value, expected) in [
            ("1", true),
            ("on", true),
            ("Yes", true),
            ("TRUE", true),
            ("0", false),
            ("false", false),
            ("", false),
        ] {
            assert_eq!(config(&[("HF_HUB_OFFLINE", value)]).offline, expected, "{value:?}");
            assert_eq!(config(&[("TRANSFORMERS_OFFLINE", value)]).offline, expected, "{value:?}");
        }
        assert!(!config(&[("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "1")]).offline);
        assert!(!config(&[]).offline);
    }

    #[test]
    fn the_token_comes_from_the_variable_or_the_file() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "hf_file\r\n").unwrap();
        let home = folder.path().to_str().unwrap();
        let token = |variables: &[(&str, &str)]| config(variables).token.map(|token| token.header());
        assert_eq!(token(&[("HF_HOME", home)]).as_deref(), Some("Bearer hf_file"));
        assert_eq!(token(&[("HF_HOME", home), ("HF_TOKEN", " hf_x\n")]).as_deref(), Some("Bearer hf_x"));
        assert_eq!(token(&[("HF_HOME", home), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
        assert_eq!(token(&[("HF_HOME", "/nowhere")]), None);
        assert_eq!(token(&[("HF_HOME", home), ("HF_TOKEN", "two words")]), None);
        assert!(!format!("{:?}", config(&[("HF_TOKEN", "hf_secret")])).contains("secret"));
    }

    #[test]
    fn the_endpoint_loses_its_slash() {
        assert_eq!(config(&[("HF_ENDPOINT", "http://mirror/hub/")]).endpoint, "http://mirror/hub");
        assert_eq!(config(&[]).endpoint, DEFAULT_ENDPOINT);
    }
}
