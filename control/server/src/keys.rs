//! The folder of keys as one encrypted file, for a backup: without them the Secrets of a snapshot cannot be read, and
//! no certificate of the cluster is good any more.
//!
//! ```text
//! magic[16] iterations:u32 salt[16] nonce[12] AES-256-GCM{ (name:u16 length:u32, name, bytes)* }
//! ```
//!
//! Numbers are little-endian. The key is made of the passphrase by PBKDF2 with HMAC-SHA-256 (RFC 8018); everything
//! before the ciphertext is authenticated with it.

use std::fs;
use std::io;
use std::num::NonZeroU32;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::pbkdf2;

use crate::pki::{self, PkiError};

const MAGIC: &[u8; 16] = b"copepod keys v01";
const SALT_LEN: usize = 16;
const HEAD: usize = MAGIC.len() + 4 + SALT_LEN + NONCE_LEN;
/// What OWASP's password storage cheat sheet asks for with SHA-256.
const ITERATIONS: u32 = 600_000;
/// More would keep a reader busy for minutes.
const MOST_ITERATIONS: u32 = 20_000_000;
/// Keys and certificates are a few hundred bytes each.
const MOST_BYTES: u64 = 1 << 20;
const MOST_FILES: usize = 1000;
/// A shorter passphrase can be guessed.
const LEAST_PASSPHRASE: usize = 12;

/// Why keys cannot be packed or unpacked.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A file cannot be read or written.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    /// A file cannot be written.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The folder has nothing in it.
    #[error("{0} has no keys")]
    NoKeys(PathBuf),
    /// The folder that keys are unpacked to has some.
    #[error("{0} is not empty")]
    NotEmpty(PathBuf),
    /// What is in the folder are no keys.
    #[error("{0} is too large for a key")]
    TooLarge(PathBuf),
    /// The passphrase is too short.
    #[error("the passphrase must have at least {} bytes", LEAST_PASSPHRASE)]
    Short,
    /// The bytes are something else.
    #[error("it is not a file of copepod's keys")]
    Foreign,
    /// The passphrase is another one, or the file is damaged: nobody can tell which.
    #[error("the passphrase is wrong, or the file is damaged")]
    Wrong,
}

/// Encrypts the files of a folder. Folders in it are left out.
pub fn pack(dir: &Path, passphrase: &[u8]) -> Result<Vec<u8>, KeysError> {
    let plain = files(dir)?;
    let mut salt = [0; SALT_LEN];
    crate::random(&mut salt);
    let mut nonce = [0; NONCE_LEN];
    crate::random(&mut nonce);
    let mut out = Vec::with_capacity(HEAD + plain.len() + AES_256_GCM.tag_len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&ITERATIONS.to_le_bytes());
    out.extend_from_slice(&salt);
    out.extend_from_slice(&nonce);
    let key = key(passphrase, &salt, ITERATIONS)?;
    let mut sealed = plain;
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(&out), &mut sealed)
        .map_err(|_| KeysError::Wrong)?;
    out.append(&mut sealed);
    Ok(out)
}

/// Whether [`unpack`] would succeed, as far as that can be known before.
pub fn check(bytes: &[u8], passphrase: &[u8], dir: &Path) -> Result<(), KeysError> {
    open(bytes, passphrase)?;
    must_be_empty(dir)
}

/// Decrypts what [`pack`] made into a folder, which must be empty or not there; gives the files' names.
pub fn unpack(bytes: &[u8], passphrase: &[u8], dir: &Path) -> Result<Vec<String>, KeysError> {
    let files = open(bytes, passphrase)?;
    must_be_empty(dir)?;
    let fail = |e| KeysError::Io(dir.into(), e);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(fail)?;
    for (name, content) in &files {
        pki::write(&dir.join(name), content)?;
    }
    fs::File::open(dir).and_then(|d| d.sync_all()).map_err(fail)?;
    Ok(files.into_iter().map(|(name, _)| name).collect())
}

fn must_be_empty(dir: &Path) -> Result<(), KeysError> {
    match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(KeysError::Io(dir.into(), e)),
        Ok(mut entries) => entries.next().map_or(Ok(()), |_| Err(KeysError::NotEmpty(dir.into()))),
    }
}

/// The plaintext: every file of a folder.
fn files(dir: &Path) -> Result<Vec<u8>, KeysError> {
    let fail = |e| KeysError::Io(dir.into(), e);
    let mut paths: Vec<PathBuf> =
        fs::read_dir(dir).map_err(fail)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>().map_err(fail)?;
    paths.sort();
    let mut out = Vec::new();
    for path in paths {
        let fail = |e| KeysError::Io(path.clone(), e);
        let meta = fs::metadata(&path).map_err(fail)?;
        // What a write left that was cut off is no key.
        let Some(name) = path.file_name().and_then(|n| n.to_str()).filter(|n| is_name(n) && !n.ends_with(".new"))
        else {
            continue;
        };
        if !meta.is_file() {
            continue;
        }
        if meta.len() > MOST_BYTES {
            return Err(KeysError::TooLarge(path.clone()));
        }
        let content = fs::read(&path).map_err(fail)?;
        out.extend_from_slice(&(name.len() as u16).to_le_bytes());
        out.extend_from_slice(&(content.len() as u32).to_le_bytes());
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(&content);
    }
    if out.is_empty() { Err(KeysError::NoKeys(dir.into())) } else { Ok(out) }
}

