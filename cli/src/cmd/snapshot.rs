//! `copepod snapshot`: backups of all that a cluster has stored.

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, Subcommand};
use copepod_client::Client;
use copepod_model::Status;
use copepod_server::MEMBER_FILE;
use copepod_server::keys;
use copepod_server::store::offline::{self, BUMP};
use copepod_server::store::snapshot::{self, Meta};
use http_body_util::{BodyExt as _, Limited};

use super::server::JOINED;
use super::{Error, default_data_dir};
use crate::connect::{Connect, refused};
use crate::say::say;

const PATH: &str = "/copepod.dev/v1/snapshot";
/// How long the server may send nothing.
const PATIENCE: Duration = Duration::from_secs(120);
/// A passphrase, and what `--with-keys` wrote.
const MOST_BYTES: u64 = 16 << 20;

/// Save everything that a cluster has stored, check such a file, and start a cluster from one.
#[derive(Debug, Args)]
pub struct Snapshot {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Save the state of a running cluster to a file.
    Save(Save),
    /// Check a file, or the folder of a server that is stopped, from its first byte to its last.
    Verify {
        /// A snapshot, or a data folder.
        #[arg(value_name = "FILE|DIR")]
        path: PathBuf,
    },
    /// Make the data folder of a new cluster of one server from a file.
    Restore(Restore),
}

#[derive(Debug, Args)]
struct Save {
    /// The file. One of this name is replaced once the new one is whole.
    file: PathBuf,
    /// Save the cluster's keys, too, encrypted, as FILE.keys. Needs the server's data folder on this machine.
    #[arg(long, requires = "passphrase_file")]
    with_keys: bool,
    /// File with the passphrase for the keys; a line's end behind it does not count.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Where the server keeps everything, for --with-keys. Default: the XDG data folder.
    #[arg(long, env = "COPEPOD_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, Args)]
struct Restore {
    /// The snapshot.
    file: PathBuf,
    /// The new cluster's data folder; it has no state yet.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// The keys that `save --with-keys` wrote.
    #[arg(long, value_name = "FILE", requires = "passphrase_file")]
    keys: Option<PathBuf>,
    /// File with the passphrase of the keys.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// What is added to the revision, so that no revision that the old cluster gave out means something else now.
    #[arg(long, value_name = "N", default_value_t = BUMP)]
    bump_revision: u64,
}

impl Snapshot {
    /// Does it.
    pub async fn run(self) -> Result<(), Error> {
        match self.verb {
            Verb::Save(save) => save.run().await,
            Verb::Verify { path } => verify(&path),
            Verb::Restore(restore) => restore.run(),
        }
    }
}

impl Save {
    async fn run(self) -> Result<(), Error> {
        let keys = match &self.passphrase_file {
            Some(file) if self.with_keys => {
                let dir = self.data_dir.clone().unwrap_or_else(default_data_dir).join("server/pki");
                Some(keys::pack(&dir, &passphrase(file)?)?)
            }
            _ => None,
        };
        let (client, _) = self.connect.client()?;
        let part = beside(&self.file, "part");
        let saved = async {
            fetch(&client, &part).await?;
            let meta = check(&part)?;
            rename(&part, &self.file)?;
            Ok::<_, Error>(meta)
        };
        let meta = match saved.await {
            Ok(meta) => meta,
            Err(e) => {
                // What is there is of no use.
                let _ = fs::remove_file(&part);
                return Err(e);
            }
        };
        say(format!("{}: {}\n", self.file.display(), told(&meta)))?;
        let beside_it = beside(&self.file, "keys");
        match keys {
            Some(bytes) => {
                let mut file = private(&part)?;
                file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(at(&part))?;
                rename(&part, &beside_it)?;
                say(format!("{}: the cluster's keys, encrypted\n", beside_it.display()))?;
            }
            None => eprintln!(
                "The cluster's keys are not in it: save DATA-DIR/server/pki, too. Without server/pki/seal.secret its Secrets \
                 cannot be read."
            ),
        }
        Ok(())
    }
}

/// Writes what the server sends into a file.
async fn fetch(client: &Client, to: &Path) -> Result<(), Error> {
    let answer = client.raw(http::Request::get(PATH).body(Bytes::new())?);
    let answer = tokio::time::timeout(PATIENCE, answer).await.map_err(|_| "the server does not answer")?;
    let answer = answer.map_err(refused)?;
    let code = answer.status();
    if !code.is_success() {
        let body = Limited::new(answer.into_body(), 1 << 20).collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        return Err(refused(Status::from_json(code.as_u16(), &body)));
    }
    let mut file = private(to)?;
    let mut body = answer.into_body();
    let stuck = |_| "the server sends nothing more";
    while let Some(frame) = tokio::time::timeout(PATIENCE, body.frame()).await.map_err(stuck)? {
        let frame = frame.map_err(|e| format!("the snapshot broke off: {e}"))?;
        if let Some(data) = frame.data_ref() {
            file.write_all(data).map_err(at(to))?;
        }
    }
    file.sync_all().map_err(at(to))?;
    Ok(())
}

impl Restore {
    fn run(self) -> Result<(), Error> {
        let dir = std::path::absolute(&self.data_dir).map_err(at(&self.data_dir))?;
        let (state, pki) = (dir.join("server/state"), dir.join("server/pki"));
        // Everything that can be wrong with what was given, before anything is written.
        let keys = match (&self.keys, &self.passphrase_file) {
            (Some(file), Some(phrase)) => {
                let (bytes, phrase) = (limited(file)?, passphrase(phrase)?);
                keys::check(&bytes, &phrase, &pki).map_err(|e| format!("{}: {e}", file.display()))?;
                Some((bytes, phrase))
            }
            _ => None,
        };
        let mut input = BufReader::new(File::open(&self.file).map_err(at(&self.file))?);
        let (meta, mut tables) = snapshot::read(&mut input).map_err(|e| format!("{}: {e}", self.file.display()))?;
        at_its_end(&mut input, &self.file)?;
        tables.set_revision(meta.revision.saturating_add(self.bump_revision));
        if !offline::is_store(&state) {
            // What a server was in another group it is not in this one.
            for name in [MEMBER_FILE, JOINED] {
                let path = dir.join("server").join(name);
                match fs::remove_file(&path) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(at(&path)(e).into()),
                    _ => {}
                }
            }
        }
        offline::restore_alone(&state, &meta, &mut tables)?;
        if let Some((bytes, passphrase)) = keys {
            keys::unpack(&bytes, &passphrase, &pki)
                .map_err(|e| format!("the state is restored, the keys are not: {e}"))?;
        }
        say(format!("{}: {} objects, revision {}\n", dir.display(), tables.len(), tables.revision()))?;
        if !pki.join("seal.secret").exists() {
            eprintln!(
                "Before the first start put the old cluster's server/pki into {}: without its seal.secret no Secret can be \
                 read, and without its ca.key no certificate of it is good.",
                dir.join("server").display()
            );
        }
        Ok(())
    }
}

