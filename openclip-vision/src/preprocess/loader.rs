//! Many images at once: decoding and preparing on background threads while the caller encodes the batch before.
//!
//! Memory is bounded: at most [`BatchLoader::prefetch`](LoaderOptions::prefetch) batches are finished or under way
//! besides the one that the caller holds. While the caller is the slower side, as encoders on a CPU are, the threads rest
//! most of the time and take little from it. Items stay in input order, and an image that fails is an error of its own.

use std::any::Any;
use std::collections::BTreeMap;
use std::iter::Fuse;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use openclip_core::{HostTensor, panics::caught};

use super::decode::DecodeOptions;
use super::error::ImageError;
use super::image::DecodedImage;
use super::pipeline::{Preprocessor, read};
use super::scratch::Scratch;

/// Where an image comes from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ImageSource {
    /// A file.
    Path(PathBuf),
    /// A file in memory.
    Bytes {
        /// Name for error messages.
        name: String,
        /// The file's content.
        bytes: Vec<u8>,
    },
    /// An image that is already decoded.
    Image(DecodedImage),
}

impl ImageSource {
    /// What it is called in messages.
    pub fn name(&self) -> std::borrow::Cow<'_, str> {
        match self {
            Self::Path(path) => path.to_string_lossy(),
            Self::Bytes { name, .. } => name.into(),
            Self::Image(image) => image.name().into(),
        }
    }
}

impl<P: Into<PathBuf>> From<P> for ImageSource {
    fn from(path: P) -> Self {
        Self::Path(path.into())
    }
}

/// How a [`BatchLoader`] works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoaderOptions {
    /// Images per batch.
    pub batch_size: usize,
    /// Background threads.
    pub threads: usize,
    /// Batches that are prepared ahead of the caller.
    pub prefetch: usize,
    /// Decoding limits.
    pub decode: DecodeOptions,
}

impl Default for LoaderOptions {
    /// Batches of 32, a thread per core, two batches ahead.
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { batch_size: 32, threads, prefetch: 2, decode: DecodeOptions::default() }
    }
}

impl LoaderOptions {
    /// The same with another batch size (at least 1).
    pub fn with_batch_size(mut self, batch_size: usize) -> Self {
        self.batch_size = batch_size.max(1);
        self
    }

    /// The same with another number of threads (at least 1).
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// The same with another number of batches ahead (at least 1).
    pub fn with_prefetch(mut self, prefetch: usize) -> Self {
        self.prefetch = prefetch.max(1);
        self
    }

    /// The same with other decoding limits.
    pub fn with_decode(mut self, decode: DecodeOptions) -> Self {
        self.decode = decode;
        self
    }
}

/// A batch of prepared images.
#[derive(Debug)]
#[non_exhaustive]
pub struct Batch {
    /// Position of the batch's first source among all sources.
    pub first: usize,
    /// The images that could be prepared, in order: `[N, 3, H, W]`. `N` is zero when all of them failed.
    pub pixels: HostTensor,
    /// One entry per source: its row in [`Self::pixels`], or why there is none.
    pub items: Vec<Result<usize, ImageError>>,
}

/// What a worker hands back.
enum Message {
    /// The position of a source, and its pixels or error.
    Prepared(usize, Result<Vec<f32>, ImageError>),
    /// The number of sources that there were, and what the iterator panicked with if that is why there are no more.
    End(usize, Option<Box<dyn Any + Send>>),
}

