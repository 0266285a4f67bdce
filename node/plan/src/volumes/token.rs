//! Tokens of the pod's service account: asked for when a volume shows one, and again before it expires.

use std::collections::BTreeMap;
use std::time::Duration;

use copepod_model::Time;
use k8s_openapi::api::core::v1::ServiceAccountTokenProjection;

use super::{BACKOFF, Problem, wake};
use crate::sync::PodPlan;

/// `expirationSeconds` where a source has none.
const DEFAULT_LIFE: i64 = 3600;
/// However long a token lives, a younger one is asked for after a day.
const OLDEST: Duration = Duration::from_secs(24 * 3600);

/// Which token.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenKey {
    /// Its audience; empty for the API's own.
    pub audience: String,
    /// How long it is to live, in seconds.
    pub seconds: i64,
}

/// A token that was issued.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The token itself.
    pub text: String,
    /// When it was asked for.
    pub issued: Time,
    /// When it is void.
    pub expires: Time,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("issued", &self.issued).field("expires", &self.expires).finish_non_exhaustive()
    }
}

impl Token {
    /// When the next one is asked for: at 80 % of its life.
    fn stale_at(&self) -> Time {
        self.issued + (self.expires.since(self.issued) * 4 / 5).min(OLDEST)
    }
}

/// The tokens of one pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tokens(BTreeMap<TokenKey, State>);

#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    token: Option<Token>,
    asked: bool,
    failures: u32,
    problem: Option<(String, Time)>,
}

impl Tokens {
    /// The token that a source shows; asks for one that is due.
    pub fn of(
        &mut self,
        source: &ServiceAccountTokenProjection,
        now: Time,
        out: &mut PodPlan,
    ) -> Result<String, Problem> {
        let key = TokenKey {
            audience: source.audience.clone().unwrap_or_default(),
            seconds: source.expiration_seconds.unwrap_or(DEFAULT_LIFE),
        };
        let state = self.0.entry(key.clone()).or_default();
        let due = state.token.as_ref().map_or(now, Token::stale_at);
        let due = state.problem.as_ref().map_or(due, |(_, retry)| due.max(*retry));
        if now >= due && !state.asked {
            state.asked = true;
            out.tokens.push(key);
        } else if !state.asked {
            wake(out, due);
        }
        match (&state.token, &state.problem) {
            (Some(token), _) if now < token.expires => Ok(token.text.clone()),
            (_, Some((why, _))) => Err(format!("failed to fetch token: {why}").into()),
            _ => Err(Problem::Wait),
        }
    }

    /// Takes in what the API has answered.
    pub fn answer(&mut self, key: &TokenKey, result: Result<Token, String>, now: Time) {
        let Some(state) = self.0.get_mut(key) else { return };
        state.asked = false;
        match result {
            Ok(token) => *state = State { token: Some(token), ..State::default() },
            Err(why) => {
                state.failures = state.failures.saturating_add(1);
                state.problem = Some((why, now + BACKOFF.delay(state.failures)));
            }
        }
    }
}
