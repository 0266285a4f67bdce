//! PodTemplate.

use serde_json::Value;

use super::podspec;
use crate::kinds::fields::{Path, child_mut, ensure};
use crate::kinds::table::{self, col, name};
use crate::kinds::{Column, Kind, NAME, Strategy, workload};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind { generation: true, ..Kind::new(super::V1, "PodTemplate", ("podtemplates", "podtemplate"), PodTemplate) }
}

struct PodTemplate;

impl Strategy for PodTemplate {
    fn default(&self, object: &mut Value) {
        let template = object.as_object_mut().and_then(|o| child_mut(o, "template"));
        if let Some(pod) = template.and_then(|t| ensure(t, "spec")) {
            podspec::default_template(pod);
        }
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        podspec::validate_template(Path::root("template"), &object["template"], errors);
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            NAME,
            Column { priority: 0, ..workload::LAYOUT[0] },
            Column { priority: 0, ..workload::LAYOUT[1] },
            col("Pod Labels", "string", "The labels for the pod template."),
        ]
    }

    fn cells(&self, o: &Value, _: Time) -> Vec<Value> {
        let (names, images) = podspec::layout(&o["template"]["spec"]);
        vec![name(o), names.into(), images.into(), table::labels(&o["template"]["metadata"]["labels"])]
    }
}
