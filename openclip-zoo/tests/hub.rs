//! Downloads from a hub on loopback: what reaches the cache, what never does, and what the server sees.

#![allow(clippy::unwrap_used, reason = "the helpers of a test")]

#[path = "support/hub_server.rs"]
mod hub_server;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hub_server::{COMMIT, Fault, HubServer, Request, sha256, small_tag};
use openclip_zoo::hub::{Hub, HubConfig, HubError, HubFile, ProgressEvent, Revision, Sha256Digest, Token};

const REPOSITORY: &str = "org/model";
const WEIGHTS: &str = "open_clip_model.safetensors";

/// A server with one large and one small file, and an empty cache.
struct Setup {
    server: HubServer,
    folder: tempfile::TempDir,
    weights: Vec<u8>,
}

fn setup() -> Setup {
    let server = HubServer::start();
    let weights: Vec<u8> = (0..400_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    server.add(REPOSITORY, WEIGHTS, &weights, true);
    server.add(REPOSITORY, "open_clip_config.json", b"{\"small\": true}", false);
    Setup { server, folder: tempfile::tempdir().unwrap(), weights }
}

impl Setup {
    fn config(&self) -> HubConfig {
        let mut config = HubConfig::new(self.folder.path().join("hub"));
        config.endpoint = self.server.endpoint();
        config.retry_delay = Duration::from_millis(1);
        config.timeout = Duration::from_secs(5);
        config
    }

    fn hub(&self) -> Hub {
        Hub::new(self.config())
    }

    fn offline(&self) -> Hub {
        let mut config = self.config();
        config.offline = true;
        Hub::new(config)
    }

    fn refreshing(&self) -> Hub {
        let mut config = self.config();
        config.refresh = true;
        Hub::new(config)
    }

    fn repository_folder(&self) -> PathBuf {
        self.folder.path().join("hub/models--org--model")
    }

    fn blob(&self) -> PathBuf {
        self.repository_folder().join("blobs").join(sha256(&self.weights))
    }

    /// Nothing that could be taken for the file is in the cache.
    fn assert_nothing_landed(&self) {
        assert!(!self.blob().exists(), "no blob may be there");
        assert!(!self.repository_folder().join("snapshots").exists(), "no snapshot may be there");
    }
}

fn weights() -> HubFile {
    HubFile::new(REPOSITORY, WEIGHTS).unwrap()
}

fn config_file() -> HubFile {
    HubFile::new(REPOSITORY, "open_clip_config.json").unwrap()
}

fn gets(requests: &[Request]) -> Vec<&Request> {
    requests.iter().filter(|request| request.method == "GET").collect()
}

/// The `Range` headers of the requests for contents.
fn ranges(requests: &[Request]) -> Vec<Option<&str>> {
    requests
        .iter()
        .filter(|request| request.method == "GET" && request.path.starts_with("/cdn/"))
        .map(|request| request.header("range"))
        .collect()
}

#[test]
fn a_download_lands_in_the_shared_layout() {
    let setup = setup();
    let path = setup.hub().fetch(&weights()).unwrap();
    let root = setup.repository_folder();
    assert_eq!(path, root.join("snapshots").join(COMMIT).join(WEIGHTS));
    assert_eq!(fs::read(&path).unwrap(), setup.weights);
    assert_eq!(fs::read_to_string(root.join("refs/main")).unwrap(), COMMIT);
    #[cfg(unix)]
    assert_eq!(fs::read_link(&path).unwrap(), Path::new("../../blobs").join(sha256(&setup.weights)));

    let small = setup.hub().fetch(&config_file()).unwrap();
    assert_eq!(fs::read(&small).unwrap(), b"{\"small\": true}");
    assert!(root.join("blobs").join(small_tag(b"{\"small\": true}")).is_file());

    let lock: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(root.join("openclip.lock.json")).unwrap()).unwrap();
    assert_eq!(lock["files"][format!("{COMMIT}/{WEIGHTS}")]["sha256"], sha256(&setup.weights));
    let left: Vec<_> = fs::read_dir(root.join("blobs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.iter().all(|path| path.extension().is_none()), "{left:?}");
}

#[test]
fn what_is_cached_needs_no_network() {
    let setup = setup();
    let path = setup.hub().fetch(&weights()).unwrap();
    setup.server.take_requests();
    assert_eq!(setup.hub().fetch(&weights()).unwrap(), path);
    assert_eq!(setup.offline().fetch(&weights()).unwrap(), path);
    let by_commit = weights().with_revision(Revision::parse(COMMIT).unwrap());
    assert_eq!(setup.offline().fetch(&by_commit).unwrap(), path);
    assert_eq!(setup.server.take_requests(), []);
}

#[test]
fn offline_with_an_empty_cache_is_one_clear_error() {
    let setup = setup();
    let error = setup.offline().fetch(&weights()).unwrap_err();
    assert!(error.is_offline());
    let message = error.to_string();
    for part in [WEIGHTS, REPOSITORY, "HF_HUB_OFFLINE"] {
        assert!(message.contains(part), "{message}");
    }
    let error = setup.offline().fetch_address("http://h/a.pt", None).unwrap_err();
    assert!(error.is_offline(), "{error}");
    assert_eq!(setup.server.take_requests(), []);
}

#[test]
fn a_cut_connection_goes_on_where_it_stopped() {
    let setup = setup();
    setup.server.fail(Fault::Cut(150_000), 2);
    let path = setup.hub().fetch(&weights()).unwrap();
    assert_eq!(fs::read(&path).unwrap(), setup.weights);
    let requests = setup.server.take_requests();
    let ranges = ranges(&requests);
    assert_eq!(ranges.len(), 3, "{ranges:?}");
    assert_eq!(ranges[0], None);
    assert_eq!(ranges[1..], [Some("bytes=150000-"), Some("bytes=300000-")]);
}

#[test]
fn a_later_process_goes_on_where_an_earlier_one_gave_up() {
    let setup = setup();
    let mut config = setup.config();
    config.retries = 0;
    setup.server.fail(Fault::Cut(100_000), 1);
    let error = Hub::new(config).fetch(&weights()).unwrap_err();
    assert!(
        matches!(error, HubError::Interrupted { received: 100_000, expected: Some(400_000), .. }),
        "{error}"
    );
    setup.assert_nothing_landed();
    setup.server.take_requests();

    let seen = Arc::new(Mutex::new(Vec::new()));
    let hub = setup.hub().with_progress({
        let seen = Arc::clone(&seen);
        move |event: ProgressEvent<'_>| {
            if let ProgressEvent::Started { size, resumed_at, .. } = event {
                seen.lock().unwrap().push((size, resumed_at));
            }
        }
    });
    let path = hub.fetch(&weights()).unwrap();
    assert_eq!(fs::read(&path).unwrap(), setup.weights);
    assert_eq!(ranges(&setup.server.take_requests()), [Some("bytes=100000-")]);
    assert_eq!(*seen.lock().unwrap(), [(Some(400_000), 100_000)]);
}

#[test]
fn a_small_file_resumes_only_if_it_is_still_the_same() {
    let setup = setup();
    let bytes = vec![7_u8; 300_000];
    setup.server.add(REPOSITORY, "merges.txt", &bytes, false);
    setup.server.fail(Fault::Cut(200_000), 1);
    let path = setup.hub().fetch(&HubFile::new(REPOSITORY, "merges.txt").unwrap()).unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes);
    let requests = setup.server.take_requests();
    let last = *gets(&requests).last().unwrap();
    assert_eq!(last.header("range"), Some("bytes=200000-"));
    assert_eq!(last.header("if-range").map(str::to_owned), Some(format!("\"{}\"", small_tag(&bytes))));
}

