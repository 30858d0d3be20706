//! A small Hugging Face hub on the loopback interface, for tests: it serves files of repositories with the headers that the
//! hub sends, large ones by a redirect to another host name, and can be made to fail in every way that a network does.
//!
//! Other crates include it by path: `#[path = "../../openclip-zoo/tests/support/hub_server.rs"] mod hub_server;`

#![allow(dead_code, reason = "each test file that includes this uses its own part of it")]
#![allow(clippy::unwrap_used, reason = "a test server that breaks should stop its test")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

/// A commit hash for [`HubServer::add`].
pub const COMMIT: &str = "5f0a1e3c9b2d4f6a8c7e9d1b3a5f7c9e1d3b5a79";

/// A request that the server has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `HEAD` or `GET`.
    pub method: String,
    /// The path, still encoded.
    pub path: String,
    headers: HashMap<String, String>,
}

impl Request {
    /// A header's value; names in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// How the server misbehaves. Each applies to the requests for file contents unless it says otherwise.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Closes the connection after so many bytes of the body.
    Cut(usize),
    /// Sends other bytes than the file's, of the same number.
    Corrupt,
    /// Answers any request with this status.
    Status(u16),
    /// Answers with this status in place of the contents.
    ContentsStatus(u16),
    /// Answers any request with this status and a `Retry-After` header.
    StatusWithRetryAfter(u16, u64),
    /// Doesn't know byte ranges: sends the whole file with status 200.
    IgnoreRange,
    /// Sends a number of bytes, then nothing more, without closing.
    Stall(usize),
    /// Leaves a header away from the answer to `HEAD`.
    WithoutHeader(&'static str),
    /// Replaces a header of the answer to `HEAD`.
    Header(&'static str, &'static str),
}

struct StoredFile {
    bytes: Vec<u8>,
    /// A large file: named by its SHA-256 and served by another host.
    large: bool,
    commit: String,
}

#[derive(Default)]
struct State {
    /// By `repository/revision/file`.
    files: HashMap<String, StoredFile>,
    /// Wanted in the `Authorization` header.
    token: Option<String>,
    /// A fault and how many requests it still applies to.
    faults: Vec<(Fault, usize)>,
    requests: Vec<Request>,
    /// Old repository name to new one.
    renamed: HashMap<String, String>,
}

/// The server. It stops when it is dropped.
pub struct HubServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl HubServer {
    /// Starts a server without files.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopped) = (Arc::clone(&state), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                if let Ok(stream) = stream {
                    let (shared, stopped) = (Arc::clone(&shared), Arc::clone(&stopped));
                    // A client that goes away in the middle is not the server's problem.
                    std::thread::spawn(move || drop(serve(stream, &shared, &stopped, address.port())));
                }
            }
        });
        Self { address, state, stop, thread: Some(thread) }
    }

    /// The address for `HF_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds a file to the main branch of a repository, at [`COMMIT`]. A `large` one is kept as the hub keeps LFS files.
    pub fn add(&self, repository: &str, file: &str, bytes: &[u8], large: bool) {
        self.add_at(repository, "main", COMMIT, file, bytes, large);
    }

    /// Adds a file to a revision of a repository, and to the commit that it is.
    pub fn add_at(
        &self,
        repository: &str,
        revision: &str,
        commit: &str,
        file: &str,
        bytes: &[u8],
        large: bool,
    ) {
        for revision in [revision, commit] {
            let stored = StoredFile { bytes: bytes.to_vec(), large, commit: commit.to_owned() };
            self.state().files.insert(format!("{repository}/{revision}/{file}"), stored);
        }
    }

    /// Makes an old name of a repository redirect to the new one, as the hub does.
    pub fn rename(&self, old: &str, new: &str) {
        self.state().renamed.insert(old.to_owned(), new.to_owned());
    }

    /// Wants this token from now on.
    pub fn require_token(&self, token: &str) {
        self.state().token = Some(token.to_owned());
    }

    /// Makes the next so many requests that a fault applies to fail.
    pub fn fail(&self, fault: Fault, times: usize) {
        self.state().faults.push((fault, times));
    }

    /// The requests since the start or since the last call.
    pub fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state().requests)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Drop for HubServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for a connection.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The tag of a small file: 40 digits, as a git object has.
pub fn small_tag(bytes: &[u8]) -> String {
    sha256(bytes)[..40].to_owned()
}

