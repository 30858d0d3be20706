//! Requests to a hub: one question about a file's metadata and one transfer from a given byte on, both with redirects,
//! retries and the token kept to the hub's own address.

use std::io::Read;
use std::thread::sleep;
use std::time::Duration;

use ureq::http::{HeaderMap, Response, StatusCode, Uri, header};
use ureq::{Agent, Body};

use super::names::is_plain_component;
use super::{HubConfig, HubError, HubFile};

const MOST_REDIRECTS: usize = 10;
/// No pause between retries is longer than this, whatever the server asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What a hub says about a file before it is downloaded.
#[derive(Clone, Debug)]
pub(crate) struct Metadata {
    /// The commit that the revision is.
    pub commit: String,
    /// The tag of the contents: for a large file its SHA-256.
    pub etag: String,
    /// The size, where it is said.
    pub size: Option<u64>,
    /// The tag as the server that sends the contents knows it, to be sure on resuming that it is still the same file.
    /// A large file comes from another server, which has other tags.
    pub if_range: Option<String>,
}

/// A transfer that has begun.
pub(crate) struct Transfer {
    /// The contents from `start` on.
    pub reader: Box<dyn Read>,
    /// The first byte that comes: what was asked for, or 0 when the server sends the whole file.
    pub start: u64,
    /// The size of the whole file, where it is said.
    pub size: Option<u64>,
}

/// Why a transfer did not begin.
pub(crate) enum OpenError {
    /// The server has no such range: what is there already doesn't belong to this file.
    RangeRefused,
    /// Anything else.
    Hub(HubError),
}

/// An HTTP client for one hub.
pub(crate) struct Http {
    agent: Agent,
    config: HubConfig,
}