#[test]
fn a_server_without_ranges_starts_over() {
    let setup = setup();
    setup.server.fail(Fault::Cut(150_000), 1);
    setup.server.fail(Fault::IgnoreRange, 1);
    let path = setup.hub().fetch(&weights()).unwrap();
    assert_eq!(fs::read(&path).unwrap(), setup.weights);
}

#[test]
fn a_server_that_stalls_is_left_and_asked_again() {
    let setup = setup();
    let mut config = setup.config();
    config.timeout = Duration::from_millis(300);
    setup.server.fail(Fault::Stall(50_000), 1);
    let path = Hub::new(config).fetch(&weights()).unwrap();
    assert_eq!(fs::read(&path).unwrap(), setup.weights);
}

#[test]
fn leftovers_that_are_wrong_are_thrown_away() {
    let setup = setup();
    let incomplete =
        setup.repository_folder().join("blobs").join(format!("{}.incomplete", sha256(&setup.weights)));
    for leftover in [vec![1_u8; 1000], vec![1_u8; 400_000], vec![1_u8; 500_000]] {
        fs::create_dir_all(incomplete.parent().unwrap()).unwrap();
        fs::write(&incomplete, &leftover).unwrap();
        let path = setup.hub().fetch(&weights()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), setup.weights, "{} bytes", leftover.len());
        fs::remove_dir_all(setup.repository_folder()).unwrap();
    }
}

