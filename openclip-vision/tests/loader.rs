//! What a [`BatchLoader`] promises whatever its sources do: memory is bounded, order is kept, nothing waits for what isn't
//! needed, and it ends.

#![allow(clippy::unwrap_used)] // helpers outside of test functions

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use openclip_vision::preprocess::{
    Batch, BatchLoader, ImageSize, ImageSource, LoaderOptions, PreprocessConfig, Preprocessor,
};

/// Long enough for any machine; a loader that waits for something that never comes fails rather than hangs.
const PATIENCE: Duration = Duration::from_secs(60);

fn preprocessor() -> Preprocessor {
    let config = PreprocessConfig {
        size: ImageSize::Square(2),
        mean: vec![0.0; 3],
        std: vec![1.0; 3],
        ..PreprocessConfig::default()
    };
    Preprocessor::new(config).unwrap()
}

fn options(batch_size: usize, threads: usize, prefetch: usize) -> LoaderOptions {
    LoaderOptions::default().with_batch_size(batch_size).with_threads(threads).with_prefetch(prefetch)
}

/// A grey image of `side` pixels a side, whose value tells it from its neighbours.
fn image(number: usize, side: usize) -> ImageSource {
    let mut bytes = format!("P5 {side} {side} 255\n").into_bytes();
    bytes.resize(bytes.len() + side * side, value(number));
    ImageSource::Bytes { name: format!("image {number}"), bytes }
}

fn value(number: usize) -> u8 {
    (number % 251) as u8
}

/// Runs `work` on a thread of its own and fails when it doesn't end.
fn ends<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::spawn(move || sender.send(work()));
    let result = receiver.recv_timeout(PATIENCE);
    assert_ne!(result.as_ref().err(), Some(&mpsc::RecvTimeoutError::Timeout), "the loader doesn't end");
    let joined = thread.join();
    result.unwrap_or_else(|_| std::panic::resume_unwind(joined.unwrap_err()))
}

/// Checks that the images of a batch are those numbered from `first` on; returns the number after the last.
fn check(batch: &Batch, first: usize) -> usize {
    assert_eq!(batch.first, first);
    let rows: Vec<&[f32]> = batch.pixels.rows().collect();
    let mut next_row = 0;
    for (number, item) in (first..).zip(&batch.items) {
        match item {
            Ok(row) => {
                assert_eq!(*row, next_row);
                assert!(rows[*row].iter().all(|&found| found == f32::from(value(number)) / 255.0));
                next_row += 1;
            }
            Err(error) => assert!(error.to_string().contains(&format!("{number}: ")), "{number}: {error}"),
        }
    }
    assert_eq!(rows.len(), next_row);
    first + batch.items.len()
}

#[test]
fn any_number_of_images_comes_in_order_and_ends() {
    for (batch_size, threads, prefetch) in [(1, 1, 1), (1, 8, 1), (4, 2, 2), (3, 16, 1), (32, 4, 2)] {
        for count in [0, 1, 3, 32, 33, 1000] {
            for is_known in [true, false] {
                let found = ends(move || {
                    // Every seventh can't be read, and there are large ones among the small.
                    let sources = (0..count).map(|number| match number % 49 {
                        7 | 14 | 21 | 48 => format!("no/such/image {number}").into(),
                        30 => image(number, 700),
                        _ => image(number, 2),
                    });
                    let (preprocessor, options) = (preprocessor(), options(batch_size, threads, prefetch));
                    let loader = if is_known {
                        BatchLoader::new(preprocessor, sources, options)
                    } else {
                        BatchLoader::new(preprocessor, sources.filter(|_| true), options)
                    };
                    let full = |batch: &Batch| batch.items.len() == batch_size;
                    let batches: Vec<Batch> = loader.collect();
                    assert!(batches.iter().rev().skip(1).all(full));
                    batches.iter().fold(0, |first, batch| check(batch, first))
                });
                assert_eq!(found, count, "batches of {batch_size}, {threads} threads, known: {is_known}");
            }
        }
    }
}

