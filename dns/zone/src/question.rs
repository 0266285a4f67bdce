//! A question as it comes in a message, read by hand in one pass and without a copy. What is rare or malformed is left to
//! a reader that knows all of DNS.

/// Length of a message's header (RFC 1035, 4.1.1).
pub const HEADER: usize = 12;
/// The longest name on the wire, its root label included.
pub(crate) const LONGEST_NAME: usize = 255;

/// Recursion desired.
pub(crate) const RD: u16 = 0x0100;
/// Checking disabled.
pub(crate) const CD: u16 = 0x0010;
/// This is a response.
const QR: u16 = 0x8000;
/// What an ordinary question has unset: operation, AA, TC, RA, the reserved bit, response code.
const UNUSUAL: u16 = 0x7800 | 0x0400 | 0x0200 | 0x0080 | 0x0040 | 0x000F;
/// DNSSEC OK, among the flags of EDNS.
const DO: u16 = 0x8000;
const CLASS_IN: u16 = 1;
pub(crate) const TYPE_OPT: u16 = 41;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading<'a> {
    /// One ordinary question.
    Question(Question<'a>),
    /// Something else that deserves an answer.
    Unusual,
    /// Nothing to answer: a response, or too short for a message.
    Noise,
}

/// One question of class IN, of a type that records can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question<'a> {
    /// The message's number.
    pub id: u16,
    pub(crate) flags: u16,
    /// Name, type and class, as they were sent.
    pub(crate) section: &'a [u8],
    /// The number of the type.
    pub rtype: u16,
    /// Whether and how the client speaks EDNS (RFC 6891). Its options mean nothing here.
    pub edns: Option<Edns>,
}

/// What a client says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// The largest UDP payload that it takes, in bytes; less than 512 means 512.
    pub payload: u16,
    /// Whether it takes DNSSEC records; an answer repeats it (RFC 3225).
    pub dnssec_ok: bool,
}

impl<'a> Question<'a> {
    /// Reads a message.
    pub fn read(message: &'a [u8]) -> Reading<'a> {
        if message.len() < HEADER || be(message, 2) & QR != 0 {
            return Reading::Noise;
        }
        ordinary(message).map_or(Reading::Unusual, Reading::Question)
    }

    /// The name on the wire, its root label included, in the letters that were sent.
    pub(crate) fn name(&self) -> &'a [u8] {
        &self.section[..self.section.len() - 4]
    }
}

fn be(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn ordinary(message: &[u8]) -> Option<Question<'_>> {
    let flags = be(message, 2);
    let (questions, additional) = (be(message, 4), be(message, 10));
    let plain = questions == 1 && be(message, 6) == 0 && be(message, 8) == 0 && additional <= 1;
    if flags & UNUSUAL != 0 || !plain {
        return None;
    }
    let body = &message[HEADER..];
    let name = name_length(body)?;
    let section = body.get(..name + 4)?;
    let (rtype, class) = (be(section, name), be(section, name + 2));
    // Types of messages, not of records: OPT, transfers, ANY (RFC 6895, 3.1).
    let of_records = rtype != 0 && rtype != TYPE_OPT && !(128..256).contains(&rtype);
    if class != CLASS_IN || !of_records {
        return None;
    }
    let rest = &body[name + 4..];
    let edns = match additional {
        0 => rest.is_empty().then_some(None)?,
        _ => Some(opt(rest)?),
    };
    Some(Question { id: be(message, 0), flags, section, rtype, edns })
}

/// Length of the name that `bytes` begin with. Names are of letters, digits, `-` and `_`, and are not compressed.
fn name_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1;
        if length == 0 {
            return (at <= LONGEST_NAME).then_some(at);
        }
        if length > 63 {
            return None;
        }
        let label = bytes.get(at..at + length)?;
        if !label.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
            return None;
        }
        at += length;
    }
}

/// An OPT record of version 0 that ends the message.
fn opt(bytes: &[u8]) -> Option<Edns> {
    let (head, mut options) = bytes.split_at_checked(11)?;
    let fits = head[0] == 0 && be(head, 1) == TYPE_OPT && head[5] == 0 && head[6] == 0;
    if !fits || usize::from(be(head, 9)) != options.len() {
        return None;
    }
    while !options.is_empty() {
        let (option, rest) = options.split_at_checked(4)?;
        options = rest.get(usize::from(be(option, 2))..)?;
    }
    Some(Edns { payload: be(head, 3), dnssec_ok: be(head, 7) & DO != 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `web.shop` of type A, and what is appended.
    fn message(more: &[u8]) -> Vec<u8> {
        let mut m = vec![0x12, 0x34, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(!more.is_empty())];
        m.extend(b"\x03web\x04shop\x00\x00\x01\x00\x01");
        m.extend(more);
        m
    }

    const OPT: [u8; 11] = [0, 0, 41, 0x04, 0xD0, 0, 0, 0x80, 0, 0, 0];

    #[test]
    fn ordinary_questions_are_read() {
        let plain = message(&[]);
        let Reading::Question(q) = Question::read(&plain) else { panic!() };
        assert_eq!((q.id, q.rtype, q.edns, q.name()), (0x1234, 1, None, &b"\x03web\x04shop\x00"[..]));
        let extended = message(&OPT);
        let Reading::Question(q) = Question::read(&extended) else { panic!() };
        assert_eq!(q.edns, Some(Edns { payload: 1232, dnssec_ok: true }));
        // An option, a cookie, means nothing.
        let mut cookie = message(&OPT);
        *cookie.last_mut().unwrap() = 12;
        cookie.extend([0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert!(matches!(Question::read(&cookie), Reading::Question(Question { edns: Some(_), .. })));
    }

    #[test]
    fn what_is_rare_is_left_to_others() {
        let set = |at: usize, value: u8| {
            let mut m = message(&OPT);
            m[at] = value;
            m
        };
        let end = message(&[]).len();
        for (what, unusual) in [
            ("an operation", set(2, 0x29)),
            ("truncated", set(2, 0x03)),
            ("reserved bit", set(3, 0x40)),
            ("no question", set(5, 0)),
            ("two questions", set(5, 2)),
            ("an answer", set(7, 1)),
            ("an authority", set(9, 1)),
            ("two additional records", set(11, 2)),
            ("none, and bytes after the question", set(11, 0)),
            ("a compressed name", set(12, 0xC0)),
            ("a dot inside a label", set(13, b'.')),
            ("type 0", set(end - 3, 0)),
            ("ANY", set(end - 3, 255)),
            ("class CH", set(end - 1, 3)),
            ("an additional record that is no OPT", set(end + 2, 1)),
            ("a version of EDNS to come", set(end + 6, 1)),
            ("an OPT that is cut", set(end + 10, 4)),
            ("a cut question", message(&[])[..end - 1].to_vec()),
        ] {
            assert_eq!(Question::read(&unusual), Reading::Unusual, "{what}");
        }
        assert_eq!(Question::read(&set(2, 0x81)), Reading::Noise, "a response");
        assert_eq!(Question::read(&message(&[])[..11]), Reading::Noise);
    }
}