#[test]
fn corrupt_bytes_are_refused_and_leave_nothing() {
    let setup = setup();
    setup.server.fail(Fault::Corrupt, 1);
    let error = setup.hub().fetch(&weights()).unwrap_err();
    assert!(matches!(error, HubError::Digest { .. }), "{error}");
    let message = error.to_string();
    for part in [WEIGHTS, &sha256(&setup.weights), "expected", "found"] {
        assert!(message.contains(part), "{message}");
    }
    setup.assert_nothing_landed();
    assert_eq!(fs::read_dir(setup.repository_folder().join("blobs")).unwrap().count(), 0);
    assert!(setup.offline().fetch(&weights()).unwrap_err().is_offline());
    setup.hub().fetch(&weights()).unwrap();
}

#[test]
fn the_registrys_digest_wins_over_the_hubs() {
    let setup = setup();
    let other = Sha256Digest::parse(&sha256(b"other")).unwrap();
    let error = setup.hub().fetch(&weights().with_sha256(Some(other.clone()))).unwrap_err();
    assert!(matches!(error, HubError::Digest { .. }), "{error}");
    assert!(gets(&setup.server.take_requests()).is_empty(), "a file that can't be right isn't downloaded");
    setup.assert_nothing_landed();

    // A small file has no digest of the hub's own.
    let error = setup.hub().fetch(&config_file().with_sha256(Some(other.clone()))).unwrap_err();
    assert!(matches!(error, HubError::Digest { .. }), "{error}");
    setup.assert_nothing_landed();

    let right = Sha256Digest::parse(&sha256(&setup.weights)[..8]).unwrap();
    setup.hub().fetch(&weights().with_sha256(Some(right))).unwrap();
    let error = setup.offline().fetch(&weights().with_sha256(Some(other))).unwrap_err();
    assert!(matches!(error, HubError::Digest { .. }), "{error}");
}

#[test]
fn a_changed_file_is_refused_at_the_next_load() {
    for file in [weights(), config_file()] {
        let setup = setup();
        let path = setup.hub().fetch(&file).unwrap();
        let original = fs::read(&path).unwrap();
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let mut changed = original.clone();
        changed[3] ^= 1;
        fs::write(fs::canonicalize(&path).unwrap(), &changed).unwrap();
        // Not even with the old time.
        fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        for hub in [setup.offline(), setup.hub()] {
            let message = hub.fetch(&file).unwrap_err().to_string();
            for part in
                [sha256(&original), sha256(&changed), path.display().to_string(), "openclip pull".to_owned()]
            {
                assert!(message.contains(&part), "{message}");
            }
        }
        // What the message says to do helps.
        fs::remove_file(&path).unwrap();
        assert_eq!(fs::read(setup.hub().fetch(&file).unwrap()).unwrap(), original);
    }
}

