//! How much a container may log: what comes too fast is dropped, counted, and said in the log.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::logs::{LogSink, LogStream};

/// Tokens that fill up with time; one is a byte.
#[derive(Debug)]
struct Bucket {
    rate: u64,
    burst: u64,
    tokens: u64,
    /// When `tokens` was right.
    at: Instant,
    dropped: Dropped,
}

/// What was left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Dropped {
    bytes: u64,
    lines: u64,
}

impl Bucket {
    /// How many of `bytes` may pass: all, or the whole lines at the beginning for which there are tokens.
    fn admit(&mut self, bytes: &[u8], now: Instant) -> usize {
        let passed = now.saturating_duration_since(self.at);
        let new = (passed.as_nanos() * u128::from(self.rate) / 1_000_000_000) as u64;
        if new > 0 {
            self.tokens = self.tokens.saturating_add(new).min(self.burst);
            // What is not yet a whole byte counts on.
            let used = u128::from(new) * 1_000_000_000 / u128::from(self.rate.max(1));
            self.at += Duration::from_nanos(u64::try_from(used).unwrap_or(u64::MAX));
        }
        let room = usize::try_from(self.tokens).unwrap_or(usize::MAX);
        let fits = if bytes.len() <= room {
            bytes.len()
        } else {
            bytes[..room].iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1)
        };
        self.tokens -= fits as u64;
        let left = &bytes[fits..];
        if !left.is_empty() {
            self.dropped.bytes += left.len() as u64;
            self.dropped.lines += left.iter().filter(|&&b| b == b'\n').count().max(1) as u64;
        }
        fits
    }
}

/// A sink that takes no more than the container may log.
pub(crate) struct Limited {
    sink: Arc<dyn LogSink>,
    bucket: Mutex<Bucket>,
}

impl Limited {
    pub(crate) fn new(sink: Arc<dyn LogSink>, rate: u64, burst: u64, now: Instant) -> Self {
        let bucket = Bucket { rate, burst, tokens: burst, at: now, dropped: Dropped::default() };
        Limited { sink, bucket: Mutex::new(bucket) }
    }

    /// Writes what must not be lost, such as why the container has ended.
    pub(crate) fn urgent(&self, stream: LogStream, bytes: &[u8]) {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let (missing, rate) = (std::mem::take(&mut bucket.dropped), bucket.rate);
        drop(bucket);
        self.say(missing, rate);
        self.sink.write(stream, bytes);
    }

    fn say(&self, dropped: Dropped, rate: u64) {
        if dropped != Dropped::default() {
            let Dropped { bytes, lines } = dropped;
            let text = format!("copepod: {lines} lines ({bytes} bytes) dropped, more than {rate} bytes a second\n");
            self.sink.write(LogStream::Stderr, text.as_bytes());
        }
    }
}

impl LogSink for Limited {
    /// Whoever is attached sees all: only what is kept has a limit.
    fn live(&self, stream: LogStream, bytes: &[u8]) {
        self.sink.live(stream, bytes);
    }

    fn write(&self, stream: LogStream, bytes: &[u8]) {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        // What was dropped before this; what is dropped of this is said later.
        let missing = std::mem::take(&mut bucket.dropped);
        let fits = bucket.admit(bytes, Instant::now());
        if fits == 0 {
            bucket.dropped.bytes += missing.bytes;
            bucket.dropped.lines += missing.lines;
            return;
        }
        let rate = bucket.rate;
        drop(bucket);
        self.say(missing, rate);
        self.sink.write(stream, &bytes[..fits]);
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        let bucket = self.bucket.get_mut().unwrap_or_else(PoisonError::into_inner);
        let (dropped, rate) = (bucket.dropped, bucket.rate);
        self.say(dropped, rate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(rate: u64, burst: u64) -> (Bucket, Instant) {
        let at = Instant::now();
        (Bucket { rate, burst, tokens: burst, at, dropped: Dropped::default() }, at)
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let (mut bucket, at) = bucket(10, 20);
        assert_eq!(bucket.admit(b"0123456789abcdefghi\n", at), 20);
        assert_eq!(bucket.admit(b"more\n", at), 0);
        assert_eq!(bucket.dropped, Dropped { bytes: 5, lines: 1 });
        assert_eq!(bucket.admit(b"more\n", at + Duration::from_millis(499)), 0);
        assert_eq!(bucket.admit(b"more\n", at + Duration::from_millis(500)), 5);
        assert_eq!(bucket.admit(&[b'\n'; 100], at + Duration::from_secs(100)), 20, "no more than a burst piles up");
    }

    #[test]
    fn only_whole_lines_pass() {
        let (mut bucket, at) = bucket(10, 10);
        assert_eq!(bucket.admit(b"one\ntwo\nthree\nfour\n", at), 8);
        assert_eq!(bucket.dropped, Dropped { bytes: 11, lines: 2 });
    }

    struct Lines(Mutex<String>);
    impl LogSink for Lines {
        fn live(&self, _: LogStream, _: &[u8]) {}

        fn write(&self, _: LogStream, bytes: &[u8]) {
            self.0.lock().unwrap().push_str(std::str::from_utf8(bytes).unwrap());
        }
    }

    #[test]
    fn what_is_dropped_is_said_when_it_flows_again_and_at_the_end() {
        let lines = Arc::new(Lines(Mutex::default()));
        let limited = Limited::new(lines.clone(), 1, 6, Instant::now());
        limited.write(LogStream::Stdout, b"one\n");
        limited.write(LogStream::Stdout, b"two\n");
        limited.write(LogStream::Stdout, b"a\n");
        drop(limited);
        let text = lines.0.lock().unwrap().clone();
        assert_eq!(text, "one\ncopepod: 1 lines (4 bytes) dropped, more than 1 bytes a second\na\n");
    }
}
