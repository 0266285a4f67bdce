//! Frames between servers, and raft's records on disk. The first byte of an input says in what pieces it comes.

use bytes::BytesMut;
use copepod_consensus::record::{seal, unseal};
use copepod_consensus::{ConfState, Entry, HardState, Message, MessageType, Wire as _};
use copepod_server::fuzzing::{message, put_message};

use crate::{Outcome, Room, Seed, Target};

pub(super) const TARGET: Target = Target {
    name: "raft_frame",
    run,
    seeds,
    words: &["\0\0\0\u{1}", "\0\0\0\0", "\u{8}", "\u{12}", "\u{1a}", "\u{22}"],
    room: Room { base: 2 << 20, each: 256 },
};

fn run(input: &[u8]) -> Outcome {
    records(input);
    let Some((first, stream)) = input.split_first() else { return Outcome::refused("nothing") };
    let (mut buffer, mut got) = (BytesMut::new(), Vec::new());
    let mut failed = None;
    'pieces: for piece in stream.chunks(usize::from(*first) + 1) {
        buffer.extend_from_slice(piece);
        loop {
            match message(&mut buffer) {
                Ok(Some(message)) => got.push(message),
                Ok(None) => break,
                Err(why) => {
                    failed = Some(why);
                    break 'pieces;
                }
            }
        }
    }
    let mut again = BytesMut::new();
    got.iter().for_each(|m| put_message(m, &mut again));
    let size = again.len();
    for sent in &got {
        assert_eq!(message(&mut again).as_ref(), Ok(&Some(sent.clone())), "it is not what it was");
    }
    assert!(again.is_empty());
    let outcome = match failed {
        Some(why) => Outcome::refused(why),
        None => Outcome::taken(size),
    };
    outcome.and(got.len().min(4))
}

/// What lies on disk says what it said when it was written, or is refused.
fn records(input: &[u8]) {
    assert!(unseal::<Entry>(1, input).is_err(), "a checksum by chance");
    let mut entry = Entry::default();
    if entry.merge_from_bytes(input).is_ok() {
        assert_eq!(unseal::<Entry>(1, &seal(1, &entry)), Ok(entry));
    }
    let mut members = ConfState::default();
    if members.merge_from_bytes(input).is_ok() {
        assert_eq!(unseal::<ConfState>(1, &seal(1, &members)), Ok(members));
    }
    let mut hard = HardState::default();
    let _ = hard.merge_from_bytes(input);
}

fn seeds() -> Vec<Seed> {
    let entry = |index| Entry { index, term: 2, data: vec![7; 5], ..Entry::default() };
    let append = Message {
        from: 2,
        to: 1,
        term: 2,
        index: 3,
        log_term: 1,
        entries: vec![entry(4), entry(5)],
        ..Message::default()
    };
    let mut vote = Message { from: 3, to: 1, term: 9, context: b"context".to_vec(), ..Message::default() };
    vote.set_msg_type(MessageType::MsgRequestVote);
    let framed = |pieces: u8, messages: &[&Message]| {
        let mut out = BytesMut::new();
        messages.iter().for_each(|m| put_message(m, &mut out));
        [&[pieces][..], &out[..]].concat()
    };
    vec![
        ("append".into(), framed(255, &[&append])),
        ("two".into(), framed(6, &[&vote, &append])),
        ("empty".into(), framed(0, &[&Message::default()])),
    ]
}