/// An iterator of [`Batch`]es over many image sources.
///
/// ```
/// use openclip_vision::preprocess::{BatchLoader, LoaderOptions, PreprocessConfig, Preprocessor};
///
/// let preprocessor = Preprocessor::new(PreprocessConfig::default())?;
/// let options = LoaderOptions::default().with_batch_size(2).with_threads(2);
/// let batches: Vec<_> = BatchLoader::new(preprocessor, ["a.png", "b.png", "c.png"], options).collect();
/// assert_eq!(batches.len(), 2);
/// // None of these files exists: the batches hold no pixels, and three errors that name the files.
/// assert_eq!(batches[0].pixels.dims(), [0, 3, 224, 224]);
/// assert!(batches[1].items[0].as_ref().unwrap_err().to_string().starts_with("c.png: "));
/// # Ok::<(), openclip_core::Error>(())
/// ```
pub struct BatchLoader {
    /// Tells the workers to start nothing more.
    stopped: Arc<AtomicBool>,
    /// Gives a permit to start the next source; dropped to wake the workers when they should stop.
    permits: Option<mpsc::Sender<()>>,
    messages: mpsc::Receiver<Message>,
    workers: Vec<JoinHandle<()>>,
    /// Results that came before their turn.
    early: BTreeMap<usize, Result<Vec<f32>, ImageError>>,
    spare: Spare,
    size: (usize, usize),
    batch_size: usize,
    next: usize,
    /// The number of sources, as far as it is known.
    at_most: usize,
}

/// What the workers share.
struct Queue<I> {
    stopped: Arc<AtomicBool>,
    sources: Mutex<Sources<I>>,
    permits: Mutex<mpsc::Receiver<()>>,
    spare: Spare,
}

/// The sources that haven't been started.
struct Sources<I> {
    rest: Fuse<I>,
    /// How many were started.
    started: usize,
}

/// Pixels of earlier images, to be written over: fresh pages for each image would cost as much as resizing it.
type Spare = Arc<Mutex<Vec<Vec<f32>>>>;

impl<I: Iterator> Queue<I> {
    /// The next source, once there is a permit for it; the message that there are no more; or nothing when the loader is
    /// dropped. A permit and its source are taken under one lock, so that sources start in order.
    fn next(&self) -> Option<Result<(usize, I::Item), Message>> {
        let permits = self.permits.lock().unwrap_or_else(PoisonError::into_inner);
        permits.recv().ok()?;
        if self.stopped.load(Ordering::Relaxed) {
            return None;
        }
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let Sources { rest, started } = &mut *sources;
        let position = *started;
        Some(match catch_unwind(AssertUnwindSafe(|| rest.next())) {
            Ok(Some(source)) => {
                *started += 1;
                Ok((position, source))
            }
            Ok(None) => Err(Message::End(position, None)),
            Err(panic) => Err(Message::End(position, Some(panic))),
        })
    }
}

impl BatchLoader {
    /// Starts to prepare `sources`.
    pub fn new<S, I>(preprocessor: Preprocessor, sources: S, options: LoaderOptions) -> Self
    where
        S: IntoIterator<Item = I, IntoIter: Send + 'static>,
        I: Into<ImageSource>,
    {
        let size = preprocessor.size();
        let sources = sources.into_iter();
        let sources_at_most = sources.size_hint().1;
        let (permits, permit_receiver) = mpsc::channel();
        let (message_sender, messages) = mpsc::channel();
        let stopped = Arc::new(AtomicBool::new(false));
        let queue = Arc::new(Queue {
            stopped: Arc::clone(&stopped),
            sources: Mutex::new(Sources { rest: sources.fuse(), started: 0 }),
            permits: Mutex::new(permit_receiver),
            spare: Spare::default(),
        });
        let spare = Arc::clone(&queue.spare);
        let batch_size = options.batch_size.max(1);
        for _ in 0..batch_size.saturating_mul(options.prefetch.max(1)) {
            // The receiver lives in the queue above.
            let _ = permits.send(());
        }
        let preprocessor = Arc::new(preprocessor);
        // No more threads than there are sources: a single image isn't to wait for them to start.
        let threads = sources_at_most.map_or(options.threads, |count| options.threads.min(count));
        let workers = (0..threads.max(1))
            .map(|_| {
                let (queue, preprocessor) = (Arc::clone(&queue), Arc::clone(&preprocessor));
                let messages = message_sender.clone();
                std::thread::spawn(move || {
                    let mut scratch = Scratch::default();
                    while let Some(next) = queue.next() {
                        let message = next.map_or_else(
                            |end| end,
                            |(position, source)| {
                                let worker = Worker { preprocessor: &preprocessor, spare: &queue.spare };
                                let decode = &options.decode;
                                Message::Prepared(
                                    position,
                                    worker.prepare(position, source, decode, &mut scratch),
                                )
                            },
                        );
                        let is_last = matches!(message, Message::End(..));
                        if messages.send(message).is_err() || is_last {
                            break;
                        }
                    }
                })
            })
            .collect();
        Self {
            stopped,
            permits: Some(permits),
            messages,
            workers,
            early: BTreeMap::new(),
            spare,
            size,
            batch_size,
            next: 0,
            at_most: sources_at_most.unwrap_or(usize::MAX),
        }
    }

