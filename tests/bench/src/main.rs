//! Tables of what this cluster costs, with the peer or the limit measured in the same run where there is one.
//!
//! `cargo run --release -p bench [-- [--quick] NAME…]` after `cargo build --release --bin copepod`; without a name it measures all.
//! Every table gives CPU per operation beside times, because times are noisy on a shared machine.

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
mod objects;
mod pods;
mod raft;
mod serve;
mod services;
mod start;
mod watches;

/// Like `copepod` itself: what runs in this process is what runs there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// What can be measured, in the order in which it is.
const NAMES: [&str; 15] = [
    "start",
    "pods",
    "api",
    "watches",
    "objects",
    "raft",
    "http",
    "instantiate",
    "serve",
    "services",
    "cold",
    "density",
    "hostile",
    "dns",
    "ingress",
];

/// The server that `ingress` starts for itself.
const UPSTREAM: &str = "ingress-upstream";

/// What is to be done.
#[derive(Debug, PartialEq)]
enum Asked {
    Help,
    Upstream,
    Measure { wanted: Vec<String>, quick: bool },
}

impl Asked {
    /// `Err` is what nobody knows.
    fn parse(args: impl IntoIterator<Item = String>) -> Result<Asked, String> {
        let (mut wanted, mut quick) = (Vec::new(), false);
        for arg in args {
            match arg.as_str() {
                "--help" | "-h" | "help" => return Ok(Asked::Help),
                "--quick" => quick = true,
                UPSTREAM => return Ok(Asked::Upstream),
                name if NAMES.contains(&name) => wanted.push(arg),
                _ => return Err(arg),
            }
        }
        Ok(Asked::Measure { wanted, quick })
    }
}

fn usage() -> String {
    format!(
        "usage: bench [--quick] [NAME…]\n\nMeasures what is named, or everything: {}.\n\
         --quick: api, watches, objects, raft and ingress only show that they work.",
        NAMES.join(", ")
    )
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (wanted, quick) = match Asked::parse(std::env::args().skip(1)) {
        Ok(Asked::Measure { wanted, quick }) => (wanted, quick),
        Ok(Asked::Upstream) => return ingress::serve_upstream().await,
        Ok(Asked::Help) => {
            println!("{}", usage());
            return Ok(());
        }
        Err(arg) => {
            eprintln!("unknown: {arg}\n{}", usage());
            std::process::exit(2);
        }
    };
    let want = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    if want("start") {
        start::run().await?;
    }
    if want("pods") {
        pods::run().await?;
    }
    if want("api") {
        api::run(quick).await?;
    }
    if want("watches") {
        watches::run(quick).await?;
    }
    if want("objects") {
        objects::run(quick).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_knows_measures_nothing() {
        let parse = |args: &[&str]| Asked::parse(args.iter().map(|a| a.to_string()));
        let measure = |wanted: &[&str], quick| {
            Ok(Asked::Measure { wanted: wanted.iter().map(|w| w.to_string()).collect(), quick })
        };
        assert_eq!(parse(&[]), measure(&[], false));
        assert_eq!(parse(&["raft", "--quick", "dns"]), measure(&["raft", "dns"], true));
        assert_eq!(parse(&["--help"]), Ok(Asked::Help));
        assert_eq!(parse(&[UPSTREAM]), Ok(Asked::Upstream));
        for unknown in ["--fast", "rafts", ""] {
            assert_eq!(parse(&["raft", unknown]), Err(unknown.into()));
        }
    }
}