fn verify(path: &Path) -> Result<(), Error> {
    if !fs::metadata(path).map_err(at(path))?.is_dir() {
        return say(format!("{}: whole; {}\n", path.display(), told(&check(path)?)));
    }
    // A data folder, or the folder of the state itself.
    let inside = path.join("server/state");
    let state = if inside.is_dir() { inside } else { path.to_path_buf() };
    let found = offline::verify(&state)?;
    say(format!(
        "{}: whole; storage format {}, member {} of {:?}, {} objects, revision {}, log from index {} to {}\n",
        state.display(),
        found.format,
        found.member,
        found.members.voters,
        found.objects,
        found.revision,
        found.checkpoint,
        found.last
    ))
}

/// Reads a snapshot to its end.
fn check(path: &Path) -> Result<Meta, Error> {
    let mut input = BufReader::new(File::open(path).map_err(at(path))?);
    let meta = snapshot::verify(&mut input).map_err(|e| format!("{}: {e}", path.display()))?;
    at_its_end(&mut input, path)?;
    Ok(meta)
}

fn at_its_end(input: &mut BufReader<File>, path: &Path) -> Result<(), Error> {
    match input.read(&mut [0]).map_err(at(path))? {
        0 => Ok(()),
        _ => Err(format!("{}: there is something behind the snapshot's end", path.display()).into()),
    }
}

fn told(meta: &Meta) -> String {
    format!("{} objects, revision {}, log index {} of term {}", meta.objects, meta.revision, meta.index, meta.term)
}

/// FILE.MORE.
fn beside(path: &Path, more: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(more);
    name.into()
}

/// A new file that only its owner may read: sealed Secrets are not the only secrets of a cluster.
fn private(path: &Path) -> Result<File, Error> {
    Ok(OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).map_err(at(path))?)
}

/// Durably.
fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(at(to))?;
    let parent = to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|d| d.sync_all()).map_err(at(parent))?;
    Ok(())
}

fn passphrase(path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = limited(path)?;
    while bytes.last().is_some_and(|b| matches!(b, b'\n' | b'\r')) {
        bytes.pop();
    }
    Ok(bytes)
}

fn limited(path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    File::open(path).and_then(|f| f.take(MOST_BYTES + 1).read_to_end(&mut bytes)).map_err(at(path))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(format!("{} is too large", path.display()).into());
    }
    Ok(bytes)
}

fn at(path: &Path) -> impl Fn(std::io::Error) -> String {
    let path = path.display().to_string();
    move |e| format!("{path}: {e}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beside_a_file() {
        assert_eq!(beside(Path::new("a/b.snap"), "keys"), Path::new("a/b.snap.keys"));
        assert_eq!(beside(Path::new("b"), "part"), Path::new("b.part"));
    }

    #[test]
    fn a_line_end_is_no_part_of_a_passphrase() {
        let dir = std::env::temp_dir().join(format!("copepod-passphrase-{}", std::process::id()));
        fs::write(&dir, " with spaces \r\n\n").unwrap();
        assert_eq!(passphrase(&dir).unwrap(), b" with spaces ");
        fs::remove_file(&dir).unwrap();
        assert!(passphrase(&dir).unwrap_err().to_string().contains("copepod-passphrase"));
    }
}
