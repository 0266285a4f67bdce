//! Who asks: client certificates and service account tokens.

pub mod certificate;
pub mod token;