#[test]
fn a_touched_file_is_hashed_again_and_stays_good() {
    let setup = setup();
    let path = setup.hub().fetch(&weights()).unwrap();
    let hashed = Arc::new(Mutex::new(0));
    let hub = setup.offline().with_progress({
        let hashed = Arc::clone(&hashed);
        move |event: ProgressEvent<'_>| {
            if matches!(event, ProgressEvent::Verifying { .. }) {
                *hashed.lock().unwrap() += 1;
            }
        }
    });
    hub.fetch(&weights()).unwrap();
    assert_eq!(*hashed.lock().unwrap(), 0, "an unchanged file isn't hashed");
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    hub.fetch(&weights()).unwrap();
    hub.fetch(&weights()).unwrap();
    assert_eq!(*hashed.lock().unwrap(), 1, "a touched file is hashed once");
}

#[test]
fn what_python_downloaded_is_verified_by_its_name() {
    let setup = setup();
    setup.hub().fetch(&weights()).unwrap();
    let lock = setup.repository_folder().join("openclip.lock.json");
    fs::remove_file(&lock).unwrap();
    setup.offline().fetch(&weights()).unwrap();
    assert!(lock.is_file(), "the digest is remembered from now on");
    fs::remove_file(&lock).unwrap();
    fs::write(setup.blob(), b"something else").unwrap();
    let error = setup.offline().fetch(&weights()).unwrap_err();
    assert!(matches!(error, HubError::Digest { .. }), "{error}");
}

#[test]
fn a_damaged_lock_file_is_named() {
    let setup = setup();
    setup.hub().fetch(&weights()).unwrap();
    let lock = setup.repository_folder().join("openclip.lock.json");
    for text in ["", "{", "{\"version\": 99, \"files\": {}}", "[]"] {
        fs::write(&lock, text).unwrap();
        let error = setup.offline().fetch(&weights()).unwrap_err();
        assert!(matches!(error, HubError::LockFile { .. }), "{text:?}: {error}");
        assert!(error.to_string().contains("openclip.lock.json"), "{error}");
    }
}

#[test]
fn refreshing_follows_a_branch_that_moved() {
    let setup = setup();
    let old = setup.hub().fetch(&weights()).unwrap();
    let commit = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    setup.server.add_at(REPOSITORY, "main", commit, WEIGHTS, b"new weights", true);
    assert_eq!(setup.hub().fetch(&weights()).unwrap(), old);
    let new = setup.refreshing().fetch(&weights()).unwrap();
    assert_eq!(fs::read(&new).unwrap(), b"new weights");
    assert_eq!(setup.offline().fetch(&weights()).unwrap(), new);
    let pinned = weights().with_revision(Revision::parse(COMMIT).unwrap());
    assert_eq!(setup.offline().fetch(&pinned).unwrap(), old);
}

#[test]
fn refreshing_repairs_a_broken_cache_and_survives_a_lost_network() {
    let setup = setup();
    let path = setup.hub().fetch(&weights()).unwrap();
    setup.server.take_requests();
    setup.refreshing().fetch(&weights()).unwrap();
    assert!(gets(&setup.server.take_requests()).is_empty(), "what is there isn't downloaded again");
    fs::write(setup.blob(), b"broken").unwrap();
    setup.refreshing().fetch(&weights()).unwrap();
    assert_eq!(fs::read(&path).unwrap(), setup.weights);
    let mut config = setup.config();
    config.refresh = true;
    drop(setup.server);
    assert_eq!(Hub::new(config).fetch(&weights()).unwrap(), path);
}

#[test]
fn revisions_are_kept_apart() {
    let setup = setup();
    let commit = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    setup.server.add_at(REPOSITORY, "refs/pr/1", commit, WEIGHTS, b"from a pull request", true);
    let file = weights().with_revision(Revision::parse("refs/pr/1").unwrap());
    let path = setup.hub().fetch(&file).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"from a pull request");
    assert_eq!(fs::read_to_string(setup.repository_folder().join("refs/refs/pr/1")).unwrap(), commit);
    assert!(setup.server.take_requests()[0].path.contains("/resolve/refs%2Fpr%2F1/"));
    assert!(setup.offline().fetch(&weights()).unwrap_err().is_offline());
}

