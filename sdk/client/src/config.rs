//! kubeconfig files (client-go `tools/clientcmd/api/v1`): the parts that a client needs.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde::Deserialize;

/// The name of the extension that lists the cluster's servers.
const SERVERS: &str = "copepod.dev/servers";

/// What a kubeconfig's current context says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kubeconfig {
    /// `https://host:port`.
    pub server: String,
    /// Other servers of the same cluster, which are used where this one does not answer. kubectl passes them over.
    pub others: Vec<String>,
    /// PEM of the CA that the server's certificate must come from.
    pub ca_pem: Vec<u8>,
    /// PEM of the client certificate, empty for none.
    pub cert_pem: Vec<u8>,
    /// PEM of its key.
    pub key_pem: Vec<u8>,
    /// Bearer token, empty for none.
    pub token: String,
    /// Default namespace.
    pub namespace: String,
}

/// Why a kubeconfig cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not readable.
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, std::io::Error),
    /// Not YAML of the right shape.
    #[error("{0} is not a kubeconfig: {1}")]
    Parse(PathBuf, String),
    /// Refers to something that it does not define.
    #[error("{0}: no {1} named \"{2}\"")]
    Missing(PathBuf, &'static str, String),
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    clusters: Vec<Named<Cluster>>,
    #[serde(default)]
    users: Vec<Named<User>>,
    #[serde(default)]
    contexts: Vec<Named<Context>>,
    #[serde(rename = "current-context", default)]
    current: String,
}

#[derive(Deserialize)]
struct Named<T> {
    name: String,
    #[serde(alias = "cluster", alias = "user", alias = "context")]
    value: T,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    #[serde(default)]
    extensions: Vec<Extension>,
}

/// What programs keep in a kubeconfig beside its own fields.
#[derive(Deserialize, Clone)]
struct Extension {
    name: String,
    #[serde(default)]
    extension: serde_json::Value,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "kebab-case")]
struct User {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    token: Option<String>,
}

#[derive(Deserialize, Clone)]
struct Context {
    cluster: String,
    #[serde(default)]
    user: String,
    #[serde(default)]
    namespace: String,
}

impl Kubeconfig {
    /// Reads a file's current context.
    pub fn read(path: &Path) -> Result<Kubeconfig, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|e| ConfigError::Read(path.into(), e))?;
        Kubeconfig::parse(&text, path, std::fs::read)
    }

    /// The current context of the text of a kubeconfig that is at `path`. `read` reads the files that it names.
    pub fn parse(
        text: &str,
        path: &Path,
        read: impl Fn(PathBuf) -> std::io::Result<Vec<u8>>,
    ) -> Result<Kubeconfig, ConfigError> {
        let file: File = yaml_serde::from_str(text).map_err(|e| ConfigError::Parse(path.into(), e.to_string()))?;
        let context = find(path, "context", &file.contexts, &file.current)?;
        let cluster = find(path, "cluster", &file.clusters, &context.cluster)?;
        let user = find(path, "user", &file.users, &context.user)?;
        let dir = path.parent().unwrap_or(Path::new("."));
        let pem = |data: &Option<String>, file: &Option<PathBuf>| -> Result<Vec<u8>, ConfigError> {
            match (data, file) {
                (Some(data), _) => base64::engine::general_purpose::STANDARD
                    .decode(data.trim())
                    .map_err(|e| ConfigError::Parse(path.into(), e.to_string())),
                (None, Some(file)) => read(dir.join(file)).map_err(|e| ConfigError::Read(dir.join(file), e)),
                (None, None) => Ok(Vec::new()),
            }
        };
        Ok(Kubeconfig {
            ca_pem: pem(&cluster.certificate_authority_data, &cluster.certificate_authority)?,
            cert_pem: pem(&user.client_certificate_data, &user.client_certificate)?,
            key_pem: pem(&user.client_key_data, &user.client_key)?,
            token: user.token.unwrap_or_default(),
            others: others(&cluster),
            server: cluster.server,
            namespace: context.namespace,
        })
    }

    /// All servers, the first choice first.
    pub fn servers(&self) -> Vec<String> {
        let mut all = vec![self.server.trim_end_matches('/').to_string()];
        for other in self.others.iter().map(|o| o.trim_end_matches('/')) {
            if all.iter().all(|known| known != other) {
                all.push(other.into());
            }
        }
        all
    }

    /// The text of a kubeconfig with one cluster, one user and one context, all called `name`.
    pub fn to_yaml(&self, name: &str) -> String {
        let b64 = |b: &[u8]| base64::engine::general_purpose::STANDARD.encode(b);
        let name = quoted(name);
        let extensions = match self.others.as_slice() {
            [] => String::new(),
            others => format!(
                "\n    extensions:\n    - name: {SERVERS}\n      extension: {{servers: [{}]}}",
                others.iter().map(|o| quoted(o)).collect::<Vec<_>>().join(", ")
            ),
        };
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: {name}\n\
             clusters:\n- name: {name}\n  cluster:\n    server: {}\n    certificate-authority-data: {}{extensions}\n\
             contexts:\n- name: {name}\n  context:\n    cluster: {name}\n    user: {name}\n    namespace: {}\n\
             users:\n- name: {name}\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\n",
            quoted(&self.server),
            b64(&self.ca_pem),
            quoted(if self.namespace.is_empty() { "default" } else { &self.namespace }),
            b64(&self.cert_pem),
            b64(&self.key_pem),
        )
    }
}

