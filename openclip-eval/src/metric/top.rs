//! The largest of a row of scores, with ties broken as `torch.topk` breaks them on a processor.
//!
//! Which of several equal scores counts as among the first `k` decides a hit. PyTorch leaves that to the C++ library's
//! `partial_sort` (where `64 k <= N`) or `nth_element`, of GNU's implementation in its builds for Linux. Both are followed here
//! step by step; without ties they are any correct selection.

/// A score and its place in the row.
type Entry = (f32, u32);

/// Whether `a` comes before `b`. Scores are numbers.
fn before(a: Entry, b: Entry) -> bool {
    a.0 > b.0
}

/// The place of the largest value, the first of several equal ones, as `torch.argmax` gives it.
pub fn argmax(scores: &[f32]) -> Option<usize> {
    let larger = |best: Option<(usize, f32)>, (place, &score): (usize, &f32)| match best {
        Some((_, found)) if found >= score => best,
        _ => Some((place, score)),
    };
    scores.iter().enumerate().fold(None, larger).map(|(place, _)| place)
}

/// Room for a row, to be used again.
#[derive(Debug, Default)]
pub struct TopK {
    queue: Vec<Entry>,
}

impl TopK {
    /// The places of the `k` largest values, the largest first. All places when there are fewer.
    pub fn select(&mut self, scores: &[f32], k: usize) -> impl Iterator<Item = usize> + '_ {
        let k = k.min(scores.len());
        self.queue.clear();
        self.queue.extend(scores.iter().zip(0..).map(|(&score, place)| (score, place)));
        if k > 0 {
            if k * 64 <= scores.len() {
                partial_sort(&mut self.queue, k);
            } else {
                nth_element(&mut self.queue, k - 1);
                if let Some(first) = self.queue.get_mut(..k - 1) {
                    sort(first);
                }
            }
        }
        self.queue.iter().take(k).map(|&(_, place)| place as usize)
    }
}

/// Index without a bounds error: places are those of the algorithms below, which stay inside.
fn at(queue: &[Entry], place: usize) -> Entry {
    queue.get(place).copied().unwrap_or((f32::NEG_INFINITY, u32::MAX))
}

fn set(queue: &mut [Entry], place: usize, entry: Entry) {
    if let Some(slot) = queue.get_mut(place) {
        *slot = entry;
    }
}

/// Moves `entry` up from `hole` towards `top`.
fn push_heap(heap: &mut [Entry], mut hole: usize, top: usize, entry: Entry) {
    while hole > top {
        let parent = (hole - 1) / 2;
        if !before(at(heap, parent), entry) {
            break;
        }
        set(heap, hole, at(heap, parent));
        hole = parent;
    }
    set(heap, hole, entry);
}

/// Lets `entry` sink from `hole` in a heap of `length` entries.
fn adjust_heap(heap: &mut [Entry], hole: usize, length: usize, entry: Entry) {
    let top = hole;
    let (mut hole, mut child) = (hole, hole);
    while child < length.saturating_sub(1) / 2 {
        child = 2 * (child + 1);
        if before(at(heap, child), at(heap, child - 1)) {
            child -= 1;
        }
        set(heap, hole, at(heap, child));
        hole = child;
    }
    if length.is_multiple_of(2) && length >= 2 && child == (length - 2) / 2 {
        child = 2 * (child + 1);
        set(heap, hole, at(heap, child - 1));
        hole = child - 1;
    }
    push_heap(heap, hole, top, entry);
}

/// The first `k` of the order, in order, at the front.
fn partial_sort(queue: &mut [Entry], k: usize) {
    heap_select(queue, k);
    for last in (1..k).rev() {
        let entry = at(queue, last);
        set(queue, last, at(queue, 0));
        adjust_heap(queue, 0, last, entry);
    }
}

/// Puts the entry that belongs at `nth` there, and none before it that belongs behind.
fn nth_element(queue: &mut [Entry], nth: usize) {
    let (mut first, mut last) = (0, queue.len());
    let mut depth = 2 * (usize::BITS - 1 - queue.len().max(1).leading_zeros()) as usize;
    while last - first > 3 {
        if depth == 0 {
            let rest = queue.get_mut(first..last).unwrap_or_default();
            heap_select(rest, nth + 1 - first);
            queue.swap(first, nth);
            return;
        }
        depth -= 1;
        let cut = partition_pivot(queue, first, last);
        if cut <= nth {
            first = cut;
        } else {
            last = cut;
        }
    }
    insertion_sort(queue.get_mut(first..last).unwrap_or_default());
}

/// A heap of the first `k` of the order, whose last is at its top.
fn heap_select(queue: &mut [Entry], k: usize) {
    if k >= 2 {
        for parent in (0..=(k - 2) / 2).rev() {
            let entry = at(queue, parent);
            adjust_heap(queue, parent, k, entry);
        }
    }
    for place in k..queue.len() {
        let entry = at(queue, place);
        if before(entry, at(queue, 0)) {
            set(queue, place, at(queue, 0));
            adjust_heap(queue, 0, k, entry);
        }
    }
}

/// Splits `first..last` at the median of three of its entries, which it puts first.
fn partition_pivot(queue: &mut [Entry], first: usize, last: usize) -> usize {
    let (a, b, c) = (first + 1, first + (last - first) / 2, last - 1);
    let is_before = |x: usize, y: usize| before(at(queue, x), at(queue, y));
    let median = if is_before(a, b) {
        if is_before(b, c) {
            b
        } else if is_before(a, c) {
            c
        } else {
            a
        }
    } else if is_before(a, c) {
        a
    } else if is_before(b, c) {
        c
    } else {
        b
    };
    queue.swap(first, median);
    let pivot = at(queue, first);
    let (mut low, mut high) = (first + 1, last);
    loop {
        while before(at(queue, low), pivot) {
            low += 1;
        }
        high -= 1;
        while before(pivot, at(queue, high)) {
            high -= 1;
        }
        if low >= high {
            return low;
        }
        queue.swap(low, high);
        low += 1;
    }
}

fn insertion_sort(queue: &mut [Entry]) {
    for place in 1..queue.len() {
        let entry = at(queue, place);
        let mut hole = place;
        while hole > 0 && before(entry, at(queue, hole - 1)) {
            set(queue, hole, at(queue, hole - 1));
            hole -= 1;
        }
        set(queue, hole, entry);
    }
}

/// `std::sort` up to 16 entries, which is an insertion sort. Beyond, the order of equal entries doesn't decide any hit here:
/// only which entries are among the first is asked for.
fn sort(queue: &mut [Entry]) {
    if queue.len() <= 16 {
        return insertion_sort(queue);
    }
    queue.sort_by(|a, b| b.0.total_cmp(&a.0));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_largest_is_the_first_of_several() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0, 2.0]), Some(1));
        assert_eq!(argmax(&[]), None);
    }

    proptest! {
        #[test]
        fn it_is_a_selection_of_the_largest(scores in prop::collection::vec(0_u8..9, 1..900), k in 1_usize..12) {
            let scores: Vec<f32> = scores.into_iter().map(f32::from).collect();
            let top: Vec<usize> = TopK::default().select(&scores, k).collect();
            let mut sorted = scores.clone();
            sorted.sort_by(|a, b| b.total_cmp(a));
            let found: Vec<f32> = top.iter().map(|&place| scores[place]).collect();
            prop_assert_eq!(&found[..], &sorted[..k.min(scores.len())]);
            let mut places = top.clone();
            places.sort_unstable();
            places.dedup();
            prop_assert_eq!(places.len(), top.len());
        }
    }
}