#[test]
fn the_token_goes_to_the_hub_and_nowhere_else() {
    let setup = setup();
    setup.server.require_token("hf_secret");
    let message = setup.hub().fetch(&weights()).unwrap_err().to_string();
    for part in ["HF_TOKEN", "licence", REPOSITORY, "401"] {
        assert!(message.contains(part), "{message}");
    }
    let mut config = setup.config();
    config.token = Token::new("hf_wrong");
    let message = Hub::new(config.clone()).fetch(&weights()).unwrap_err().to_string();
    assert!(message.contains("the token doesn't open"), "{message}");
    setup.server.take_requests();
    config.token = Token::new("hf_secret");
    Hub::new(config).fetch(&weights()).unwrap();
    for request in setup.server.take_requests() {
        let expected = (!request.path.starts_with("/cdn/")).then_some("Bearer hf_secret");
        assert_eq!(request.header("authorization"), expected, "{}", request.path);
    }
}

#[test]
fn a_renamed_repository_is_followed() {
    let setup = setup();
    setup.server.rename("old/name", REPOSITORY);
    let path = setup.hub().fetch(&HubFile::new("old/name", WEIGHTS).unwrap()).unwrap();
    assert!(path.starts_with(setup.folder.path().join("hub/models--old--name")));
    assert_eq!(fs::read(path).unwrap(), setup.weights);
}

#[test]
fn passing_errors_are_tried_again() {
    let setup = setup();
    for status in [500, 502, 503, 504, 429] {
        setup.server.fail(Fault::Status(status), 1);
    }
    setup.hub().fetch(&weights()).unwrap();

    let setup = self::setup();
    setup.server.fail(Fault::StatusWithRetryAfter(429, 0), 3);
    setup.hub().fetch(&weights()).unwrap();

    let setup = self::setup();
    setup.server.fail(Fault::Status(503), 100);
    let error = setup.hub().fetch(&weights()).unwrap_err();
    assert!(matches!(error, HubError::Status { status: 503, .. }), "{error}");
    assert_eq!(setup.server.take_requests().len(), 6, "one request and five retries");
}

#[test]
fn an_error_answer_never_becomes_a_file() {
    let setup = setup();
    for status in [400, 410, 501] {
        // The metadata comes, and then the contents don't.
        setup.server.fail(Fault::ContentsStatus(status), 1);
        let error = setup.hub().fetch(&weights()).unwrap_err();
        assert!(matches!(error, HubError::Status { status: found, .. } if found == status), "{error}");
        setup.assert_nothing_landed();
    }
}

#[test]
fn what_isnt_there_is_named() {
    let setup = setup();
    for file in [
        HubFile::new("org/absent", WEIGHTS).unwrap(),
        HubFile::new(REPOSITORY, "absent.bin").unwrap(),
        weights().with_revision(Revision::parse("absent").unwrap()),
    ] {
        let error = setup.hub().fetch(&file).unwrap_err();
        assert!(matches!(error, HubError::NotFound { .. }), "{error}");
        let message = error.to_string();
        for part in [file.file.as_str(), file.repository.as_str(), setup.server.endpoint().as_str()] {
            assert!(message.contains(part), "{message}");
        }
    }
    let both = ["x.safetensors", "x.bin"].map(|name| HubFile::new(REPOSITORY, name).unwrap());
    let message = setup.hub().fetch_first(&both).unwrap_err().to_string();
    assert!(message.contains("x.safetensors") && message.contains("x.bin"), "{message}");
    let second = [both[0].clone(), weights()];
    assert!(setup.hub().fetch_first(&second).unwrap().ends_with(WEIGHTS));
    setup.server.take_requests();
    setup.hub().fetch_first(&second).unwrap();
    assert_eq!(setup.server.take_requests(), [], "the cache is asked for all of them first");
}

