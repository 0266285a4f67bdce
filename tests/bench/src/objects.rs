//! 100,000 objects of a kind: how fast they come, what memory they take, what a single request and a page cost beside them and
//! beside a tenth of them, whole lists, and a restart.

use std::path::Path;
use std::time::{Duration, Instant};

use copepod_client::Client;
use http::Method;
use hyper::body::Bytes;

use crate::cluster::{cpu_of, rss_of};
use crate::load::{self, Load, Until, share};
use crate::raft::servers::{self, Servers, send};
use crate::{Error, ms};

/// How many ConfigMaps there are in the end.
const ORDINARY: usize = 100_000;
const QUICK: usize = 10_000;
/// They come in so many parts, of which the first and the last are told.
const PARTS: usize = 10;
/// How many clients create them, over how many connections.
const FILLERS: (usize, usize) = (64, 16);
/// Objects of a page.
const PAGE: usize = 500;
/// One in so many objects has a certain label.
const GROUPS: usize = 1000;
/// How often a list is asked for.
const LISTS: usize = 5;
/// Where they are.
const ALL: &str = "/api/v1/namespaces/default/configmaps";

/// What one client does, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Single {
    Get,
    Create,
    Update,
    Delete,
    Page,
    Name,
}

impl Single {
    /// In the order in which they are measured: what is created is updated and deleted again.
    const ALL: [(Single, &'static str, usize); 6] = [
        (Single::Get, "get", 1000),
        (Single::Create, "create", 300),
        (Single::Update, "update", 300),
        (Single::Delete, "delete", 300),
        (Single::Page, "the first page of 500", 50),
        (Single::Name, "list with a fieldSelector of one name", 300),
    ];
}

/// Prints the tables.
pub async fn run(quick: bool) -> Result<(), Error> {
    let dir = std::env::temp_dir().join(format!("copepod-bench-objects-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    // With the server's output, where something went wrong.
    let done = all(&dir, if quick { QUICK } else { ORDINARY }).await;
    done.map_err(|e| format!("{e}; what is left is in {}", dir.display()))?;
    let _ = std::fs::remove_dir_all(&dir);
    Ok(())
}

async fn all(dir: &Path, objects: usize) -> Result<(), Error> {
    let mut server = Servers::up(dir).await?;
    let (pid, endpoints) = (server.pids()[0], server.endpoints().await?);
    let clients = servers::connections(&endpoints, FILLERS.1).await?;
    let part = objects / PARTS;
    println!("\n## {objects} ConfigMaps of a namespace, {} clients create them\n", FILLERS.0);
    println!(
        "| there are already | per second | p50 | p99 | server CPU/op | client CPU/op | cores busy | RSS afterwards |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let (empty, mut took, mut few) = (rss_of(pid), Duration::ZERO, Vec::new());
    for from in (0..PARTS).map(|i| i * part) {
        let fill = share(&clients, FILLERS.0, |client| Fill { client, from });
        let load = load::run(fill, Until::Count(part), &[pid]).await?;
        took += load.elapsed;
        if from == 0 || from == objects - part {
            println!("| {from} | {} | {} MiB |", load.columns(), rss_of(pid) >> 20);
        }
        if from == 0 {
            few = singles(&clients[0], part, pid).await?;
        }
    }
    let full = rss_of(pid);
    println!(
        "\nAll of them within {:.1} s. RSS without any {} MiB, with all {} MiB: {:.1} KiB for each.",
        took.as_secs_f64(),
        empty >> 20,
        full >> 20,
        full.saturating_sub(empty) as f64 / objects as f64 / 1024.0
    );

    println!("\nOne client, beside {part} and beside {objects}:\n");
    println!("| operation | p50, few | p50, all | p99, few | p99, all | server CPU, few | all |");
    println!("|---|---|---|---|---|---|---|");
    let many = singles(&clients[0], objects, pid).await?;
    for (((_, name, _), few), many) in Single::ALL.iter().zip(&few).zip(&many) {
        println!("{}", beside(name, few, many));
    }

    println!(
        "\nLists, the median of {LISTS}:\n\n| list | objects | requests | time | MiB | server CPU | RSS afterwards |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (name, query, of) in [
        ("everything at once", "", objects),
        ("pages of 500", "limit=500", objects),
        ("with a labelSelector of one in 1,000", "labelSelector=group%3D7", objects / GROUPS),
        ("the same in pages of 500", "labelSelector=group%3D7&limit=500", objects / GROUPS),
        ("with a fieldSelector of one name", "fieldSelector=metadata.name%3Dk-7", 1),
    ] {
        list(&clients[0], name, query, of, pid).await?;
    }
    restart(&mut server, objects).await
}

/// Each of [`Single::ALL`] by one client, where there are this many objects.
async fn singles(client: &Client, objects: usize, server: u32) -> Result<Vec<Load>, Error> {
    let mut all = Vec::new();
    for (does, _, count) in Single::ALL {
        let one = One { client: client.clone(), does, objects };
        all.push(load::run(vec![one], Until::Count(count), &[server]).await?);
    }
    Ok(all)
}

/// A line of what an operation takes where there are few objects, and where there are many.
fn beside(name: &str, few: &Load, many: &Load) -> String {
    let times = [0.5, 0.99].map(|share| format!("{} | {}", ms(few.percentile(share)), ms(many.percentile(share))));
    format!("| {name} | {} | {} | {} |", times.join(" | "), few.each(few.servers), many.each(many.servers))
}

/// Creates the objects from a number on.
struct Fill {
    client: Client,
    from: usize,
}

impl load::Client for Fill {
    async fn once(&mut self, n: usize) -> Result<(), Error> {
        let n = self.from + n;
        ask(&self.client, Method::POST, ALL, config_map(&format!("k-{n}"), n % GROUPS, "first")).await.map(drop)
    }
}

/// A client that does one thing after the other beside this many objects.
struct One {
    client: Client,
    does: Single,
    objects: usize,
}

impl load::Client for One {
    async fn once(&mut self, n: usize) -> Result<(), Error> {
        // A prime, so that neighbours in time are none in the order of names.
        let one = n * 7919 % self.objects;
        // Between the others in that order, and in a group of its own.
        let (extra, group) = (format!("k-{one}-extra-{n}"), GROUPS);
        let (method, path, body) = match self.does {
            Single::Get => (Method::GET, format!("{ALL}/k-{one}"), Bytes::new()),
            Single::Create => (Method::POST, ALL.to_string(), config_map(&extra, group, "first")),
            Single::Update => (Method::PUT, format!("{ALL}/{extra}"), config_map(&extra, group, "second")),
            Single::Delete => (Method::DELETE, format!("{ALL}/{extra}"), Bytes::new()),
            Single::Page => (Method::GET, format!("{ALL}?limit={PAGE}"), Bytes::new()),
            Single::Name => (Method::GET, format!("{ALL}?fieldSelector=metadata.name%3Dk-{one}"), Bytes::new()),
        };
        ask(&self.client, method, &path, body).await.map(drop)
    }
}

/// The body of an answer that is no error.
async fn ask(client: &Client, method: Method, path: &str, body: Bytes) -> Result<Bytes, Error> {
    let (code, answer) = send(client, method, path, body).await?;
    if !(200..300).contains(&code) {
        return Err(format!("{path} was answered {code}: {}", String::from_utf8_lossy(&answer)).into());
    }
    Ok(answer)
}

fn config_map(name: &str, group: usize, value: &str) -> Bytes {
    let meta = format!(r#"{{"name":"{name}","labels":{{"group":"{group}"}}}}"#);
    format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{meta},"data":{{"value":"{value}"}}}}"#).into()
}

/// Lists as often as [`LISTS`] says, and prints the line.
async fn list(client: &Client, name: &str, query: &str, objects: usize, server: u32) -> Result<(), Error> {
    let (mut took, mut seen, cpu) = (Vec::new(), Seen::default(), cpu_of(server));
    for _ in 0..LISTS {
        let begun = Instant::now();
        seen = every_page(client, query).await?;
        took.push(begun.elapsed());
        if seen.objects != objects {
            return Err(format!("{name}: {} objects instead of {objects}", seen.objects).into());
        }
    }
    let cpu = cpu_of(server).saturating_sub(cpu) / LISTS as u32;
    took.sort_unstable();
    println!(
        "| {name} | {} | {} | {} | {:.2} | {} | {} MiB |",
        seen.objects,
        seen.requests,
        ms(crate::percentile(&took, 0.5)),
        seen.bytes as f64 / f64::from(1 << 20),
        ms(cpu),
        rss_of(server) >> 20
    );
    Ok(())
}

/// What came of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    requests: usize,
    objects: usize,
    bytes: usize,
}

/// Asks for a list and for the pages that follow.
async fn every_page(client: &Client, query: &str) -> Result<Seen, Error> {
    let mut seen = Seen::default();
    let mut next = String::new();
    loop {
        let answer = ask(client, Method::GET, &format!("{ALL}?{query}{next}"), Bytes::new()).await?;
        let text = std::str::from_utf8(&answer)?;
        seen.requests += 1;
        seen.objects += objects_of(text);
        seen.bytes += text.len();
        match continue_of(text) {
            Some(token) => next = format!("&continue={token}"),
            None => return Ok(seen),
        }
    }
}

/// How many of our objects a list has. To read them all would take the client longer than the server.
fn objects_of(list: &str) -> usize {
    list.matches(r#""name":"k-"#).count()
}

/// The token of a list that goes on. It has no character that a query would have to escape.
fn continue_of(list: &str) -> Option<&str> {
    // The list's own metadata comes before its objects.
    let meta = list.split(r#""items":["#).next()?;
    let (_, token) = meta.split_once(r#""continue":""#)?;
    token.split('"').next().filter(|token| !token.is_empty())
}

/// Kills the server, starts it again, and prints how long it took.
async fn restart(server: &mut Servers, objects: usize) -> Result<(), Error> {
    server.kill(0)?;
    let begun = server.again(0).await?;
    server.ready().await?;
    let ready = begun.elapsed();
    let pid = server.pids()[0];
    let client = servers::connect(server.config(0))?;
    ask(&client, Method::GET, &format!("{ALL}/k-{}", objects - 1), Bytes::new()).await?;
    println!(
        "\nAfter SIGKILL ready within {}, the first read answered within {}, {} of CPU until then, RSS {} MiB.",
        ms(ready),
        ms(begun.elapsed()),
        ms(cpu_of(pid)),
        rss_of(pid) >> 20
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_list_says_what_it_has_and_whether_it_goes_on() {
        let page = r#"{"kind":"ConfigMapList","metadata":{"resourceVersion":"9","continue":"eyJ2-_"},"items":[
            {"metadata":{"name":"k-1","uid":"a"},"data":{"continue":"x"}},{"metadata":{"name":"kube-root-ca.crt"}},
            {"metadata":{"name":"k-2"}}]}"#;
        assert_eq!((objects_of(page), continue_of(page)), (2, Some("eyJ2-_")));
        let last = page.replace(r#","continue":"eyJ2-_""#, "");
        assert_eq!((objects_of(&last), continue_of(&last)), (2, None));
        let empty = r#"{"metadata":{"continue":""},"items":[]}"#;
        assert_eq!((objects_of(empty), continue_of(empty)), (0, None));
    }

    #[test]
    fn objects_are_json_and_no_two_extras_are_the_same() {
        let map: serde_json::Value = serde_json::from_slice(&config_map("k-1", 7, "first")).unwrap();
        assert_eq!((&map["metadata"]["labels"]["group"], &map["data"]["value"]), (&"7".into(), &"first".into()));
        for objects in [QUICK / PARTS, QUICK, ORDINARY / PARTS, ORDINARY] {
            assert_eq!((0..objects).map(|n| n * 7919 % objects).collect::<BTreeSet<_>>().len(), objects);
        }
    }

    #[test]
    fn few_and_many_stand_beside_each_other() {
        let load = |ms: u64| Load {
            elapsed: Duration::from_secs(1),
            sorted: vec![Duration::from_millis(ms); 10],
            servers: Duration::from_millis(ms),
            own: Duration::ZERO,
        };
        assert_eq!(
            beside("get", &load(1), &load(2)),
            "| get | 1.00 ms | 2.00 ms | 1.00 ms | 2.00 ms | 100 µs | 200 µs |"
        );
    }
}
