//! Questions and answers, free of any wire format.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The type of a question, with its number in DNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordType {
    /// IPv4 address.
    A,
    /// IPv6 address.
    Aaaa,
    /// Alias.
    Cname,
    /// Name server.
    Ns,
    /// Start of authority.
    Soa,
    /// Name of an address.
    Ptr,
    /// Text.
    Txt,
    /// Service location.
    Srv,
    /// Whatever there is.
    Any,
    /// A type that the zone has no records of.
    Other(u16),
}

impl From<u16> for RecordType {
    fn from(number: u16) -> Self {
        match number {
            1 => RecordType::A,
            2 => RecordType::Ns,
            5 => RecordType::Cname,
            6 => RecordType::Soa,
            12 => RecordType::Ptr,
            16 => RecordType::Txt,
            28 => RecordType::Aaaa,
            33 => RecordType::Srv,
            255 => RecordType::Any,
            other => RecordType::Other(other),
        }
    }
}

/// How a secondary would behave, in seconds; nobody transfers this zone, but an SOA record has these fields.
pub const SOA_REFRESH: u32 = 7200;
/// See [`SOA_REFRESH`].
pub const SOA_RETRY: u32 = 1800;
/// See [`SOA_REFRESH`].
pub const SOA_EXPIRE: u32 = 86_400;

/// What a record says. Names are absolute, in lower case and without the final dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// IPv4 address.
    A(Ipv4Addr),
    /// IPv6 address.
    Aaaa(Ipv6Addr),
    /// Alias of this name.
    Cname(String),
    /// Name server.
    Ns(String),
    /// Name of an address.
    Ptr(String),
    /// Text.
    Txt(String),
    /// Service location.
    Srv {
        /// Lower is tried first.
        priority: u16,
        /// Share among equal priorities.
        weight: u16,
        /// Port.
        port: u16,
        /// Host.
        target: String,
    },
    /// Start of authority.
    Soa {
        /// Primary name server.
        mname: String,
        /// Mailbox of who is responsible.
        rname: String,
        /// Serial number.
        serial: u32,
        /// How long a negative answer may be kept, in seconds.
        minimum: u32,
    },
}

impl Data {
    /// The record of an address, of the family's type.
    pub fn address(ip: IpAddr) -> Data {
        match ip {
            IpAddr::V4(v4) => Data::A(v4),
            IpAddr::V6(v6) => Data::Aaaa(v6),
        }
    }

    /// The address of an A or AAAA record.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Data::A(v4) => Some((*v4).into()),
            Data::Aaaa(v6) => Some((*v6).into()),
            _ => None,
        }
    }

    /// Its type.
    pub fn record_type(&self) -> RecordType {
        match self {
            Data::A(_) => RecordType::A,
            Data::Aaaa(_) => RecordType::Aaaa,
            Data::Cname(_) => RecordType::Cname,
            Data::Ns(_) => RecordType::Ns,
            Data::Ptr(_) => RecordType::Ptr,
            Data::Txt(_) => RecordType::Txt,
            Data::Srv { .. } => RecordType::Srv,
            Data::Soa { .. } => RecordType::Soa,
        }
    }
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Owner: absolute, lower case, without the final dot.
    pub name: String,
    /// What it says.
    pub data: Data,
}

/// The records of a positive answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// Answer section.
    pub answers: Vec<Record>,
    /// Additional section: addresses of SRV targets.
    pub additional: Vec<Record>,
    /// Seconds that the records may be kept.
    pub ttl: u32,
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// There are such records.
    Records(Records),
    /// The name exists, without records of that type.
    NoData,
    /// No such name.
    NxDomain,
    /// An alias of a name to be resolved by whoever asks (ExternalName); absolute, without the final dot.
    External(String),
    /// Not a name of this zone: ask upstream.
    NotOurs,
}

/// The answer for a name that has exactly these records: those of the type asked for, or no data.
pub(crate) fn select(all: Vec<Record>, rtype: RecordType, ttl: u32) -> Answer {
    let fits = |r: &Record| rtype == RecordType::Any || r.data.record_type() == rtype;
    let answers: Vec<Record> = all.into_iter().filter(fits).collect();
    if answers.is_empty() {
        return Answer::NoData;
    }
    Answer::Records(Records { answers, additional: Vec::new(), ttl })
}
