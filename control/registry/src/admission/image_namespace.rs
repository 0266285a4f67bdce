//! Images of the cluster's own registry: nodes pull them for any pod, so here it is said which pod may have which. Those of a
//! namespace (`registry.cluster.local/NAMESPACE/NAME`) are for its pods, and for pods of other namespaces whose service
//! account may `get` them there. Those without a namespace are for all.

use copepod_model::{Status, UserInfo};
use serde_json::Value;

use super::{Operation, Review};
use crate::call::Part;
use crate::rbac::{Attributes, authorize};
use crate::value::{list, text};

/// The name that the cluster's own registry has in the images of pods.
pub const IMAGE_HOST: &str = "registry.cluster.local";
const MIRROR: &str = "kubernetes.io/config.mirror";
const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

pub(super) fn validate(review: &mut Review<'_>, object: &Value) -> Result<(), Status> {
    // What a mirror shows is run from its node's file, whatever it says.
    if &*review.key.resource != "pods"
        || review.operation == Operation::Delete
        || matches!(review.part, Part::Status)
        || object["metadata"]["annotations"].get(MIRROR).is_some()
    {
        return Ok(());
    }
    let own = &*review.key.namespace;
    let before: Vec<&str> = review.old.into_iter().flat_map(images).collect();
    let foreign = images(object).filter(|image| !before.contains(image)).filter_map(|image| {
        let (namespace, name) = repository(image)?;
        (namespace != own).then_some((image, namespace, name))
    });
    for (image, namespace, name) in foreign {
        let account = UserInfo::service_account(own, text(&object["spec"], "serviceAccountName"));
        if !authorize(review.view, &image_attributes(&account, "get", namespace, name)).allowed {
            return Err(review.forbid(&format!(
                "image {image:?} is of the namespace {namespace:?}: User {:?} cannot get resource \"images\" in API group \
                 \"copepod.dev\" there",
                account.name
            )));
        }
    }
    Ok(())
}

/// What doing something with a repository is to RBAC: `images.copepod.dev`, in a namespace or in none.
pub fn image_attributes<'a>(user: &'a UserInfo, verb: &'a str, namespace: &'a str, name: &'a str) -> Attributes<'a> {
    let (group, resource, subresource, path) = ("copepod.dev", "images", "", None);
    Attributes { user, verb, group, resource, subresource, namespace, name, path }
}

fn images(pod: &Value) -> impl Iterator<Item = &str> {
    CONTAINERS.iter().flat_map(|kind| list(&pod["spec"], kind)).map(|c| text(c, "image"))
}

/// Namespace and name of a repository of the cluster's own registry that lies in a namespace.
fn repository(image: &str) -> Option<(&str, &str)> {
    let rest = image.strip_prefix(IMAGE_HOST)?.strip_prefix('/')?;
    let rest = rest.split('@').next().unwrap_or(rest);
    let (namespace, name) = rest.split_once('/')?;
    let last = name.rfind('/').map_or(0, |at| at + 1);
    Some((namespace, name[last..].find(':').map_or(name, |at| &name[..last + at])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_of_namespaces() {
        for (image, want) in [
            ("registry.cluster.local/team/app", Some(("team", "app"))),
            ("registry.cluster.local/team/app:1", Some(("team", "app"))),
            ("registry.cluster.local/team/a/b:1@sha256:00", Some(("team", "a/b"))),
            ("registry.cluster.local/app:1", None),
            ("registry.cluster.local.example.com/team/app", None),
            ("registry.cluster.local:443/team/app", None),
            ("docker.io/team/app", None),
            ("", None),
        ] {
            assert_eq!(repository(image), want, "{image}");
        }
    }
}
