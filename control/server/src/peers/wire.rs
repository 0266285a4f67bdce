//! What goes between servers: raft's messages in frames, and the answers to what a follower asks of its leader.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use copepod_consensus::{Message, Wire as _};
use copepod_state::{Outcome, codec};
use http::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::store::ProposeError;

/// Longest message: raft's largest batch is 1 MiB, but one entry may be longer (a request's body is at most 3 MiB, and
/// one transaction holds few of them).
const LONGEST: usize = 64 << 20;
/// So many bytes are made room for before they come.
const AHEAD: usize = 1 << 20;

/// In the head of every request: the version in which whoever asks writes what goes into the log.
pub(super) const LOG_VERSION: &str = "copepod-log-version";

/// Says in which version this release writes, unless something is said of it.
pub(super) fn say_version(head: &mut HeaderMap) {
    head.entry(LOG_VERSION).or_insert(HeaderValue::from(u16::from(codec::WRITES)));
}

/// Whether this release reads what whoever asks writes; or else its version, as it says it. Who says nothing writes the
/// first.
pub(super) fn reads_version(head: &HeaderMap) -> Result<(), String> {
    let Some(said) = head.get(LOG_VERSION) else { return Ok(()) };
    let said = String::from_utf8_lossy(said.as_bytes());
    if said.parse().is_ok_and(|v: u8| (1..=codec::READS).contains(&v)) { Ok(()) } else { Err(said.into_owned()) }
}

/// A frame that makes no sense ends its stream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// Longer than anything that a server sends.
    #[error("a message of {0} bytes")]
    TooLong(usize),
    /// Not raft's protobuf.
    #[error("a message that is not raft's")]
    Malformed,
}

/// A message behind its length, 4 bytes big-endian.
pub(crate) fn encode(message: &Message, out: &mut BytesMut) {
    // Encoding prost messages into a Vec cannot fail.
    let body = message.write_to_bytes().unwrap_or_default();
    out.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
    out.put_slice(&body);
}

/// Takes the first whole message out of what has arrived.
pub(crate) fn decode(buffer: &mut BytesMut) -> Result<Option<Message>, FrameError> {
    let Some(head) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*head) as usize;
    if length > LONGEST {
        return Err(FrameError::TooLong(length));
    }
    if buffer.len() < 4 + length {
        // What is only claimed costs no memory, however small the pieces are that it comes in.
        let claimed = (4 + length).min(buffer.len().next_multiple_of(AHEAD));
        buffer.reserve(claimed.saturating_sub(buffer.len()));
        return Ok(None);
    }
    buffer.advance(4);
    let mut message = Message::default();
    message.merge_from_bytes(&buffer.split_to(length)).map_err(|_| FrameError::Malformed)?;
    Ok(Some(message))
}

/// The answer to a forwarded transaction.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Answer {
    /// Committed at `index`: applied with these revisions.
    Applied { index: u64, revisions: Vec<u64> },
    /// Committed at `index`: a precondition did not hold.
    Failed { index: u64, which: usize },
    /// Committed at `index`: a sum left its range.
    OutOfRange { index: u64, which: usize },
    /// Committed at `index`: of another term.
    Fenced { index: u64 },
    /// Not committed, never will be: another server leads, if one does.
    NotLeader { leader: Option<u64> },
    /// Not committed, never will be: this server cannot.
    Unhealthy { why: String },
    /// Not committed, never will be: the space quota is used up.
    NoSpace,
    /// Nobody knows.
    Unknown { why: String },
}

impl Answer {
    pub(super) fn of(result: Result<(Outcome, u64), ProposeError>) -> Answer {
        match result {
            Ok((Outcome::Applied(revisions), index)) => Answer::Applied { index, revisions },
            Ok((Outcome::Failed(which), index)) => Answer::Failed { index, which },
            Ok((Outcome::OutOfRange(which), index)) => Answer::OutOfRange { index, which },
            Ok((Outcome::Fenced, index)) => Answer::Fenced { index },
            Err(ProposeError::NotLeader { leader }) => Answer::NotLeader { leader },
            // A server that stops is one that does not lead; one that has too much to do is asked again in a moment just so.
            Err(ProposeError::Stopped | ProposeError::Busy) => Answer::NotLeader { leader: None },
            Err(ProposeError::NoSpace) => Answer::NoSpace,
            Err(ProposeError::Unhealthy(why)) => Answer::Unhealthy { why },
            Err(ProposeError::Unknown(why)) => Answer::Unknown { why },
        }
    }

