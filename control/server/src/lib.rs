//! Floor 3b: the control plane's process. The API's transport, the raft driver over redb, the controllers' runner. It
//! decides nothing itself: requests become [`copepod_model::ApiRequest`]s, `copepod_registry` turns them into
//! transactions, the store commits them.

pub mod api;
pub mod auth;
mod bootstrap;
#[doc(hidden)]
pub mod fuzzing;
pub mod images;
pub mod keys;
pub mod listener;
pub mod members;
pub mod nodes;
pub mod peers;
pub mod pki;
mod rotate;
pub mod run;
mod server;
pub mod store;

use copepod_machine::{Ids, Time};

pub use copepod_controllers::BalancerPool;
/// The version in which this release writes what goes into the log.
pub use copepod_state::codec::WRITES as LOG_VERSION;
pub use server::{MEMBER_FILE, PeerConfig, Server, ServerConfig, StartError};

/// What time it is: the only clock of this crate's requests, read once per request.
pub fn now() -> Time {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Time(since.as_nanos() as u64)
}

/// The time of a clock that nobody sets, since this process first asked for it: how long something lasts is measured by it.
pub fn steady() -> Time {
    static BEGIN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    Time(BEGIN.get_or_init(std::time::Instant::now).elapsed().as_nanos() as u64)
}

/// Fills `buf` with random bytes from the system. Without them no key and no uid can be made, so failing is fatal.
pub fn random(buf: &mut [u8]) {
    use ring::rand::SecureRandom as _;
    if ring::rand::SystemRandom::new().fill(buf).is_err() {
        tracing::error!("the system gives no randomness");
        std::process::abort();
    }
}

/// A name that nobody has guessed nor used: 32 hexadecimal digits.
fn random_name() -> String {
    let mut bytes = [0; 16];
    random(&mut bytes);
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Ids from the system's randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemIds;

impl Ids for SystemIds {
    fn fill(&mut self, buf: &mut [u8]) {
        random(buf);
    }
}
