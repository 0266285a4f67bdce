//! What the signers that every cluster has demand of requests (`pkg/apis/certificates/helpers.go`), in upstream's words.

use copepod_model::certificate::Request;
use copepod_model::certificate::usage::{CLIENT_AUTH, DIGITAL_SIGNATURE, KEY_ENCIPHERMENT, SERVER_AUTH};
use serde_json::Value;

use super::text;

const NODES: &str = "system:nodes";
const NODE: &str = "system:node:";

/// The usages that a CertificateSigningRequest asks for.
pub(crate) fn usages(object: &Value) -> Vec<String> {
    object["spec"]["usages"].as_array().into_iter().flatten().map(|u| text(u).to_string()).collect()
}

/// Whether it is a kubelet's as a client of the API server.
pub(crate) fn kubelet_client(request: &Request, usages: &[String]) -> Result<(), String> {
    of_nodes(request)?;
    let names = &request.names;
    for (there, sort) in [
        (!names.dns.is_empty(), "DNS"),
        (!names.emails.is_empty(), "Email"),
        (!names.ips.is_empty(), "IP"),
        (!names.uris.is_empty(), "URI"),
    ] {
        not_allowed(there, sort)?;
    }
    of_a_node(request)?;
    exactly(usages, CLIENT_AUTH)
}

/// Whether it is a kubelet's as a server.
pub(crate) fn kubelet_serving(request: &Request, usages: &[String]) -> Result<(), String> {
    of_nodes(request)?;
    let names = &request.names;
    if names.dns.is_empty() && names.ips.is_empty() {
        return Err("DNS or IP subjectAltName is required".into());
    }
    not_allowed(!names.emails.is_empty(), "Email")?;
    not_allowed(!names.uris.is_empty(), "URI")?;
    exactly(usages, SERVER_AUTH)?;
    of_a_node(request)
}

/// Whether it is a client's of the API server.
pub(crate) fn api_client(usages: &[String]) -> Result<(), String> {
    let allowed = [DIGITAL_SIGNATURE, KEY_ENCIPHERMENT, CLIENT_AUTH];
    if let Some(other) = usages.iter().find(|u| !allowed.contains(&u.as_str())) {
        return Err(format!("invalid usage for client certificate: {other}"));
    }
    if !usages.iter().any(|u| u == CLIENT_AUTH) {
        return Err(format!("missing required usage for client certificate: {CLIENT_AUTH}"));
    }
    Ok(())
}

fn of_nodes(request: &Request) -> Result<(), String> {
    let all: Vec<&str> = request.subject.organizations().collect();
    if all == [NODES] { Ok(()) } else { Err("subject organization is not system:nodes".into()) }
}

fn of_a_node(request: &Request) -> Result<(), String> {
    let named = request.subject.common_name().starts_with(NODE);
    if named { Ok(()) } else { Err("subject common name does not begin with system:node:".into()) }
}

fn not_allowed(there: bool, sort: &str) -> Result<(), String> {
    if there { Err(format!("{sort} subjectAltNames are not allowed")) } else { Ok(()) }
}

/// Signatures and one side of TLS; key transport is what RSA keys may do besides.
fn exactly(usages: &[String], side: &str) -> Result<(), String> {
    let mut required = [DIGITAL_SIGNATURE, KEY_ENCIPHERMENT, side];
    required.sort_unstable();
    let optional = |u: &&str| *u == KEY_ENCIPHERMENT;
    let has = |u: &&str| usages.iter().any(|x| x == u);
    if required.iter().all(|u| optional(u) || has(u)) && usages.iter().all(|u| required.contains(&u.as_str())) {
        return Ok(());
    }
    Err(format!("usages did not match [{}]", required.join(" ")))
}

#[cfg(test)]
pub(crate) mod samples {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use copepod_model::Key;
    use copepod_model::kinds::certificates::certificate_signing_request as csr;
    use serde_json::{Value, json};

    use crate::support::sim::TestView;