#[test]
fn a_server_that_is_no_hub_is_recognised() {
    for fault in [
        Fault::WithoutHeader("X-Repo-Commit"),
        Fault::Header("X-Repo-Commit", "../../../escape"),
        Fault::Header("X-Repo-Commit", ".."),
        Fault::Header("X-Repo-Commit", ""),
        Fault::Header("X-Linked-Etag", "\"../../escape\""),
        Fault::Header("X-Linked-Etag", "\"a/b\""),
        Fault::Header("X-Linked-Etag", "\"\""),
    ] {
        let setup = setup();
        setup.server.fail(fault.clone(), 100);
        let error = setup.hub().fetch(&weights()).unwrap_err();
        assert!(matches!(error, HubError::BadAnswer { .. }), "{fault:?}: {error}");
        assert_eq!(fs::read_dir(setup.folder.path()).unwrap().count(), 0, "{fault:?} must write nothing");
    }
}

#[test]
fn nobody_at_the_address_is_one_clear_error() {
    let setup = setup();
    let mut config = setup.config();
    config.endpoint = "http://127.0.0.1:1".to_owned();
    let error = Hub::new(config).fetch(&weights()).unwrap_err();
    assert!(matches!(error, HubError::Connection { .. }), "{error}");
    assert!(error.to_string().contains("HF_ENDPOINT"), "{error}");
}

#[test]
fn many_at_once_download_once() {
    let setup = setup();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                // A hub of its own for each, as if they were processes.
                let hub = setup.hub();
                scope.spawn(move || hub.fetch(&weights()).unwrap())
            })
            .collect();
        for thread in threads {
            assert_eq!(fs::read(thread.join().unwrap()).unwrap(), setup.weights);
        }
    });
    assert_eq!(ranges(&setup.server.take_requests()).len(), 1);
}

#[test]
fn a_direct_address_is_verified_and_cached() {
    let setup = setup();
    let address = format!("{}/cdn/{}", setup.server.endpoint(), sha256(&setup.weights));
    let right = Sha256Digest::parse(&sha256(&setup.weights)[..8]).unwrap();
    let wrong = Sha256Digest::parse("00000000").unwrap();
    let error = setup.hub().fetch_address(&address, Some(&wrong)).unwrap_err();
    assert!(matches!(error, HubError::Digest { .. }), "{error}");
    setup.server.fail(Fault::Cut(1000), 1);
    let path = setup.hub().fetch_address(&address, Some(&right)).unwrap();
    assert!(path.starts_with(setup.folder.path().join("hub")));
    assert_eq!(fs::read(&path).unwrap(), setup.weights);
    assert_eq!(setup.offline().fetch_address(&address, Some(&right)).unwrap(), path);
    assert!(setup.offline().fetch_address(&address, Some(&wrong)).is_err());
    for hostile in ["http://h/", "http://h/..", "http://h/a/..?x", "http://h/a\\b", ""] {
        let error = setup.hub().fetch_address(hostile, None).unwrap_err();
        assert!(matches!(error, HubError::InvalidName { .. }), "{hostile}: {error}");
    }
}

#[test]
fn whatever_fails_only_the_right_file_lands() {
    let mut state = 1_u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut landed = 0;
    for round in 0..40 {
        let setup = setup();
        let mut config = setup.config();
        config.retries = 2;
        let faults: Vec<_> = (0..random(6))
            .map(|_| match random(5) {
                0 => Fault::Cut(random(400_001) as usize),
                1 => Fault::Corrupt,
                2 => Fault::IgnoreRange,
                3 => Fault::Status(503),
                _ => Fault::ContentsStatus(500),
            })
            .collect();
        for fault in &faults {
            setup.server.fail(fault.clone(), 1);
        }
        // A few processes, one after the other, each going on with what the one before has left.
        for _ in 0..3 {
            match Hub::new(config.clone()).fetch(&weights()) {
                Ok(path) => {
                    assert_eq!(fs::read(path).unwrap(), setup.weights, "round {round}: {faults:?}");
                    landed += 1;
                    break;
                }
                Err(_) => setup.assert_nothing_landed(),
            }
        }
    }
    assert!(landed > 30, "most rounds end well, and {landed} did");
}
