//! What proves that an artifact is this node's own: a tag over its content and what that is good for.

use std::io::{self, Read};

use ring::hmac;

/// A node's key, and the kind of artifacts that it is used for.
pub(crate) struct Seal {
    key: hmac::Key,
    compatibility: u64,
}

impl Seal {
    /// `compatibility` stands for the version and the settings of wasmtime.
    pub(crate) fn new(key: &[u8], compatibility: u64) -> Seal {
        Seal { key: hmac::Key::new(hmac::HMAC_SHA256, key), compatibility }
    }

    /// The tag of `digest`'s artifact.
    pub(crate) fn tag(&self, digest: &str, artifact: &[u8]) -> hmac::Tag {
        let mut context = self.context(digest);
        context.update(artifact);
        context.sign()
    }

    /// Whether `tag` is the tag of `digest`'s artifact, which is read to its end.
    pub(crate) fn is_authentic(&self, digest: &str, artifact: &mut impl Read, tag: &[u8]) -> io::Result<bool> {
        let mut context = self.context(digest);
        let mut buffer = vec![0; 256 << 10];
        loop {
            match artifact.read(&mut buffer)? {
                0 => break,
                n => context.update(&buffer[..n]),
            }
        }
        let expected = context.sign();
        // Compared through another HMAC, so that how long it takes says nothing about the tag.
        Ok(hmac::verify(&self.key, tag, hmac::sign(&self.key, expected.as_ref()).as_ref()).is_ok())
    }

    /// The tag covers what the content is good for, not only the content.
    fn context(&self, digest: &str) -> hmac::Context {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(b"copepod compiled artifact 1\0");
        context.update(&self.compatibility.to_be_bytes());
        context.update(&(digest.len() as u64).to_be_bytes());
        context.update(digest.as_bytes());
        context
    }
}