    /// The next source's result, or `None` after the last. That all sources are through is known from their number, not
    /// from the workers' end: some of them may wait for a permit that nobody needs any more.
    fn next_item(&mut self) -> Option<Result<Vec<f32>, ImageError>> {
        while self.next < self.at_most {
            if let Some(prepared) = self.early.remove(&self.next) {
                self.next += 1;
                if let Some(permits) = &self.permits {
                    // A closed channel only means that all sources are under way.
                    let _ = permits.send(());
                }
                return Some(prepared);
            }
            match self.messages.recv().ok()? {
                Message::Prepared(position, prepared) => {
                    self.early.insert(position, prepared);
                }
                Message::End(count, None) => self.at_most = count,
                // It is the caller's iterator: its panic goes to the caller.
                Message::End(_, Some(panic)) => {
                    self.at_most = self.next;
                    resume_unwind(panic);
                }
            }
        }
        None
    }
}

/// What a worker needs besides its scratch.
struct Worker<'a> {
    preprocessor: &'a Preprocessor,
    spare: &'a Spare,
}

impl Worker<'_> {
    /// Prepares one source. A panic on the way is that source's error: the others don't wait for it.
    fn prepare(
        &self,
        position: usize,
        source: impl Into<ImageSource>,
        options: &DecodeOptions,
        scratch: &mut Scratch,
    ) -> Result<Vec<f32>, ImageError> {
        let mut name = format!("image {position}");
        let work = || {
            let source = source.into();
            name = source.name().into_owned();
            self.pixels(source, options, scratch)
        };
        caught(work).unwrap_or(Err(ImageError::Panicked { name }))
    }

    fn pixels(
        &self,
        source: ImageSource,
        options: &DecodeOptions,
        scratch: &mut Scratch,
    ) -> Result<Vec<f32>, ImageError> {
        let (name, bytes) = match source {
            ImageSource::Path(path) => read(&path)?,
            ImageSource::Bytes { name, bytes } => (name, bytes),
            ImageSource::Image(image) => {
                let mut pixels = self.buffer();
                self.preprocessor.prepare_into(&image, &mut pixels)?;
                return Ok(pixels);
            }
        };
        let mut pixels = self.buffer();
        self.preprocessor.prepare_bytes_into(name, &bytes, options, &mut pixels, scratch)?;
        Ok(pixels)
    }

    /// Room for an image's pixels, of any values.
    fn buffer(&self) -> Vec<f32> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_else(|| vec![0.0; self.preprocessor.output_len()])
    }
}

impl Iterator for BatchLoader {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        let first = self.next;
        let (height, width) = self.size;
        let mut data: Vec<f32> = Vec::new();
        let mut items = Vec::new();
        let mut rows = 0;
        while items.len() < self.batch_size {
            let Some(item) = self.next_item() else { break };
            if let (Ok(pixels), true) = (&item, data.is_empty()) {
                let images = self.batch_size.min(self.at_most.saturating_sub(first));
                data.reserve_exact(pixels.len().saturating_mul(images));
            }
            items.push(item.map(|pixels| {
                data.extend_from_slice(&pixels);
                self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(pixels);
                rows += 1;
                rows - 1
            }));
        }
        if items.is_empty() {
            return None;
        }
        let pixels = HostTensor::new([rows, 3, height, width], data).ok()?;
        Some(Batch { first, pixels, items })
    }
}

impl Drop for BatchLoader {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.permits = None;
        for worker in self.workers.drain(..) {
            // A worker that panicked has already printed why.
            let _ = worker.join();
        }
    }
}
