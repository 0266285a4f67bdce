//! The ports of endpoints, in the two forms that the API has for them.

use copepod_model::facts::PodFacts;
use serde_json::{Map, Value};

use super::text;

/// One port. Ordered, so that endpoints can be grouped by the list of their ports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Port {
    name: String,
    protocol: String,
    /// Absent in a slice: all ports.
    number: Option<u16>,
    app_protocol: Option<String>,
}

impl Port {
    /// The ports of a stored slice or of a subset of Endpoints, whatever the server defaulted.
    pub(crate) fn list(ports: &Value) -> Vec<Port> {
        let one = |p: &Value| Port {
            name: text(&p["name"]).into(),
            protocol: p["protocol"].as_str().unwrap_or("TCP").into(),
            number: p["port"].as_u64().and_then(|n| n.try_into().ok()),
            app_protocol: p["appProtocol"].as_str().map(Into::into),
        };
        ports.as_array().into_iter().flatten().map(one).collect()
    }

    /// A Service's ports as this pod has them; a named target that the pod lacks is left out.
    pub(crate) fn of_service(service: &Value, pod: &PodFacts) -> Vec<Port> {
        let one = |p: &Value| {
            let protocol = p["protocol"].as_str().unwrap_or("TCP");
            let number = match &p["targetPort"] {
                Value::String(name) => pod.ports.iter().find(|(n, _, proto)| n == name && proto == protocol)?.1,
                Value::Number(n) if n.as_u64() != Some(0) => u16::try_from(n.as_u64()?).ok()?,
                _ => u16::try_from(p["port"].as_u64()?).ok()?,
            };
            Some(Port {
                name: text(&p["name"]).into(),
                protocol: protocol.into(),
                number: Some(number),
                app_protocol: p["appProtocol"].as_str().map(Into::into),
            })
        };
        service["spec"]["ports"].as_array().into_iter().flatten().filter_map(one).collect()
    }

    /// As an EndpointSlice has it.
    pub(crate) fn in_slice(&self) -> Value {
        let mut out = self.in_endpoints();
        out["name"] = self.name.as_str().into();
        out
    }

    /// As Endpoints have it, where an empty name is none.
    pub(crate) fn in_endpoints(&self) -> Value {
        let mut out = Map::new();
        if !self.name.is_empty() {
            out.insert("name".into(), self.name.as_str().into());
        }
        if let Some(number) = self.number {
            out.insert("port".into(), number.into());
        }
        out.insert("protocol".into(), self.protocol.as_str().into());
        if let Some(app) = &self.app_protocol {
            out.insert("appProtocol".into(), app.as_str().into());
        }
        out.into()
    }
}