    pub(super) fn result(self) -> Result<(Outcome, u64), ProposeError> {
        match self {
            Answer::Applied { index, revisions } => Ok((Outcome::Applied(revisions), index)),
            Answer::Failed { index, which } => Ok((Outcome::Failed(which), index)),
            Answer::OutOfRange { index, which } => Ok((Outcome::OutOfRange(which), index)),
            Answer::Fenced { index } => Ok((Outcome::Fenced, index)),
            // A leader whose disk fails will not lead for long: the next one is asked.
            Answer::NotLeader { leader } => Err(ProposeError::NotLeader { leader }),
            Answer::Unhealthy { .. } => Err(ProposeError::NotLeader { leader: None }),
            Answer::NoSpace => Err(ProposeError::NoSpace),
            Answer::Unknown { why } => Err(ProposeError::Unknown(why)),
        }
    }

    pub(super) fn to_bytes(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

#[cfg(test)]
mod tests {
    use copepod_consensus::Entry;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn messages_survive_however_they_are_cut(
            sizes in proptest::collection::vec(0usize..300, 1..10),
            cut in 1usize..70,
        ) {
            let message = |size: &usize| {
                let entry = Entry { index: *size as u64, data: vec![7; *size], ..Entry::default() };
                Message { from: 2, to: 1, entries: vec![entry], ..Message::default() }
            };
            let sent: Vec<Message> = sizes.iter().map(message).collect();
            let mut stream = BytesMut::new();
            sent.iter().for_each(|m| encode(m, &mut stream));
            let (mut buffer, mut got) = (BytesMut::new(), Vec::new());
            for part in stream.chunks(cut) {
                buffer.extend_from_slice(part);
                while let Some(m) = decode(&mut buffer).unwrap() {
                    got.push(m);
                }
            }
            prop_assert_eq!(got, sent);
            prop_assert!(buffer.is_empty());
        }
    }

    #[test]
    fn who_writes_what_this_release_cannot_read_is_known_by_the_head() {
        let mut head = HeaderMap::new();
        assert_eq!(reads_version(&head), Ok(()), "a release that does not say it");
        say_version(&mut head);
        assert_eq!((head.len(), reads_version(&head)), (1, Ok(())));
        for later in [(codec::READS + 1).to_string(), "0".into(), "1.5".into()] {
            head.insert(LOG_VERSION, later.parse().unwrap());
            say_version(&mut head);
            assert_eq!(reads_version(&head), Err(later));
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        assert!(matches!(decode(&mut BytesMut::from(&[0xff; 8][..])), Err(FrameError::TooLong(_))));
        assert!(matches!(decode(&mut BytesMut::from(&[0, 0, 0, 1, 0xff][..])), Err(FrameError::Malformed)));
        assert!(decode(&mut BytesMut::from(&[0, 0][..])).unwrap().is_none());
        let mut claimed = BytesMut::from(&[3, 0xff, 0xff, 0xff, 1][..]);
        assert!(decode(&mut claimed).unwrap().is_none());
        for _ in 0..100 {
            claimed.extend_from_slice(&[7]);
            assert!(decode(&mut claimed).unwrap().is_none());
        }
        assert!(claimed.capacity() < 2 * AHEAD, "{}", claimed.capacity());
    }

    #[test]
    fn answers_keep_what_is_certain() {
        for outcome in [Outcome::Applied(vec![3, 4]), Outcome::Failed(1), Outcome::OutOfRange(2), Outcome::Fenced] {
            let certain = Ok((outcome, 9));
            let sent = Answer::of(certain.clone()).to_bytes();
            assert_eq!(serde_json::from_slice::<Answer>(&sent).unwrap().result(), certain);
        }
        let unknown = Err(ProposeError::Unknown("why".into()));
        assert_eq!(Answer::of(unknown.clone()).result(), unknown);
        assert_eq!(Answer::of(Err(ProposeError::NoSpace)).result(), Err(ProposeError::NoSpace));
        // Whoever cannot has not: it may be tried elsewhere.
        for cannot in [ProposeError::Stopped, ProposeError::Busy, ProposeError::Unhealthy("disk".into())] {
            assert_eq!(Answer::of(Err(cannot)).result(), Err(ProposeError::NotLeader { leader: None }));
        }
    }
}
