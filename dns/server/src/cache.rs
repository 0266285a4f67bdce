//! Answers of the upstream servers, kept for as long as they allow, briefly (RFC 2308 for those that say no).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{LowerName, RData, Record, RecordType};
use tokio::time::Instant;

/// The longest that anything is kept, in seconds, whatever its TTL, as `cache 30` in the Corefile of most clusters says.
const LONGEST: u32 = 30;
/// Half of the answers that are kept, and of the bytes that they take.
const HALF: Load = Load { answers: 5_000, bytes: 8 << 20 };
/// Longer answers are not kept.
const LONGEST_ANSWER: usize = 4096;
/// What an answer takes beside its own bytes and its name's: its places in the table and on the heap, about.
const BESIDE: usize = 256;

type Key = (LowerName, RecordType);

/// Kept answers: those of late, and those before. When the first half is full, the second one goes and it takes its place,
/// so that what is asked for stays and what nobody asks for leaves.
#[derive(Default)]
pub(crate) struct Cache(Mutex<Halves>);

#[derive(Default)]
struct Halves {
    late: HashMap<Key, Entry>,
    load: Load,
    before: HashMap<Key, Entry>,
}

#[derive(Clone, Copy, Default)]
struct Load {
    answers: usize,
    bytes: usize,
}

#[derive(Clone)]
struct Entry {
    since: Instant,
    until: Instant,
    /// As it goes over the wire: read, it may take many times as much.
    message: Arc<[u8]>,
}

impl Cache {
    fn lock(&self) -> MutexGuard<'_, Halves> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The kept answer, its TTLs shorter by its age.
    pub(crate) fn get(&self, query: &Query) -> Option<Message> {
        let now = Instant::now();
        let name = LowerName::from(&query.name);
        // A name that does not exist has records of no type.
        let Entry { since, message, .. } = {
            let mut halves = self.lock();
            let own = halves.get(&(name.clone(), query.query_type), now);
            own.or_else(|| halves.get(&(name, RecordType::ZERO), now))?
        };
        let mut message = Message::from_vec(&message).ok()?;
        let age = u32::try_from((now - since).as_secs()).unwrap_or(u32::MAX);
        for section in [&mut message.answers, &mut message.authorities, &mut message.additionals] {
            for record in section {
                record.decrement_ttl(age);
            }
        }
        Some(message)
    }

    pub(crate) fn put(&self, query: &Query, message: &Message) {
        let Some(seconds) = lifetime(message) else { return };
        let Some(bytes) = message.to_vec().ok().filter(|bytes| bytes.len() <= LONGEST_ANSWER) else { return };
        // An alias that leads nowhere says nothing of the alias' own other types.
        let nobody = message.metadata.response_code == ResponseCode::NXDomain && message.answers.is_empty();
        let rtype = if nobody { RecordType::ZERO } else { query.query_type };
        let since = Instant::now();
        let entry = Entry { since, until: since + Duration::from_secs(seconds.into()), message: bytes.into() };
        self.lock().put((LowerName::from(&query.name), rtype), entry);
    }
}

impl Halves {
    fn get(&mut self, key: &Key, now: Instant) -> Option<Entry> {
        let fresh = |e: &Entry| now < e.until;
        if let Some(entry) = self.late.get(key) {
            return fresh(entry).then(|| entry.clone());
        }
        let entry = self.before.remove(key).filter(fresh)?;
        self.put(key.clone(), entry.clone());
        Some(entry)
    }

    fn put(&mut self, key: Key, entry: Entry) {
        let taken = cost(&key, &entry);
        if self.load.answers >= HALF.answers || self.load.bytes + taken > HALF.bytes {
            self.before = std::mem::take(&mut self.late);
            self.load = Load::default();
        }
        if let Some(old) = self.late.remove(&key) {
            self.load.answers -= 1;
            self.load.bytes -= cost(&key, &old);
        }
        self.load.answers += 1;
        self.load.bytes += taken;
        self.late.insert(key, entry);
    }
}

/// About how much memory an answer takes, in bytes.
fn cost((name, _): &Key, entry: &Entry) -> usize {
    BESIDE + name.len() + entry.message.len()
}

