//! Who asks: client certificates and service account tokens, and whom they act as. Bootstrap tokens are
//! [`copepod_model::bootstrap_token`]'s.

pub mod impersonate;
pub mod token;

pub use copepod_client::certificate;