impl Http {
    pub fn new(config: &HubConfig) -> Self {
        let mut builder = Agent::config_builder();
        if is_loopback(&config.endpoint) {
            // A proxy of the environment can't reach this machine's own addresses.
            builder = builder.proxy(None);
        }
        let agent = builder
            .user_agent(concat!("openclip-zoo/", env!("CARGO_PKG_VERSION")))
            // A compressed answer would have another size and other byte ranges than the file.
            .accept_encoding("identity")
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(config.timeout))
            .timeout_recv_response(Some(config.timeout))
            .timeout_per_read(Some(config.timeout))
            .build();
        Self { agent: agent.into(), config: config.clone() }
    }

    /// Asks for the metadata of a file.
    pub fn metadata(&self, file: &HubFile) -> Result<Metadata, HubError> {
        let address = file.address(&self.config.endpoint);
        // The hub answers for a large file with a redirect to another server, and says on the redirect what the file is.
        let names_the_file = |headers: &HeaderMap| {
            headers.contains_key("x-repo-commit")
                && (headers.contains_key("x-linked-etag") || headers.contains_key(header::ETAG))
        };
        let response = self.send(Method::Head, &address, &[], names_the_file)?;
        self.check_status(response.status(), &address, Some(file))?;
        let bad =
            |message: &str| HubError::BadAnswer { address: address.clone(), message: message.to_owned() };
        let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());

        let commit = text("x-repo-commit").ok_or_else(|| bad("the answer has no X-Repo-Commit header"))?;
        let linked = text("x-linked-etag");
        let raw = linked.or_else(|| text("etag")).ok_or_else(|| bad("the answer has no ETag header"))?;
        let etag = raw.strip_prefix("W/").unwrap_or(raw).trim_matches('"');
        for (header, value) in [("X-Repo-Commit", commit), ("ETag", etag)] {
            if !is_plain_component(value) {
                return Err(bad(&format!("its {header} header, {value:?}, can't be the name of a file")));
            }
        }
        let length = || text("content-length").filter(|_| response.status().is_success());
        let size = text("x-linked-size").or_else(length).and_then(|value| value.parse().ok());
        let if_range = (linked.is_none() && raw.starts_with('"')).then(|| raw.to_owned());
        Ok(Metadata { commit: commit.to_owned(), etag: etag.to_owned(), size, if_range })
    }

    /// Begins the transfer of a file of the hub.
    pub fn open(&self, file: &HubFile, start: u64, if_range: Option<&str>) -> Result<Transfer, OpenError> {
        self.open_address(&file.address(&self.config.endpoint), Some(file), start, if_range)
    }

    /// Begins the transfer of anything.
    pub fn open_address(
        &self,
        address: &str,
        file: Option<&HubFile>,
        start: u64,
        if_range: Option<&str>,
    ) -> Result<Transfer, OpenError> {
        let range = format!("bytes={start}-");
        let mut headers = Vec::new();
        if start > 0 {
            headers.push((header::RANGE.as_str(), range.as_str()));
            headers.extend(if_range.map(|tag| (header::IF_RANGE.as_str(), tag)));
        }
        let response = self.send(Method::Get, address, &headers, |_| false).map_err(OpenError::Hub)?;
        let status = response.status();
        if status == StatusCode::RANGE_NOT_SATISFIABLE && start > 0 {
            return Err(OpenError::RangeRefused);
        }
        self.check_status(status, address, file).map_err(OpenError::Hub)?;
        let text =
            |name: header::HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok());
        let (start, size) = if status == StatusCode::PARTIAL_CONTENT {
            match text(header::CONTENT_RANGE).and_then(content_range) {
                Some((first, size)) if first == start => (start, size),
                _ => return Err(OpenError::RangeRefused),
            }
        } else {
            (0, text(header::CONTENT_LENGTH).and_then(|value| value.parse().ok()))
        };
        Ok(Transfer { reader: Box::new(response.into_body().into_reader()), start, size })
    }

    /// Sends a request, follows redirects until `enough` of an answer's headers, and retries what may pass.
    fn send(
        &self,
        method: Method,
        address: &str,
        headers: &[(&str, &str)],
        enough: impl Fn(&HeaderMap) -> bool,
    ) -> Result<Response<Body>, HubError> {
        let mut failures = 0;
        loop {
            let result = self.follow(method, address, headers, &enough);
            let asked = match &result {
                Ok(response) if is_transient(response.status()) => retry_after(response.headers()),
                Err(error) if error.is_transient => None,
                Ok(_) | Err(_) => return result.map_err(|error| error.error),
            };
            failures += 1;
            if failures > self.config.retries {
                return result.map_err(|error| error.error);
            }
            let pause = asked.unwrap_or_else(|| pause(&self.config, failures)).min(LONGEST_PAUSE);
            tracing::debug!(address, failures, ?pause, "the request failed and is tried again");
            sleep(pause);
        }
    }

    fn follow(
        &self,
        method: Method,
        address: &str,
        headers: &[(&str, &str)],
        enough: &impl Fn(&HeaderMap) -> bool,
    ) -> Result<Response<Body>, SendError> {
        let bad = |message: String| SendError {
            error: HubError::BadAnswer { address: address.to_owned(), message },
            is_transient: false,
        };
        let mut here = address.parse::<Uri>().map_err(|error| bad(error.to_string()))?;
        let home = self.config.endpoint.parse::<Uri>().ok();
        for _ in 0..=MOST_REDIRECTS {
            let mut request = match method {
                Method::Head => self.agent.head(here.clone()),
                Method::Get => self.agent.get(here.clone()),
            };
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            // The token is for the hub alone, not for the servers that it redirects to.
            if let Some(token) = &self.config.token
                && home.as_ref().is_some_and(|home| same_origin(home, &here))
            {
                request = request.header(header::AUTHORIZATION, token.header());
            }
            let response = request.call().map_err(|source| SendError {
                is_transient: is_transient_failure(method, &source),
                error: HubError::Connection { address: here.to_string(), source: source.into() },
            })?;
            if !response.status().is_redirection() || enough(response.headers()) {
                return Ok(response);
            }
            let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            let location = location.ok_or_else(|| bad("a redirect has no Location header".to_owned()))?;
            let next = resolve(&here, location)
                .ok_or_else(|| bad(format!("a redirect leads to {location:?}, which is not an address")))?;
            if here.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                return Err(bad(format!("a redirect leads from https to {location:?}")));
            }
            here = next;
        }
        Err(bad("too many redirects".to_owned()))
    }

    fn check_status(
        &self,
        status: StatusCode,
        address: &str,
        file: Option<&HubFile>,
    ) -> Result<(), HubError> {
        let what = || file.map_or_else(|| address.to_owned(), ToString::to_string);
        match status.as_u16() {
            404 => Err(HubError::NotFound { endpoint: self.config.endpoint.clone(), files: vec![what()] }),
            code @ (401 | 403) => Err(HubError::Denied {
                endpoint: self.config.endpoint.clone(),
                file: what(),
                status: code,
                had_token: self.config.token.is_some(),
            }),
            200..=399 => Ok(()),
            code => Err(HubError::Status { address: address.to_owned(), status: code }),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    Head,
    Get,
}

struct SendError {
    error: HubError,
    is_transient: bool,
}

/// The pause before the next try after so many failures in a row.
pub(crate) fn pause(config: &HubConfig, failures: u32) -> Duration {
    config.retry_delay.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LONGEST_PAUSE)
}

fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// Whether a request that got no answer may get one soon. The question for metadata comes first, so when it doesn't even
/// reach the server there is no network, and the error should come at once; in the middle of a download it is worth waiting
/// for the network to come back.
fn is_transient_failure(method: Method, error: &ureq::Error) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    use ureq::Error::{ConnectionFailed, HostNotFound, Io};
    use ureq::Timeout::{Connect, Resolve};
    match error {
        HostNotFound | ConnectionFailed | ureq::Error::Timeout(Connect | Resolve) => method == Method::Get,
        Io(error) if matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable) => {
            method == Method::Get
        }
        Io(_) | ureq::Error::Timeout(_) => true,
        _ => false,
    }
}

/// Whether an address is on this machine.
fn is_loopback(endpoint: &str) -> bool {
    let uri = endpoint.parse::<Uri>().ok();
    let Some(host) = uri.as_ref().and_then(Uri::host) else { return false };
    host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// The pause that the server asks for, in seconds; the form with a date is not used by hubs.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// First byte and whole size of `bytes FIRST-LAST/SIZE`.
fn content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, size) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, size.parse().ok()))
}

fn same_origin(a: &Uri, b: &Uri) -> bool {
    a.scheme() == b.scheme() && a.authority() == b.authority()
}

/// Where a `Location` header at `base` leads.
fn resolve(base: &Uri, location: &str) -> Option<Uri> {
    let scheme = base.scheme_str()?;
    let text = if location.starts_with("http://") || location.starts_with("https://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{}{location}", base.authority()?)
    } else {
        let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{}{folder}/{location}", base.authority()?)
    };
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_resolve_against_where_they_are() {
        let base: Uri = "https://hub:8/org/name/resolve/main/a.bin?x=1".parse().unwrap();
        for (location, expected) in [
            ("/new/name/resolve/main/a.bin", "https://hub:8/new/name/resolve/main/a.bin"),
            ("b.bin", "https://hub:8/org/name/resolve/main/b.bin"),
            ("//cdn/x", "https://cdn/x"),
            ("http://cdn/x?y=z", "http://cdn/x?y=z"),
        ] {
            assert_eq!(resolve(&base, location).unwrap().to_string(), expected);
        }
        assert!(resolve(&base, "http://bad host/").is_none());
    }

    #[test]
    fn loopback_addresses() {
        for (endpoint, expected) in [
            ("http://127.0.0.1:8080", true),
            ("http://localhost", true),
            ("http://[::1]:9/hub", true),
            ("https://huggingface.co", false),
            ("http://10.0.0.1", false),
            ("", false),
        ] {
            assert_eq!(is_loopback(endpoint), expected, "{endpoint}");
        }
    }

    #[test]
    fn content_ranges() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        for bad in ["", "bytes */10", "items 5-9/10", "bytes 5/10", "bytes 5-9"] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }

    #[test]
    fn pauses_double_and_end() {
        let config = HubConfig::new("");
        assert_eq!(pause(&config, 1), config.retry_delay);
        assert_eq!(pause(&config, 3), config.retry_delay * 4);
        assert_eq!(pause(&config, u32::MAX), LONGEST_PAUSE);
    }

    #[test]
    fn the_token_stays_at_its_origin() {
        let uri = |text: &str| text.parse::<Uri>().unwrap();
        assert!(same_origin(&uri("https://hub/a"), &uri("https://hub/b")));
        for other in ["http://hub/", "https://hub:8/", "https://cdn.hub/", "https://hub.evil/"] {
            assert!(!same_origin(&uri("https://hub"), &uri(other)), "{other}");
        }
    }
}
