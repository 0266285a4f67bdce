//! Tables of what this cluster costs, with the peer or the limit measured in the same run where there is one.
//!
//! `cargo run --release -p bench [-- start | pods | api | raft | http | instantiate | serve | services | cold | density |
//! hostile | dns | ingress]…` after `cargo build --release --bin copepod`; `raft --quick` and `ingress --quick` only show that they
//! work. Every table gives CPU per operation beside times, because times are noisy on a shared machine.

mod api;
mod cluster;
mod cold;
mod density;
mod dns;
mod hostile;
mod http;
mod ingress;
mod instantiate;
mod load;
mod pods;
mod raft;
mod serve;
mod services;
mod start;

/// Like `copepod` itself: what runs in this process is what runs there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (flags, wanted): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|arg| arg.starts_with("--"));
    let quick = flags.iter().any(|f| f == "--quick");
    if wanted == ["ingress-upstream"] {
        return ingress::serve_upstream().await;
    }
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
    if want("raft") {
        raft::run(quick).await?;
    }
    if want("http") {
        http::run().await?;
    }
    if want("instantiate") {
        instantiate::run().await?;
    }
    if want("serve") {
        serve::run().await?;
    }
    if want("services") {
        services::run();
    }
    if want("cold") {
        cold::run().await?;
    }
    if want("density") {
        density::run().await?;
    }
    if want("hostile") {
        hostile::run().await?;
    }
    if want("dns") {
        dns::run().await?;
    }
    if want("ingress") {
        ingress::run(quick).await?;
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
