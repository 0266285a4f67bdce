//! ReferenceGrants: who may refer to what in another namespace.

use std::borrow::Borrow;
use std::sync::Arc;

use super::GROUP;
use crate::Object;
use crate::facts::Facts;
use crate::kinds::fields::{list, text};

/// What a ReferenceGrant says.
#[derive(Debug, Default)]
struct GrantFacts {
    /// Group, kind, namespace.
    from: Vec<[String; 3]>,
    /// Group, kind, name if not all.
    to: Vec<(String, String, Option<String>)>,
}

impl Facts for GrantFacts {
    fn of(object: &Object) -> Self {
        let spec = &object.value()["spec"];
        let from = list(spec, "from").iter();
        let to = list(spec, "to").iter();
        GrantFacts {
            from: from.map(|f| ["group", "kind", "namespace"].map(|n| text(f, n).to_string())).collect(),
            to: to
                .map(|t| {
                    let name = t["name"].as_str().filter(|n| !n.is_empty());
                    (text(t, "group").into(), text(t, "kind").into(), name.map(Into::into))
                })
                .collect(),
        }
    }
}

/// All ReferenceGrants.
#[derive(Clone, Debug, Default)]
pub struct Grants(Vec<(Arc<str>, Arc<GrantFacts>)>);

impl Grants {
    /// Those of these objects.
    pub fn of<O: Borrow<Object>>(grants: &[O]) -> Grants {
        Grants(grants.iter().map(Borrow::borrow).map(|g: &Object| (g.key.namespace.clone(), g.facts())).collect())
    }

    /// Whether an object of `kind` (of this API's group) in `namespace` may refer to the object `to`: group, kind, namespace and
    /// name. In its own namespace it always may.
    pub fn permit(&self, kind: &str, namespace: &str, to: (&str, &str, &str, &str)) -> bool {
        let (to_group, to_kind, to_namespace, to_name) = to;
        let grants = || self.0.iter().filter(|(n, _)| **n == *to_namespace);
        namespace == to_namespace
            || grants().any(|(_, g)| {
                g.from.iter().any(|[group, k, n]| group == GROUP && k == kind && n == namespace)
                    && g.to.iter().any(|(group, kind, name)| {
                        group == to_group && kind == to_kind && name.as_ref().is_none_or(|n| n == to_name)
                    })
            })
    }
}
