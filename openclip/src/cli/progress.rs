//! Progress bars on stderr, on terminals only.

use std::{collections::HashMap, io::IsTerminal, sync::Mutex, sync::PoisonError};

use crate::zoo::hub::{Progress, ProgressEvent};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

fn target(quiet: bool) -> ProgressDrawTarget {
    match !quiet && std::io::stderr().is_terminal() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A bar that counts `total` things.
pub fn count(total: usize, what: &str, quiet: bool) -> ProgressBar {
    count_from(Some(total), 0, what, quiet)
}

/// A bar that counts things, of which `done` were done before; `total` is all of them, if that is known.
pub fn count_from(total: Option<usize>, done: usize, what: &str, quiet: bool) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(total.map(|total| total as u64), target(quiet));
    bar.set_style(style(match total {
        Some(_) => "{msg} {wide_bar} {pos}/{len} {per_sec} {eta}",
        None => "{msg} {spinner} {pos} {per_sec}",
    }));
    bar.set_message(what.to_owned());
    bar.with_position(done as u64)
}

/// A bar for every file that is downloaded.
pub fn download(quiet: bool) -> impl Progress {
    let all = MultiProgress::with_draw_target(target(quiet));
    let bars: Mutex<HashMap<String, ProgressBar>> = Mutex::default();
    move |event: ProgressEvent<'_>| {
        let mut bars = bars.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            ProgressEvent::Started { name, size, resumed_at } => {
                let bar = all.add(ProgressBar::no_length());
                if let Some(size) = size {
                    bar.set_length(size);
                }
                bar.set_style(style("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}"));
                bar.set_message(name.to_owned());
                bar.set_position(resumed_at);
                bars.insert(name.to_owned(), bar);
            }
            ProgressEvent::Advanced { name, position } => {
                if let Some(bar) = bars.get(name) {
                    bar.set_position(position);
                }
            }
            ProgressEvent::Retrying { name, reason } => {
                // Without a terminal there is no bar that would show it.
                eprintln!("warning: {name}: {reason}; trying again");
            }
            ProgressEvent::Finished { name } => {
                if let Some(bar) = bars.remove(name) {
                    bar.finish_and_clear();
                }
            }
            _ => {}
        }
    }
}
