//! Which IngressClass an Ingress is of, and whether that is the cluster's own: what the proxy and the Ingresses' status both ask.

use std::borrow::Borrow;

use super::Facts;
use crate::Object;

/// The IngressClass that is the cluster's own even without an object of that name.
pub const INGRESS_CLASS: &str = "copepod";
/// `spec.controller` of the IngressClasses that are the cluster's own.
pub const INGRESS_CONTROLLER: &str = "copepod.dev/ingress";

/// Upstream's annotation from before there was a field; it still wins over the field's absence.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const DEFAULT_CLASS_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";

/// The class that an Ingress names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IngressClassName(pub Option<String>);

impl Facts for IngressClassName {
    fn of(object: &Object) -> Self {
        let named = object.value()["spec"]["ingressClassName"].as_str().map(String::from);
        IngressClassName(named.or_else(|| object.meta.annotations.get(CLASS_ANNOTATION).map(|c| c.to_string())))
    }
}

/// Whether an Ingress is the cluster's own, given all classes: its class has the controller `controller`, or is called `class`
/// where no such object exists; without a class, unless the cluster's default class is another controller's.
pub fn ingress_is_ours<O: Borrow<Object>>(ingress: &Object, classes: &[O], class: &str, controller: &str) -> bool {
    let is_ours = |class: &Object| class.value()["spec"]["controller"] == *controller;
    match &ingress.facts::<IngressClassName>().0 {
        Some(name) => match classes.iter().map(Borrow::borrow).find(|c: &&Object| c.name() == name) {
            Some(class) => is_ours(class),
            None => *name == *class,
        },
        None => {
            let is_default =
                |c: &&Object| c.meta.annotations.get(DEFAULT_CLASS_ANNOTATION).is_some_and(|v| &**v == "true");
            let defaults: Vec<&Object> = classes.iter().map(Borrow::borrow).filter(is_default).collect();
            defaults.is_empty() || defaults.into_iter().any(is_ours)
        }
    }
}
