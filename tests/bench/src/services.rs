//! What one endpoint's change costs where there are few Services and where there are many: the node's route table is made
//! anew with it and takes the place of the old one in the network, as it does when the API tells of the change.

use std::sync::Arc;
use std::time::{Duration, Instant};

use copepod_model::facts::SERVICE_NAME_LABEL;
use copepod_model::object::{encode, with_revision};
use copepod_model::{Key, Object};
use copepod_node_network::{Network, NetworkConfig};
use copepod_node_routes::{Config, RouteTable};
use serde_json::json;

use crate::cluster::cpu_of;
use crate::percentile;

/// How many Services there are, few and many.
const SERVICES: [usize; 2] = [50, 5_000];
/// Endpoints of each.
const ENDPOINTS: usize = 3;
/// Changes that are measured.
const CHANGES: usize = 50_000;

/// Needs a runtime, and does not wait.
pub fn run() {
    println!("\n## One endpoint's change among many Services\n");
    println!("| Services | endpoints | all at once | one change, p50 | p99 | CPU |");
    println!("|---|---|---|---|---|---|");
    let [few, many] = SERVICES.map(measure);
    let ratio = |of: fn(&Cost) -> Duration| of(&many).as_secs_f64() / of(&few).as_secs_f64().max(f64::MIN_POSITIVE);
    println!(
        "\n{} Services beside {}: {:.2} times the p50, {:.2} times the CPU.",
        SERVICES[1],
        SERVICES[0],
        ratio(|c| c.p50),
        ratio(|c| c.cpu),
    );
}

/// Of one change.
struct Cost {
    p50: Duration,
    cpu: Duration,
}

fn measure(count: usize) -> Cost {
    let services: Vec<Object> = (0..count).map(service).collect();
    let slices: Vec<Object> = (0..count).map(|n| slice(n, true)).collect();
    let network = Network::new(NetworkConfig::default());
    let began = Instant::now();
    let config = Config { node: Some("n1".into()), ..Config::default() };
    let mut table = RouteTable::build(&services, &slices, &[], &[], config);
    network.set_routes(Arc::new(table.clone()));
    let all = began.elapsed();

    // Both forms of each slice, decoded once: what is measured is the tables.
    let changed: Vec<Object> = (0..count).map(|n| slice(n, false)).collect();
    let mut samples = Vec::with_capacity(CHANGES);
    let cpu = cpu_of(std::process::id());
    for n in 0..CHANGES {
        // All over the table, each to its other form.
        let at = n.wrapping_mul(7_919) % count;
        let slice = if (n / count).is_multiple_of(2) { &changed[at] } else { &slices[at] };
        let began = Instant::now();
        table = table.with_service("shop", services[at].name(), Some(&services[at]), [slice]);
        network.set_routes(Arc::new(table.clone()));
        samples.push(began.elapsed());
    }
    let cpu = cpu_of(std::process::id()).saturating_sub(cpu);
    samples.sort_unstable();
    let cost = Cost { p50: percentile(&samples, 0.5), cpu: cpu / CHANGES as u32 };
    println!(
        "| {count} | {} | {} | {} | {} | {} |",
        count * ENDPOINTS,
        crate::ms(all),
        us(cost.p50),
        us(percentile(&samples, 0.99)),
        us(cost.cpu),
    );
    cost
}

fn us(d: Duration) -> String {
    format!("{:.1} µs", d.as_secs_f64() * 1e6)
}

fn service(n: usize) -> Object {
    let ip = format!("10.96.{}.{}", 1 + n / 250, 1 + n % 250);
    object(
        "services",
        n,
        json!({"metadata": {"name": name(n)}, "spec": {"type": "NodePort", "clusterIP": ip,
        "ports": [{"name": "http", "port": 80, "nodePort": 20_000 + n}]}}),
    )
}

/// The endpoints of a Service; the last one is ready or not.
fn slice(n: usize, ready: bool) -> Object {
    let endpoint = |i: usize| {
        let at = n * ENDPOINTS + i;
        json!({"addresses": [format!("10.244.{}.{}", at / 250, 1 + at % 250)], "nodeName": "n1",
            "conditions": {"ready": ready || i > 0}})
    };
    let endpoints: Vec<_> = (0..ENDPOINTS).map(endpoint).collect();
    let metadata = json!({"name": name(n), "labels": {SERVICE_NAME_LABEL: name(n)}});
    let ports = json!([{"name": "http", "port": 8080}]);
    let slice = object("endpointslices", n, json!({"metadata": metadata, "ports": ports, "endpoints": endpoints}));
    // As a node has it that has looked at it before.
    let _ = slice.facts::<copepod_model::facts::EndpointSliceFacts>();
    slice
}

fn name(n: usize) -> String {
    format!("service-{n}")
}

fn object(resource: &str, n: usize, value: serde_json::Value) -> Object {
    Object::decode(Key::new(resource, "shop", name(n)), 1, with_revision(&encode(&value), 1))
}