impl State {
    /// The first fault that `applies`, counted down.
    fn fault(&mut self, applies: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let (fault, left) = self.faults.iter_mut().find(|(fault, left)| *left > 0 && applies(fault))?;
        *left -= 1;
        Some(fault.clone())
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>, stop: &AtomicBool, port: u16) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(()) };
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let request = Request { method, path, headers };
    let answer = {
        let mut state = state.lock().unwrap();
        state.requests.push(request.clone());
        answer(&mut state, &request, port)
    };
    write!(stream, "HTTP/1.1 {} Reason\r\nConnection: close\r\n", answer.status)?;
    for (name, value) in &answer.headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    write!(stream, "\r\n")?;
    if request.method != "HEAD" {
        match answer.fault {
            Some(Fault::Cut(count)) => stream.write_all(&answer.body[..count.min(answer.body.len())])?,
            Some(Fault::Stall(count)) => {
                stream.write_all(&answer.body[..count.min(answer.body.len())])?;
                while !stop.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
            _ => stream.write_all(&answer.body)?,
        }
    }
    stream.flush()
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    fault: Option<Fault>,
}

impl Answer {
    fn status(status: u16) -> Self {
        Self { status, headers: vec![("Content-Length".into(), "0".into())], body: Vec::new(), fault: None }
    }

    fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

fn answer(state: &mut State, request: &Request, port: u16) -> Answer {
    match state.fault(|fault| matches!(fault, Fault::Status(_) | Fault::StatusWithRetryAfter(..))) {
        Some(Fault::Status(status)) => return Answer::status(status),
        Some(Fault::StatusWithRetryAfter(status, seconds)) => {
            return Answer::status(status).with("Retry-After", seconds.to_string());
        }
        _ => {}
    }
    if let Some(digest) = request.path.strip_prefix("/cdn/") {
        let bytes =
            state.files.values().map(|file| &file.bytes).find(|bytes| sha256(bytes) == digest).cloned();
        return bytes.map_or_else(|| Answer::status(404), |bytes| contents(state, request, bytes));
    }
    let path = request.path.trim_start_matches('/');
    let Some((repository, rest)) = path.split_once("/resolve/") else { return Answer::status(404) };
    if let Some(new) = state.renamed.get(repository) {
        return Answer::status(307).with("Location", format!("/{new}/resolve/{rest}"));
    }
    let wanted = state.token.as_ref().map(|token| format!("Bearer {token}"));
    if wanted.is_some() && request.header("authorization") != wanted.as_deref() {
        return Answer::status(401);
    }
    let (revision, file) = rest.split_once('/').unwrap_or((rest, ""));
    let key = format!("{repository}/{}/{file}", revision.replace("%2F", "/"));
    let Some(stored) = state.files.get(&key) else { return Answer::status(404) };
    let (bytes, commit) = (stored.bytes.clone(), stored.commit.clone());
    let mut answer = if stored.large {
        let digest = sha256(&bytes);
        // Another host name of the same server: to a client it is another server.
        Answer::status(302)
            .with("Location", format!("http://localhost:{port}/cdn/{digest}"))
            .with("X-Linked-Etag", format!("\"{digest}\""))
            .with("X-Linked-Size", bytes.len().to_string())
    } else {
        let tag = format!("\"{}\"", small_tag(&bytes));
        contents(state, request, bytes).with("ETag", tag)
    };
    answer = answer.with("X-Repo-Commit", commit);
    if request.method == "HEAD" {
        match state.fault(|fault| matches!(fault, Fault::WithoutHeader(_) | Fault::Header(..))) {
            Some(Fault::WithoutHeader(name)) => {
                answer.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name))
            }
            Some(Fault::Header(name, value)) => answer = answer.with(name, value),
            _ => {}
        }
    }
    answer
}

fn contents(state: &mut State, request: &Request, mut bytes: Vec<u8>) -> Answer {
    let fault = (request.method != "HEAD")
        .then(|| {
            let applies = |fault: &Fault| {
                use Fault::{ContentsStatus, Corrupt, Cut, IgnoreRange, Stall};
                matches!(fault, Cut(_) | Corrupt | Stall(_) | IgnoreRange | ContentsStatus(_))
            };
            state.fault(applies)
        })
        .flatten();
    if let Some(Fault::ContentsStatus(status)) = fault {
        return Answer::status(status);
    }
    if matches!(fault, Some(Fault::Corrupt)) {
        bytes.iter_mut().for_each(|byte| *byte ^= 0x5a);
    }
    let size = bytes.len();
    let start = request
        .header("range")
        .filter(|_| !matches!(fault, Some(Fault::IgnoreRange)))
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let same = request.header("if-range").is_none_or(|tag| tag.trim_matches('"') == small_tag(&bytes));
    let answer = match start.filter(|_| same) {
        Some(start) if start >= size => return Answer::status(416),
        Some(start) => {
            let body = bytes.split_off(start);
            let range = format!("bytes {start}-{}/{size}", size - 1);
            Answer { status: 206, headers: Vec::new(), body, fault }.with("Content-Range", range)
        }
        None => Answer { status: 200, headers: Vec::new(), body: bytes, fault },
    };
    let length = answer.body.len().to_string();
    answer.with("Content-Length", length)
}
