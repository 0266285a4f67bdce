//! `copepod token`: join tokens, as objects of the API.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use copepod_client::tls;
use copepod_model::join_token::{
    EXPIRATION, Expiration, JoinToken, NAMESPACE, SECRET_TYPE, Usage, entry, expiration, secret_name,
};
use copepod_model::request::{DeleteOptions, ListOptions};
use copepod_model::{Status, Time};
use serde_json::Value;

use super::Error;
use crate::connect::{Connect, refused};
use crate::say::say;

/// Tokens by which servers and agents join the cluster.
#[derive(Debug, Args)]
pub struct Token {
    #[command(flatten)]
    connect: Connect,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a token and print it; it cannot be shown again.
    Create {
        /// How long it is good, such as `24h` or `30m`; 0 is for ever.
        #[arg(long, default_value = "24h", value_name = "DURATION", value_parser = ttl)]
        ttl: Duration,
        /// Who may join by it. Who joins as a server gets every secret of the cluster.
        #[arg(long, value_enum, default_value = "agent")]
        usage: Kind,
        /// What it is for.
        #[arg(long, default_value = "", value_name = "TEXT")]
        description: String,
    },
    /// Show the tokens that there are, without their secrets.
    List,
    /// Delete a token: nobody joins by it any more. Who has joined stays.
    Delete {
        /// The part of the token before its first dot.
        id: String,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Agent,
    Server,
    Both,
}

impl Kind {
    fn usage(self) -> Usage {
        match self {
            Kind::Agent => Usage::Agent,
            Kind::Server => Usage::Server,
            Kind::Both => Usage::Both,
        }
    }
}

const SECRETS: &str = "secrets";
/// Longest description in bytes.
const DESCRIPTION: usize = 1024;

impl Token {
    /// Does what was said.
    pub async fn run(self) -> Result<(), Error> {
        let (client, _) = self.connect.client()?;
        match self.verb {
            Verb::Create { ttl, usage, description } => {
                if description.len() > DESCRIPTION {
                    return Err(format!("--description: may not be more than {DESCRIPTION} bytes").into());
                }
                let ca = String::from_utf8_lossy(&self.connect.config()?.ca_pem).into_owned();
                let hash = tls::public_key_hash(&ca).ok_or("the kubeconfig names no CA")?;
                let token = JoinToken::draw(copepod_server::random, &hash);
                let end = (!ttl.is_zero()).then(|| copepod_server::now() + ttl);
                let secret = token.to_secret(usage.usage(), end, &description);
                client.create(SECRETS, NAMESPACE, secret).await.map_err(refused)?;
                say(format!("{token}\n"))?;
            }
            Verb::List => {
                let options = ListOptions { field_selector: format!("type={SECRET_TYPE}"), ..ListOptions::default() };
                let list = client.list(SECRETS, NAMESPACE, options).await.map_err(refused)?;
                let rows: Vec<Value> = list.items.iter().map(|o| o.value()).collect();
                say(table(&rows, copepod_server::now()))?;
            }
            Verb::Delete { id } => {
                // Who has the whole token at hand may give it.
                let id = id.split('.').next().unwrap_or_default();
                let gone = || refused(Status::not_found("join tokens", id));
                let missing = |e: Status| if e.code == 404 { gone() } else { refused(e) };
                let object = client.get(SECRETS, NAMESPACE, &secret_name(id)).await.map_err(missing)?;
                if object.value()["type"] != SECRET_TYPE {
                    return Err(gone());
                }
                let options = DeleteOptions { uid: Some(object.meta.uid.to_string()), ..DeleteOptions::default() };
                client.delete(SECRETS, NAMESPACE, &secret_name(id), options).await.map_err(missing)?;
                say(format!("join token {id} deleted\n"))?;
            }
        }
        Ok(())
    }
}

fn table(secrets: &[Value], now: Time) -> String {
    let mut out = format!("{:<8}{:<8}{:<22}{:<10}{}\n", "ID", "USAGE", "EXPIRES", "LEFT", "DESCRIPTION");
    for secret in secrets {
        let text = |name: &str| entry(secret, name).unwrap_or_default();
        let end = expiration(secret["metadata"]["annotations"][EXPIRATION].as_str());
        let (expires, left) = match end {
            Expiration::Never => ("<never>".into(), "<forever>".into()),
            Expiration::At(at) => (at.rfc3339(), in_short(at.since(now))),
            Expiration::Unreadable => ("<invalid>".into(), "0s".into()),
        };
        // What people wrote must not move the cursor.
        let description: String = text("description").chars().filter(|c| !c.is_control()).collect();
        let line = format!("{:<8}{:<8}{expires:<22}{left:<10}{description}", text("token-id"), text("usage"));
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// The two greatest units.
fn in_short(d: Duration) -> String {
    let s = d.as_secs();
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m{}s", s / 60, s % 60),
        3600..86_400 => format!("{}h{}m", s / 3600, s % 3600 / 60),
        _ => format!("{}d{}h", s / 86_400, s % 86_400 / 3600),
    }
}

/// A duration of hours, minutes and seconds as Go writes it (`1h30m`), up to ten years; or 0.
fn ttl(text: &str) -> Result<Duration, String> {
    const LONGEST: u64 = 10 * 365 * 86_400;
    let bad = || "must be a duration such as 24h or 1h30m, at most ten years, or 0".to_string();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut total, mut number) = (0u64, String::new());
    for c in text.chars() {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let unit = match c {
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return Err(bad()),
        };
        let count: u64 = number.parse().map_err(|_| bad())?;
        total = count.checked_mul(unit).and_then(|n| total.checked_add(n)).ok_or_else(bad)?;
        number.clear();
    }
    // A rest without a unit, or nothing at all; and a token that ends as it is made helps nobody.
    if !number.is_empty() || !(1..=LONGEST).contains(&total) {
        return Err(bad());
    }
    Ok(Duration::from_secs(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_to_live() {
        for (text, secs) in [("0", 0), ("24h", 86_400), ("1h30m", 5400), ("90s", 90)] {
            assert_eq!(ttl(text), Ok(Duration::from_secs(secs)), "{text}");
        }
        for bad in ["", "24", "h", "1d", "-1h", "1.5h", "0s", "99999999999h", "18446744073709551615h", "87601h"] {
            assert!(ttl(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_list_shows_no_secret() {
        let mut next = 0u8;
        let fill = |bytes: &mut [u8]| {
            for b in bytes {
                next = next.wrapping_add(1);
                *b = next;
            }
        };
        let token = JoinToken::draw(fill, &"0".repeat(64));
        let now = Time::from_secs(1_800_000_000);
        let mut secrets = vec![token.to_secret(Usage::Agent, Some(now + Duration::from_secs(5400)), "rack\n7")];
        secrets.push(token.to_secret(Usage::Both, None, ""));
        let text = table(&secrets, now);
        assert_eq!(
            text,
            "ID      USAGE   EXPIRES               LEFT      DESCRIPTION\n\
             bcdefg  agent   2027-01-15T09:30:00Z  1h30m     rack7\n\
             bcdefg  both    <never>               <forever>\n"
        );
        assert!(!text.contains(&token.secret) && !text.contains(&copepod_model::join_token::hash(&token.secret)));
    }
}