/// Files by name.
type Files = Vec<(String, Vec<u8>)>;

fn open(bytes: &[u8], passphrase: &[u8]) -> Result<Files, KeysError> {
    let (head, sealed) = bytes.split_at_checked(HEAD).ok_or(KeysError::Foreign)?;
    let rest = head.strip_prefix(MAGIC.as_slice()).ok_or(KeysError::Foreign)?;
    let (iterations, rest) = rest.split_first_chunk().ok_or(KeysError::Foreign)?;
    let (salt, nonce) = rest.split_at(SALT_LEN);
    let iterations = u32::from_le_bytes(*iterations);
    if iterations > MOST_ITERATIONS {
        return Err(KeysError::Wrong);
    }
    let key = key(passphrase, salt, iterations)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| KeysError::Foreign)?;
    let mut plain = sealed.to_vec();
    let plain = key.open_in_place(nonce, Aad::from(head), &mut plain).map_err(|_| KeysError::Wrong)?;
    parse(plain).ok_or(KeysError::Foreign)
}

fn parse(mut plain: &[u8]) -> Option<Files> {
    let mut files = Files::new();
    while !plain.is_empty() && files.len() < MOST_FILES {
        let (name, rest) = plain.split_first_chunk().map(|(n, rest)| (u16::from_le_bytes(*n), rest))?;
        let (length, rest) = rest.split_first_chunk().map(|(n, rest)| (u32::from_le_bytes(*n), rest))?;
        let (name, rest) = rest.split_at_checked(name as usize)?;
        let (content, rest) = rest.split_at_checked(length as usize)?;
        let name = std::str::from_utf8(name).ok().filter(|n| is_name(n))?;
        files.push((name.into(), content.into()));
        plain = rest;
    }
    plain.is_empty().then_some(files)
}

/// A file's name that leads nowhere else.
fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (1..=255).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(plain)
}

fn key(passphrase: &[u8], salt: &[u8], iterations: u32) -> Result<LessSafeKey, KeysError> {
    if passphrase.len() < LEAST_PASSPHRASE {
        return Err(KeysError::Short);
    }
    let iterations = NonZeroU32::new(iterations).ok_or(KeysError::Wrong)?;
    let mut key = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, passphrase, &mut key);
    UnboundKey::new(&AES_256_GCM, &key).map(LessSafeKey::new).map_err(|_| KeysError::Wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSPHRASE: &[u8] = b"a long enough passphrase";

    fn packed() -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in [("ca.key", "one"), ("seal.secret", "two"), ("ca.new", "half")] {
            fs::write(dir.path().join(name), content).unwrap();
        }
        fs::create_dir(dir.path().join("folder")).unwrap();
        pack(dir.path(), PASSPHRASE).unwrap()
    }

    #[test]
    fn keys_come_back_with_the_passphrase_alone() {
        let bytes = packed();
        assert!(!bytes.windows(3).any(|w| w == b"two"));
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("a/pki");
        assert!(matches!(unpack(&bytes, b"another passphrase", &to), Err(KeysError::Wrong)));
        assert!(matches!(unpack(&bytes, b"short", &to), Err(KeysError::Short)));
        check(&bytes, PASSPHRASE, &to).unwrap();
        assert!(!to.exists());
        assert_eq!(unpack(&bytes, PASSPHRASE, &to).unwrap(), ["ca.key", "seal.secret"]);
        assert_eq!(fs::read(to.join("seal.secret")).unwrap(), b"two");
        assert!(matches!(unpack(&bytes, PASSPHRASE, &to), Err(KeysError::NotEmpty(_))));
        assert!(matches!(check(&bytes, PASSPHRASE, &to), Err(KeysError::NotEmpty(_))));
    }

    #[test]
    fn damage_is_found() {
        let good = packed();
        // One of each part: magic, iterations (the highest byte: too many), salt, nonce, ciphertext, tag.
        for at in [0, 19, 21, 40, HEAD, good.len() - 1] {
            let mut bytes = good.clone();
            bytes[at] ^= 0x40;
            assert!(open(&bytes, PASSPHRASE).is_err(), "byte {at}");
        }
        assert!(matches!(open(&good[..HEAD - 1], PASSPHRASE), Err(KeysError::Foreign)));
        assert!(open(&good[..good.len() - 1], PASSPHRASE).is_err());
    }

    #[test]
    fn names_lead_nowhere_else() {
        let row = |name: &str| {
            let mut out = (name.len() as u16).to_le_bytes().to_vec();
            out.extend_from_slice(&1u32.to_le_bytes());
            out.extend_from_slice(name.as_bytes());
            out.push(b'x');
            out
        };
        assert_eq!(parse(&row("ca.key")), Some(vec![("ca.key".into(), b"x".to_vec())]));
        for name in ["../ca.key", "/etc/passwd", ".hidden", "", "a b"] {
            assert_eq!(parse(&row(name)), None, "{name}");
        }
        assert_eq!(parse(&row("ca.key")[..9]), None);
    }

    #[test]
    fn a_folder_without_keys_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(pack(dir.path(), PASSPHRASE), Err(KeysError::NoKeys(_))));
        assert!(matches!(pack(&dir.path().join("none"), PASSPHRASE), Err(KeysError::Io(..))));
    }
}
