//! Join tokens, as an administrator hands them on and as a request bears them.

use copepod_model::Time;
use copepod_model::join_token::{JoinToken, Role, Usage, check, parse_bearer};

use crate::{Outcome, Room, Seed, Target};

pub(super) const TARGET: Target = Target {
    name: "join_token",
    run,
    seeds,
    words: &[".", " ", "\n", "abcdef", "0123456789abcdef", "é"],
    room: Room { base: 256 << 10, each: 64 },
};

fn run(input: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(input);
    let bearer = parse_bearer(&text).map(|(id, secret)| (id.to_string(), secret.to_string()));
    let token = match text.parse::<JoinToken>() {
        Ok(token) => token,
        Err(e) => return Outcome::refused(e).and(bearer.is_some()),
    };
    assert_eq!(token.to_string().parse::<JoinToken>().as_ref(), Ok(&token), "it is not what it was");
    let (id, secret) = (token.id.clone(), token.secret.clone());
    assert_eq!(parse_bearer(&token.bearer()), Some((&*id, &*secret)));
    assert!(!format!("{token:?}").contains(&secret), "its secret is shown");
    let (now, later) = (Time::from_secs(5), Some(Time::from_secs(9)));
    let object = token.to_secret(Usage::Agent, later, "");
    assert_eq!(check(&object, &secret, Role::Agent, now), Ok(()));
    assert!(check(&object, &secret[1..], Role::Agent, now).is_err());
    Outcome::taken(text.len())
}

fn seeds() -> Vec<Seed> {
    let hash = "0a".repeat(32);
    vec![
        ("token".into(), format!("abcdef.0123456789abcdef.{hash}").into()),
        ("line".into(), format!(" zzzzzz.aaaaaaaaaaaaaaaa.{hash}\n").into()),
        ("bearer".into(), b"abcdef.0123456789abcdef".to_vec()),
    ]
}