/// Counts the sources that were started and aren't with the caller yet.
#[test]
fn no_more_images_than_allowed_are_under_way() {
    for (batch_size, threads, prefetch) in [(1, 4, 1), (4, 3, 2), (8, 16, 1)] {
        let started = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&started);
        let endless = (0..).map(move |number| {
            counted.fetch_add(1, Ordering::SeqCst);
            image(number, 2)
        });
        let mut loader = BatchLoader::new(preprocessor(), endless, options(batch_size, threads, prefetch));
        for batch in 1..50 {
            loader.next().unwrap();
            let ahead = started.load(Ordering::SeqCst) - batch * batch_size;
            assert!(ahead <= batch_size * prefetch, "{ahead} ahead of batch {batch}");
        }
        drop(loader);
    }
}

#[test]
fn an_image_does_not_wait_for_the_next() {
    for count in [1, 5] {
        ends(move || {
            let (handed_on, wait) = mpsc::channel();
            // A source that only comes when the image before it has arrived.
            let sources = (0..count).map(move |number| {
                if number > 0 {
                    wait.recv_timeout(PATIENCE).unwrap();
                }
                image(number, 2)
            });
            let mut first = 0;
            for batch in BatchLoader::new(preprocessor(), sources, options(1, 3, 2)) {
                first = check(&batch, first);
                // Nobody listens any more after the last.
                let _ = handed_on.send(());
            }
            assert_eq!(first, count);
        });
    }
}

#[test]
fn a_caller_may_stop_at_any_time() {
    for taken in 0..4 {
        for threads in [1, 6] {
            let started = ends(move || {
                let started = Arc::new(AtomicUsize::new(0));
                let counted = Arc::clone(&started);
                let endless = (0..).map(move |number| {
                    counted.fetch_add(1, Ordering::SeqCst);
                    image(number, 300)
                });
                let mut loader = BatchLoader::new(preprocessor(), endless, options(2, threads, 2));
                assert_eq!(
                    loader.by_ref().take(taken).fold(0, |first, batch| check(&batch, first)),
                    2 * taken
                );
                drop(loader);
                let at_the_end = started.load(Ordering::SeqCst);
                // Its threads have ended with it: what they held is gone.
                assert_eq!(Arc::strong_count(&started), 1);
                at_the_end
            });
            assert!(started <= 2 * (taken + 2));
        }
    }
}

/// A source that can't be turned into an image.
struct Numbered(usize);

impl From<Numbered> for ImageSource {
    fn from(Numbered(number): Numbered) -> Self {
        assert!(number % 5 != 3, "a source that panics");
        image(number, 2)
    }
}

#[test]
fn a_source_that_panics_is_an_error_in_its_place() {
    ends(|| {
        let loader = BatchLoader::new(preprocessor(), (0..20).map(Numbered), options(3, 2, 1));
        let batches: Vec<Batch> = loader.collect();
        assert_eq!(batches.iter().fold(0, |first, batch| check(batch, first)), 20);
        let failed: Vec<String> = batches
            .into_iter()
            .flat_map(|batch| batch.items)
            .filter_map(|item| item.err().map(|error| error.to_string()))
            .collect();
        assert_eq!(failed.len(), 4);
        assert!(failed[1].starts_with("image 8: preparing it failed"), "{}", failed[1]);
    });
}

#[test]
fn a_panic_of_the_list_of_sources_is_the_callers() {
    ends(|| {
        let sources = (0..).map(|number| {
            assert!(number < 7, "no list any more");
            image(number, 2)
        });
        let mut loader = BatchLoader::new(preprocessor(), sources, options(2, 4, 1));
        let all = std::panic::catch_unwind(AssertUnwindSafe(|| loader.by_ref().count()));
        assert_eq!(all.unwrap_err().downcast_ref::<&str>(), Some(&"no list any more"));
        assert!(loader.next().is_none());
    });
}
