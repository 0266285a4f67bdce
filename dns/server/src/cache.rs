//! Answers of the upstream servers, kept for as long as they allow, briefly.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{LowerName, RData, RecordType};
use tokio::time::Instant;

/// How many answers are kept.
const ENTRIES: usize = 10_000;
/// The longest that anything is kept, whatever its TTL, and the longest for a negative answer.
const LONGEST: u32 = 30;

#[derive(Default)]
pub(crate) struct Cache(Mutex<HashMap<(LowerName, RecordType), Entry>>);

struct Entry {
    since: Instant,
    until: Instant,
    message: Message,
}

impl Cache {
    fn lock(&self) -> MutexGuard<'_, HashMap<(LowerName, RecordType), Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The kept answer, its TTLs shorter by its age.
    pub(crate) fn get(&self, query: &Query) -> Option<Message> {
        let now = Instant::now();
        let key = (LowerName::from(&query.name), query.query_type);
        let (mut message, age) = {
            let entries = self.lock();
            let entry = entries.get(&key).filter(|e| now < e.until)?;
            (entry.message.clone(), now - entry.since)
        };
        let age = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
        for section in [&mut message.answers, &mut message.authorities, &mut message.additionals] {
            for record in section {
                record.decrement_ttl(age);
            }
        }
        Some(message)
    }

    pub(crate) fn put(&self, query: &Query, message: &Message) {
        let Some(seconds) = lifetime(message) else { return };
        let now = Instant::now();
        let mut entries = self.lock();
        if entries.len() >= ENTRIES {
            entries.retain(|_, e| now < e.until);
        }
        if entries.len() >= ENTRIES {
            // Full of fresh answers: somebody asks for endlessly many names, and keeping them helps nobody.
            entries.clear();
        }
        let key = (LowerName::from(&query.name), query.query_type);
        let until = now + Duration::from_secs(seconds.into());
        entries.insert(key, Entry { since: now, until, message: message.clone() });
    }
}

/// How many seconds an answer may be kept; failures and answers without a term are not.
fn lifetime(message: &Message) -> Option<u32> {
    let positive = message.metadata.response_code == ResponseCode::NoError && !message.answers.is_empty();
    let negative = matches!(message.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain);
    let seconds = if positive {
        message.answers.iter().map(|r| r.ttl).min()?
    } else if negative {
        message.authorities.iter().find_map(|r| match &r.data {
            RData::SOA(soa) => Some(r.ttl.min(soa.minimum)),
            _ => None,
        })?
    } else {
        return None;
    };
    Some(seconds.min(LONGEST)).filter(|s| *s > 0)
}
