//! Panics of other crates on foreign data, which become errors.

use std::{
    cell::Cell,
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

thread_local! {
    /// Whether this thread's next panic is caught.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// What `work` gives; nothing where it panics. It must keep nothing that outlives the panic.
pub fn caught<T>(work: impl FnOnce() -> T) -> Option<T> {
    let outer = CAUGHT.replace(true);
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    CAUGHT.set(outer);
    done.ok()
}

/// From now on this process reports no panic that [`caught`] turns into an error. For programs whose standard error people
/// read; all other panics are reported as before.
pub fn report_only_uncaught() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !CAUGHT.get() {
                report(panic);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_nothing_and_ends_where_it_is_caught() {
        assert_eq!(caught(|| 3), Some(3));
        let inner = caught(|| {
            assert_eq!(caught(|| panic!("on purpose")), None::<()>);
            CAUGHT.get()
        });
        assert_eq!((inner, CAUGHT.get()), (Some(true), false));
    }
}