/// How many seconds an answer may be kept; failures and answers without a term are not.
fn lifetime(message: &Message) -> Option<u32> {
    let soa = |r: &Record| match &r.data {
        RData::SOA(soa) => Some(r.ttl.min(soa.minimum)),
        _ => None,
    };
    let answers = message.answers.iter().map(|r| r.ttl).min();
    let seconds = match (message.metadata.response_code, answers) {
        (ResponseCode::NoError, Some(ttl)) => ttl,
        // An alias may lead to a name that does not exist.
        (ResponseCode::NXDomain, Some(ttl)) => ttl.min(message.authorities.iter().find_map(soa)?),
        (ResponseCode::NoError | ResponseCode::NXDomain, None) => message.authorities.iter().find_map(soa)?,
        _ => return None,
    };
    Some(seconds.min(LONGEST)).filter(|s| *s > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{MessageType, OpCode};
    use hickory_proto::rr::Name;
    use hickory_proto::rr::rdata::{A, SOA, TXT};

    fn query(name: &str, rtype: RecordType) -> Query {
        Query::query(Name::from_ascii(name).unwrap(), rtype)
    }

    fn answer(code: ResponseCode, ttl: u32) -> Message {
        let mut message = Message::new(1, MessageType::Response, OpCode::Query);
        message.metadata.response_code = code;
        let (name, ip) = (Name::root(), "192.0.2.7".parse().unwrap());
        if code == ResponseCode::NXDomain {
            let soa = SOA::new(name.clone(), name.clone(), 1, 1, 1, 1, 20);
            message.add_authority(Record::from_rdata(name, ttl, RData::SOA(soa)));
        } else {
            message.add_answer(Record::from_rdata(name, ttl, RData::A(A(ip))));
        }
        message
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_kept_for_their_time_only() {
        let (cache, www) = (Cache::default(), query("www.example.com.", RecordType::A));
        cache.put(&www, &answer(ResponseCode::NoError, 20));
        tokio::time::advance(Duration::from_secs(8)).await;
        assert_eq!(cache.get(&query("WWW.example.com.", RecordType::A)).unwrap().answers[0].ttl, 12);
        assert!(cache.get(&query("www.example.com.", RecordType::AAAA)).is_none());
        tokio::time::advance(Duration::from_secs(13)).await;
        assert!(cache.get(&www).is_none());
        cache.put(&www, &answer(ResponseCode::NoError, 0));
        assert!(cache.get(&www).is_none(), "a TTL of zero is not kept");
        cache.put(&www, &answer(ResponseCode::NoError, 86_400));
        tokio::time::advance(Duration::from_secs(31)).await;
        assert!(cache.get(&www).is_none(), "nothing is kept for long");
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_does_not_exist_has_records_of_no_type() {
        let cache = Cache::default();
        cache.put(&query("no.example.com.", RecordType::A), &answer(ResponseCode::NXDomain, 600));
        assert!(cache.get(&query("no.example.com.", RecordType::AAAA)).is_some());
        // The lower of the record's TTL and its last field (RFC 2308, 5).
        tokio::time::advance(Duration::from_secs(21)).await;
        assert!(cache.get(&query("no.example.com.", RecordType::A)).is_none());
        cache.put(&query("broken.example.com.", RecordType::A), &answer(ResponseCode::ServFail, 600));
        assert!(cache.get(&query("broken.example.com.", RecordType::A)).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_asked_for_stays_and_the_rest_is_bounded() {
        let (cache, kept) = (Cache::default(), query("kept.example.com.", RecordType::A));
        cache.put(&kept, &answer(ResponseCode::NoError, 20));
        for n in 0..3 * HALF.answers {
            cache.put(&query(&format!("n{n}.example.com."), RecordType::A), &answer(ResponseCode::NoError, 20));
            if n % 1000 == 0 {
                assert!(cache.get(&kept).is_some(), "{n}");
            }
        }
        let halves = cache.lock();
        assert!(halves.late.len() + halves.before.len() <= 2 * HALF.answers);
        assert!(
            !halves
                .before
                .contains_key(&(LowerName::from(&query("n0.example.com.", RecordType::A).name), RecordType::A))
        );
    }

    /// An answer of so many bytes.
    fn long(bytes: usize) -> Message {
        let mut message = Message::new(1, MessageType::Response, OpCode::Query);
        let mut left = bytes - message.to_vec().unwrap().len();
        while left > 0 {
            // Name, type, class, TTL and two lengths come before the text.
            let text = (left - 12).min(200);
            let text = if (1..=12).contains(&(left - 12 - text)) { text - 12 } else { text };
            let data = RData::TXT(TXT::new(vec!["x".repeat(text)]));
            message.add_answer(Record::from_rdata(Name::root(), 20, data));
            left -= 12 + text;
        }
        assert_eq!(message.to_vec().unwrap().len(), bytes);
        message
    }

    #[tokio::test(start_paused = true)]
    async fn long_answers_are_not_kept() {
        let (cache, www) = (Cache::default(), query("www.example.com.", RecordType::TXT));
        cache.put(&www, &long(LONGEST_ANSWER + 1));
        assert!(cache.get(&www).is_none());
        let longest = long(LONGEST_ANSWER);
        cache.put(&www, &longest);
        assert_eq!(cache.get(&www).unwrap().answers, longest.answers, "it comes back as it was");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_takes_no_more_than_its_share() {
        let (cache, longest) = (Cache::default(), long(LONGEST_ANSWER));
        let name = |n: usize| query(&format!("n{n}.example.com."), RecordType::TXT);
        let taken = |half: &HashMap<Key, Entry>| half.iter().map(|(k, e)| cost(k, e)).sum::<usize>();
        let many = 2 * HALF.bytes / LONGEST_ANSWER;
        for n in 0..many {
            cache.put(&name(n), &longest);
            // An answer that takes the place of another one counts once.
            cache.put(&name(n), &longest);
        }
        let halves = cache.lock();
        assert_eq!((halves.load.bytes, halves.load.answers), (taken(&halves.late), halves.late.len()));
        for half in [&halves.late, &halves.before] {
            assert!(half.len() < HALF.answers && taken(half) <= HALF.bytes, "{} bytes", taken(half));
        }
        assert!(taken(&halves.before) > HALF.bytes - 2 * LONGEST_ANSWER, "as much as there is room for");
        drop(halves);
        assert!(cache.get(&name(0)).is_none() && cache.get(&name(many - 1)).is_some());
    }
}
