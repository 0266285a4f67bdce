//! Who asks: client certificates and service account tokens, and whom they act as.

pub mod impersonate;
pub mod token;

pub use copepod_client::certificate;
