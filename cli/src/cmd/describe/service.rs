//! A Service with its endpoints.

use serde_json::Value;

use super::page::{Page, list, pairs, plain};

pub fn describe(page: &mut Page, service: &Value, slices: &Value) {
    page.head(service);
    let spec = &service["spec"];
    page.field(0, "Selector", pairs(&spec["selector"]));
    page.some(0, "Type", &spec["type"]);
    page.some(0, "IP Family Policy", &spec["ipFamilyPolicy"]);
    let words = |v: &Value| list(v).iter().map(plain).collect::<Vec<_>>().join(",");
    page.field(0, "IP Families", words(&spec["ipFamilies"]));
    page.field(0, "IP", plain(&spec["clusterIP"]));
    page.field(0, "IPs", words(&spec["clusterIPs"]));
    page.some(0, "External Name", &spec["externalName"]);
    for p in list(&spec["ports"]) {
        let name = p["name"].as_str().filter(|n| !n.is_empty()).unwrap_or("<unset>");
        let protocol = p["protocol"].as_str().unwrap_or("TCP");
        page.field(0, "Port", format!("{name}\t{}/{protocol}", plain(&p["port"])));
        page.field(0, "TargetPort", format!("{}/{protocol}", plain(&p["targetPort"])));
        if p["nodePort"].as_i64().is_some_and(|n| n > 0) {
            page.field(0, "NodePort", format!("{name}\t{}/{protocol}", plain(&p["nodePort"])));
        }
        page.field(0, "Endpoints", endpoints(slices, p["name"].as_str().unwrap_or_default()));
    }
    page.some(0, "Session Affinity", &spec["sessionAffinity"]);
    page.some(0, "External Traffic Policy", &spec["externalTrafficPolicy"]);
    page.some(0, "Internal Traffic Policy", &spec["internalTrafficPolicy"]);
}

/// The first few ready addresses of a port, as kubectl shows them.
fn endpoints(slices: &Value, port: &str) -> String {
    let mut all = Vec::new();
    for slice in list(&slices["items"]) {
        let Some(number) = list(&slice["ports"]).iter().find(|p| p["name"].as_str().unwrap_or_default() == port) else {
            continue;
        };
        for e in list(&slice["endpoints"]).iter().filter(|e| e["conditions"]["ready"] != false) {
            all.extend(list(&e["addresses"]).iter().map(|a| match a.as_str() {
                Some(a) if a.contains(':') => format!("[{a}]:{}", plain(&number["port"])),
                _ => format!("{}:{}", plain(a), plain(&number["port"])),
            }));
        }
    }
    let more = all.len().saturating_sub(3);
    all.truncate(3);
    let more = if more > 0 { format!(" + {more} more...") } else { String::new() };
    format!("{}{more}", all.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ready_endpoints_of_a_port() {
        let e = |a: &str, ready: bool| json!({"addresses": [a], "conditions": {"ready": ready}});
        let slices = json!({"items": [
            {"ports": [{"name": "http", "port": 8080}], "endpoints": [e("10.0.0.1", true), e("10.0.0.2", false), e("10.0.0.3", true)]},
            {"ports": [{"name": "http", "port": 8081}], "endpoints": [e("fd00::1", true), e("10.0.0.5", true)]},
            {"ports": [{"name": "other", "port": 1}], "endpoints": [e("10.0.0.9", true)]},
        ]});
        assert_eq!(endpoints(&slices, "http"), "10.0.0.1:8080,10.0.0.3:8080,[fd00::1]:8081 + 1 more...");
        assert_eq!(endpoints(&Value::Null, "http"), "");
    }
}
