//! Users from client certificates (`authentication/request/x509`): the common name is the user, organizations are groups.

use copepod_model::UserInfo;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The user of a certificate that TLS has already verified.
pub fn user(der: &[u8]) -> Option<UserInfo> {
    let (_, cert) = X509Certificate::from_der(der).ok()?;
    let subject = cert.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_string();
    let mut groups: Vec<String> = subject.iter_organization().filter_map(|o| o.as_str().ok().map(Into::into)).collect();
    groups.push("system:authenticated".into());
    Some(UserInfo { name, groups, ..UserInfo::default() })
}
