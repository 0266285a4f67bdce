//! What decodes bytes of disks and guests, for tests/fuzz alone.

use copepod_model::Time;

use crate::dataplane::probe::grpc;
use crate::logs::line::{self, Line};

/// A container's output as lines of its log.
pub fn log_lines(at: Time, stream: &str, output: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    line::format(&mut out, at, stream, output);
    out
}

/// The time of a log's line, whether the next one continues it, and what was said.
pub fn log_line(line: &[u8]) -> Option<(&str, bool, &[u8])> {
    Line::parse(line).map(|Line { stamp, part, text }| (stamp, part, text))
}

/// The status in a server's answer to a gRPC probe.
pub fn grpc_health(body: &[u8]) -> Option<u64> {
    grpc::status(body)
}
