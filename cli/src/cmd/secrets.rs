//! `copepod secrets`: the key that seals Secrets at rest.

use bytes::Bytes;
use clap::{Args, Subcommand};
use copepod_model::Status;
use http_body_util::{BodyExt as _, Limited};
use serde::Deserialize;

use super::Error;
use crate::connect::{Connect, refused};
use crate::say::say;

const PATH: &str = "/copepod.dev/v1/secrets/rotate-key";
/// Longest answer, in bytes.
const ANSWER: usize = 1 << 20;

/// How Secrets are sealed at rest.
#[derive(Debug, Args)]
pub struct Secrets {
    #[command(flatten)]
    connect: Connect,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a new key and seal all Secrets with it. May be cut off, and repeated, at any time.
    RotateKey,
}

#[derive(Deserialize)]
struct Rotated {
    key: u64,
    resealed: u64,
    #[serde(default)]
    unreadable: Vec<String>,
}

impl Secrets {
    /// Does what was said.
    pub async fn run(self) -> Result<(), Error> {
        let Verb::RotateKey = self.verb;
        let (client, _) = self.connect.client()?;
        let answer = client.raw(http::Request::post(PATH).body(Bytes::new())?).await.map_err(refused)?;
        let code = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER).collect().await;
        let body = body.map_err(|e| format!("the answer broke off: {e}"))?.to_bytes();
        if !code.is_success() {
            return Err(refused(Status::from_json(code.as_u16(), &body)));
        }
        let rotated: Rotated = serde_json::from_slice(&body)?;
        say(told(&rotated))?;
        match rotated.unreadable.as_slice() {
            [] => Ok(()),
            why => Err(format!("some Secrets cannot be read and stay as they are:\n{}", why.join("\n")).into()),
        }
    }
}

fn told(rotated: &Rotated) -> String {
    let Rotated { key, resealed, .. } = rotated;
    format!("key {key} seals Secrets from now on; {resealed} were sealed anew\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told() {
        let rotated: Rotated = serde_json::from_str(r#"{"key": 2, "resealed": 7}"#).unwrap();
        assert_eq!(told(&rotated), "key 2 seals Secrets from now on; 7 were sealed anew\n");
        assert!(rotated.unreadable.is_empty());
    }
}
