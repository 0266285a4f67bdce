//! Who asks: client certificates and service account tokens, and whom they act as.

pub mod certificate;
pub mod impersonate;
pub mod token;