/// A text as YAML has it that is one whatever it looks like, in printable ASCII.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            c if u32::from(c) < 0x1_0000 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

fn others(cluster: &Cluster) -> Vec<String> {
    let listed = cluster.extensions.iter().filter(|e| e.name == SERVERS);
    let urls = listed.flat_map(|e| e.extension["servers"].as_array().into_iter().flatten());
    urls.filter_map(|u| u.as_str()).filter(|u| u.starts_with("https://")).map(Into::into).collect()
}

fn find<T: Clone>(path: &Path, what: &'static str, list: &[Named<T>], name: &str) -> Result<T, ConfigError> {
    let found = list.iter().find(|n| n.name == name);
    found.map(|n| n.value.clone()).ok_or_else(|| ConfigError::Missing(path.into(), what, name.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stay_texts_whatever_they_look_like() {
        for odd in
            ["1", "null", "~", "a: b", "x #y", "- z", "on", "\"", "\\", "*a", "", " ", "\u{85}", "\u{7f}\n", "猫", "😀"]
        {
            let config = Kubeconfig { server: odd.into(), namespace: format!("{odd}x{odd}"), ..Kubeconfig::default() };
            let written = config.to_yaml(odd);
            let nothing = |_: PathBuf| Ok(Vec::new());
            assert_eq!(Kubeconfig::parse(&written, Path::new("c"), nothing).unwrap(), config, "{written}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let dir = std::env::temp_dir().join(format!("copepod-kubeconfig-{}", std::process::id()));
        let config = Kubeconfig {
            server: "https://127.0.0.1:6443".into(),
            others: vec!["https://127.0.0.1:6443".into(), "https://[::1]:6444".into()],
            ca_pem: b"ca".to_vec(),
            cert_pem: b"cert".to_vec(),
            key_pem: b"key".to_vec(),
            ..Kubeconfig::default()
        };
        std::fs::write(&dir, config.to_yaml("copepod")).unwrap();
        let back = Kubeconfig::read(&dir).unwrap();
        std::fs::remove_file(&dir).unwrap();
        assert_eq!(back.servers(), ["https://127.0.0.1:6443", "https://[::1]:6444"]);
        assert_eq!(
            (back.server, back.ca_pem, back.cert_pem, back.key_pem),
            (config.server, config.ca_pem, config.cert_pem, config.key_pem)
        );
        assert_eq!(back.namespace, "default");
    }
}
