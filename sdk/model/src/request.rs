//! An API request as a plain value: what a transport decodes, what the registry decides on, what the client sends.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use crate::Key;

/// Who asks: `authentication/user.Info`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    /// User name.
    pub name: String,
    /// UID, empty when there is none.
    pub uid: String,
    /// Groups.
    pub groups: Vec<String>,
    /// Extra, as (key, values).
    pub extra: Vec<(String, Vec<String>)>,
}

impl UserInfo {
    /// A component of the control plane itself: member of `system:masters`.
    pub fn system(name: &str) -> UserInfo {
        UserInfo {
            name: name.into(),
            groups: vec!["system:masters".into(), "system:authenticated".into()],
            ..UserInfo::default()
        }
    }
    /// A service account, as a token of its own names it.
    pub fn service_account(namespace: &str, name: &str) -> UserInfo {
        let mut groups = UserInfo::service_account_groups(namespace);
        groups.push("system:authenticated".into());
        UserInfo { name: format!("system:serviceaccount:{namespace}:{name}"), groups, ..UserInfo::default() }
    }
    /// The groups of a namespace's service accounts.
    pub fn service_account_groups(namespace: &str) -> Vec<String> {
        vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")]
    }
    /// Whether the user is in `group`.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }
}

/// API verbs, as RBAC names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Read one object.
    Get,
    /// Read a collection.
    List,
    /// Follow changes.
    Watch,
    /// Create an object or a subresource.
    Create,
    /// Replace an object.
    Update,
    /// Change part of an object.
    Patch,
    /// Delete one object.
    Delete,
    /// Delete a collection.
    DeleteCollection,
}

impl Verb {
    /// The verb's RBAC name.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
        }
    }
}

/// The patch formats, by `Content-Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    /// `application/json-patch+json`, RFC 6902.
    Json,
    /// `application/merge-patch+json`, RFC 7386.
    Merge,
    /// `application/strategic-merge-patch+json`.
    Strategic,
    /// `application/apply-patch+yaml`: server-side apply.
    Apply,
}

impl PatchType {
    /// The media type.
    pub fn media_type(self) -> &'static str {
        match self {
            PatchType::Json => "application/json-patch+json",
            PatchType::Merge => "application/merge-patch+json",
            PatchType::Strategic => "application/strategic-merge-patch+json",
            PatchType::Apply => "application/apply-patch+yaml",
        }
    }
}

/// What a request carries.
#[derive(Clone, Debug, Default)]
pub enum Body {
    /// Nothing.
    #[default]
    None,
    /// An object (already decoded from JSON, YAML or protobuf), and its size as received in bytes.
    Object(Value),
    /// An object whose text is still JSON, so that strict decoding can see duplicate fields.
    Json(Bytes),
    /// A patch.
    Patch(PatchType, Value),
}

/// `fieldValidation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Unknown and duplicate fields are dropped silently.
    Ignore,
    /// They are dropped and reported in `Warning` headers. Kubernetes' default.
    #[default]
    Warn,
    /// They fail the request.
    Strict,
}

/// How dependents of a deleted object are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Dependents are deleted by the collector afterwards.
    Background,
    /// The object stays until its blocking dependents are gone.
    Foreground,
    /// Dependents lose their owner reference and stay.
    Orphan,
}

/// `metav1.DeleteOptions`, parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Grace in seconds.
    pub grace_period_seconds: Option<i64>,
    /// Only if the object has this UID.
    pub uid: Option<String>,
    /// Only if the object has this resourceVersion.
    pub resource_version: Option<String>,
    /// `propagationPolicy` (or `orphanDependents`).
    pub propagation: Option<Propagation>,
}

/// The query of a list or watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// `labelSelector`, unparsed.
    pub label_selector: String,
    /// `fieldSelector`, unparsed.
    pub field_selector: String,
    /// `limit`, 0 for none.
    pub limit: usize,
    /// `continue` token, empty for the first page.
    pub continue_token: String,
    /// `resourceVersion`, as given.
    pub resource_version: Option<String>,
    /// `resourceVersionMatch`: `Exact` or `NotOlderThan`.
    pub resource_version_match: Option<String>,
    /// `allowWatchBookmarks`.
    pub allow_watch_bookmarks: bool,
    /// `sendInitialEvents`.
    pub send_initial_events: Option<bool>,
    /// `timeoutSeconds`.
    pub timeout_seconds: Option<u64>,
}

/// One request to the API, whoever sends it and by whichever transport.
#[derive(Clone, Debug)]
pub struct ApiRequest {
    /// Who asks.
    pub user: Arc<UserInfo>,
    /// What for.
    pub verb: Verb,
    /// API group, empty for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Resource in the plural.
    pub resource: String,
    /// Subresource, such as `status`.
    pub subresource: Option<String>,
    /// Namespace; empty for cluster scope or for all namespaces.
    pub namespace: String,
    /// Object name; empty for collections.
    pub name: String,
    /// `fieldManager`, or what the transport derives from the User-Agent.
    pub field_manager: String,
    /// `dryRun=All`.
    pub dry_run: bool,
    /// `force`, for server-side apply.
    pub force: bool,
    /// `fieldValidation`.
    pub field_validation: FieldValidation,
    /// Of list, watch and deletecollection.
    pub list: ListOptions,
    /// Of delete and deletecollection.
    pub delete: DeleteOptions,
    /// Payload.
    pub body: Body,
}

impl ApiRequest {
    /// A request of `user` for a resource, everything else at its default.
    pub fn new(user: Arc<UserInfo>, verb: Verb, group: &str, version: &str, resource: &str) -> ApiRequest {
        ApiRequest {
            user,
            verb,
            group: group.into(),
            version: version.into(),
            resource: resource.into(),
            subresource: None,
            namespace: String::new(),
            name: String::new(),
            field_manager: String::new(),
            dry_run: false,
            force: false,
            field_validation: FieldValidation::Ignore,
            list: ListOptions::default(),
            delete: DeleteOptions::default(),
            body: Body::None,
        }
    }
    /// GroupResource in text form: `deployments.apps`.
    pub fn group_resource(&self) -> String {
        if self.group.is_empty() { self.resource.clone() } else { format!("{}.{}", self.resource, self.group) }
    }
    /// The key of the object that the request names.
    pub fn key(&self) -> Key {
        Key::new(self.group_resource(), self.namespace.as_str(), self.name.as_str())
    }
}