    /// A CA that ends in a hundred years.
    pub(crate) const CA: &str = "\
-----BEGIN CERTIFICATE-----
MIIBcDCCARegAwIBAgIUZDS8XMAD94i40zTAtH9T2oDrXbUwCgYIKoZIzj0EAwIw
DTELMAkGA1UEAwwCY2EwIBcNMjYxMTI3MTc1OTU1WhgPMjEyNjExMDMxNzU5NTVa
MA0xCzAJBgNVBAMMAmNhMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEInZe75aH
FMxnohCGXrClaWwuTdMphun/CHZj8HtvvgRQPbYDoNyaVRzpHCQJFJLcsyK0bfMF
1a9opwfDN3O1KKNTMFEwHQYDVR0OBBYEFOKn7sSpGzTnXBkJBzP2IIp7T8wiMB8G
A1UdIwQYMBaAFOKn7sSpGzTnXBkJBzP2IIp7T8wiMA8GA1UdEwEB/wQFMAMBAf8w
CgYIKoZIzj0EAwIDRwAwRAIgKLDrnZdboHuP/EsYUwsvP+URnjul2wWI37oAkTHr
NRMCIFcUk2cR7qpkaSdAJLgduEqZXDFLxPKqKnAycxSmdfSf
-----END CERTIFICATE-----
";
    /// A request of `O=system:nodes, CN=system:node:n` without further names.
    const REQUEST: &str = "\
-----BEGIN CERTIFICATE REQUEST-----
MIHqMIGRAgEAMC8xFTATBgNVBAoMDHN5c3RlbTpub2RlczEWMBQGA1UEAwwNc3lz
dGVtOm5vZGU6bjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABF3tnLcpnCGfGJ4o
gQTCZa7foxm9hF5fG40kxU2UbZ0k+zxiozgxv1rT+Imzx2GdjHUO8sIz2EowkfPt
WEa6VB2gADAKBggqhkjOPQQDAgNIADBFAiEAttZD3luJ/fz+zPrxG1+bD2RL76TU
ZEqA4HdQaYxTVoQCIBg+iCZjd4Yfv/VeSGH7YPsQJjmSzWtuKWaO1DJE5LZH
-----END CERTIFICATE REQUEST-----
";

    /// Stores that request with the rest of the spec.
    pub(crate) fn put(view: &mut TestView, name: &str, mut spec: Value) -> Key {
        spec["request"] = STANDARD.encode(REQUEST).into();
        let object = json!({
            "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {"name": name, "uid": name}, "spec": spec, "status": {},
        });
        view.put(csr::RESOURCE, object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use copepod_model::certificate::{Names, Subject};

    #[test]
    fn kubelets_ask_for_what_they_are() {
        let texts = |all: &[&str]| all.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        let ask = |name: &str, groups: &[&str], dns: &[&str], emails: &[&str]| Request {
            subject: Subject::new(name, groups),
            names: Names { dns: texts(dns), emails: texts(emails), ..Names::default() },
            key: Vec::new(),
        };
        let (client, server) = (texts(&[CLIENT_AUTH, DIGITAL_SIGNATURE]), texts(&[SERVER_AUTH, DIGITAL_SIGNATURE]));
        let rsa = texts(&[KEY_ENCIPHERMENT, SERVER_AUTH, DIGITAL_SIGNATURE]);
        let plain = ask("system:node:n", &[NODES], &[], &[]);
        let named = ask("system:node:n", &[NODES], &["n"], &[]);
        assert_eq!(kubelet_client(&plain, &client), Ok(()));
        assert_eq!((kubelet_serving(&named, &server), kubelet_serving(&named, &rsa)), (Ok(()), Ok(())));
        for (error, want) in [
            (kubelet_client(&named, &client), "DNS subjectAltNames are not allowed"),
            (
                kubelet_client(&ask("system:node:n", &[NODES], &[], &["a@b"]), &client),
                "Email subjectAltNames are not allowed",
            ),
            (
                kubelet_client(&ask("n", &[NODES], &[], &[]), &client),
                "subject common name does not begin with system:node:",
            ),
            (
                kubelet_client(&ask("system:node:n", &[NODES, "system:masters"], &[], &[]), &client),
                "subject organization is not system:nodes",
            ),
            (kubelet_client(&plain, &server), "usages did not match [client auth digital signature key encipherment]"),
            (kubelet_serving(&plain, &server), "DNS or IP subjectAltName is required"),
            (
                kubelet_serving(&ask("system:node:n", &[NODES], &["n"], &["a@b"]), &server),
                "Email subjectAltNames are not allowed",
            ),
            (kubelet_serving(&named, &client), "usages did not match [digital signature key encipherment server auth]"),
            (
                kubelet_serving(&ask("n", &[NODES], &["n"], &[]), &server),
                "subject common name does not begin with system:node:",
            ),
        ] {
            assert_eq!(error, Err(want.to_string()));
        }
    }
}
