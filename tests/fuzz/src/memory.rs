//! How much memory a thread takes, counted where it is taken. What an input makes of itself is bounded by that, not only by
//! what comes out in the end.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// What one thread may have taken, in bytes: whoever wants more gets nothing, which ends the process. An input that is that
/// hungry is left behind in the file of what was tried last.
const MOST: isize = 1 << 30;

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    static NOW: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// Whether there is room for so many more bytes.
fn take(bytes: usize) -> bool {
    let taken = NOW.try_with(|now| {
        let sum = now.get().saturating_add_unsigned(bytes);
        if sum > MOST {
            return false;
        }
        now.set(sum);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(sum)));
        true
    });
    taken.unwrap_or(true)
}

fn give(bytes: usize) {
    let _ = NOW.try_with(|now| now.set(now.get().saturating_sub_unsigned(bytes)));
}

// The system's allocator does the work; counting touches no memory but two cells of the thread.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if take(layout.size()) { unsafe { System.alloc(layout) } } else { std::ptr::null_mut() }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        give(layout.size());
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if take(layout.size()) { unsafe { System.alloc_zeroed(layout) } } else { std::ptr::null_mut() }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !take(size) {
            return std::ptr::null_mut();
        }
        give(layout.size());
        unsafe { System.realloc(at, layout, size) }
    }
}

/// What `work` makes, and the most bytes that this thread had taken for it at any moment.
pub(crate) fn measured<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW.get();
    PEAK.set(before);
    let made = work();
    (made, usize::try_from(PEAK.get() - before).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::measured;

    #[test]
    fn what_is_given_back_counts_too() {
        let (_, peak) = measured(|| drop(std::hint::black_box(vec![1u8; 100_000])));
        assert!((100_000..200_000).contains(&peak), "{peak}");
        assert!(measured(|| ()).1 < 1000);
    }
}
