//! Distinguished names.

use x509_parser::x509::X509Name;

use super::der;

const COMMON_NAME: &[u64] = &[2, 5, 4, 3];
const ORGANIZATION: &[u64] = &[2, 5, 4, 10];
const SERIAL_NUMBER: &[u64] = &[2, 5, 4, 5];
/// Country, organization, unit, locality, province, street, postal code, common name, serial number.
const KNOWN: [&[u64]; 9] = [
    &[2, 5, 4, 6],
    ORGANIZATION,
    &[2, 5, 4, 11],
    &[2, 5, 4, 7],
    &[2, 5, 4, 8],
    &[2, 5, 4, 9],
    &[2, 5, 4, 17],
    COMMON_NAME,
    SERIAL_NUMBER,
];

/// A distinguished name of the attributes that Go's `pkix.Name` keeps, in its order. Of common names and serial numbers the last
/// one counts: there is one answer to who somebody is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject(Vec<(&'static [u64], String)>);

impl Subject {
    /// A user of the API and the user's groups.
    pub fn new(common_name: &str, organizations: &[&str]) -> Subject {
        let mut all: Vec<_> = organizations.iter().map(|o| (ORGANIZATION, (*o).to_string())).collect();
        all.push((COMMON_NAME, common_name.into()));
        Subject(all)
    }

    pub(super) fn read(name: &X509Name<'_>) -> Result<Subject, String> {
        let mut out = Vec::new();
        for known in KNOWN {
            let of = |a: &x509_parser::x509::AttributeTypeAndValue<'_>| {
                a.attr_type().iter().is_some_and(|arcs| arcs.eq(known.iter().copied()))
            };
            let values: Result<Vec<&str>, _> = name.iter_attributes().filter(|a| of(a)).map(|a| a.as_str()).collect();
            let values = values.map_err(|_| "x509: invalid RDNSequence: invalid attribute value")?;
            let single = known == COMMON_NAME || known == SERIAL_NUMBER;
            let from = if single { values.len().saturating_sub(1) } else { 0 };
            out.extend(values[from..].iter().map(|v| (known, (*v).to_string())));
        }
        Ok(Subject(out))
    }

    /// The common name, empty when there is none.
    pub fn common_name(&self) -> &str {
        self.of(COMMON_NAME).next().unwrap_or_default()
    }

    /// The organizations.
    pub fn organizations(&self) -> impl Iterator<Item = &str> {
        self.of(ORGANIZATION)
    }

    fn of(&self, oid: &'static [u64]) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(o, _)| *o == oid).map(|(_, v)| v.as_str())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn der(&self) -> Vec<u8> {
        let rdn = |(oid, v): &(&[u64], String)| der::tlv(der::SET, &der::sequence(&[der::oid(oid), der::text(v)]));
        der::sequence(&self.0.iter().map(rdn).collect::<Vec<_>>())
    }
}
