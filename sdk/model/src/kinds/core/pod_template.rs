//! PodTemplate.

use serde_json::Value;

use super::podspec;
use crate::kinds::fields::{Path, child_mut, spec_mut};
use crate::kinds::table::{self, col, name};
use crate::kinds::{Column, Kind, NAME, Strategy};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind { generation: true, ..Kind::new(super::V1, "PodTemplate", ("podtemplates", "podtemplate"), PodTemplate) }
}

struct PodTemplate;

impl Strategy for PodTemplate {
    fn default(&self, object: &mut Value) {
        let template = object.as_object_mut().and_then(|o| child_mut(o, "template")).is_some();
        if template && let Some(spec) = spec_mut(&mut object["template"]) {
            podspec::default_template(spec);
        }
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        podspec::validate_template(Path::root("template"), &object["template"], errors);
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            NAME,
            col("Containers", "string", "Names of each container in the template."),
            col("Images", "string", "Images referenced by each container in the template."),
            col("Pod Labels", "string", "The labels for the pod template."),
        ]
    }

    fn cells(&self, o: &Value, _: Time) -> Vec<Value> {
        let (names, images) = podspec::layout(&o["template"]["spec"]);
        vec![name(o), names.into(), images.into(), table::labels(&o["template"]["metadata"]["labels"])]
    }
}
