//! Tables of what this cluster costs, with the peer or the limit measured in the same run where there is one.
//!
//! `cargo run --release -p bench [-- start | pods | api | http]…` after `cargo build --release --bin copepod`. Every table gives CPU per
//! operation beside times, because times are noisy on a shared machine.

mod api;
mod cluster;
mod http;
mod pods;
mod start;

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let want = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    if want("start") {
        start::run().await?;
    }
    if want("pods") {
        pods::run().await?;
    }
    if want("api") {
        api::run().await?;
    }
    if want("http") {
        http::run().await?;
    }
    Ok(())
}

/// The value below which `share` of the sorted samples lie.
fn percentile(sorted: &[std::time::Duration], share: f64) -> std::time::Duration {
    let at = ((sorted.len() as f64 - 1.0) * share).round() as usize;
    sorted.get(at).copied().unwrap_or_default()
}

fn ms(d: std::time::Duration) -> String {
    format!("{:.2} ms", d.as_secs_f64() * 1e3)
}
