//! What was aimed at, and whether it was met.

use std::time::Duration;

use super::{Found, Rates, middle};
use crate::ms;

/// The number of clients at which puts are held against etcd's.
const CLIENTS: usize = 64;

/// An aim, what was found, and the verdict.
type Line = [String; 3];

/// Prints the table.
pub fn print(found: &Found) {
    println!("\n### Aims\n\n| aim | here | |\n|---|---|---|");
    for [aim, here, verdict] in lines(found) {
        println!("| {aim} | {here} | {verdict} |");
    }
}

fn lines(found: &Found) -> Vec<Line> {
    let mut out = Vec::new();
    for (members, all) in [("one member", &found.one), ("three members", &found.three)] {
        let at = all.iter().find(|r| r.clients == CLIENTS).copied().unwrap_or_default();
        let aim = format!("twice etcd's puts on the propose path, {CLIENTS} clients, {members}");
        out.push(puts(aim, at.propose, at, 2.0, ""));
        let aim = format!("level with bare etcd through the whole API, {CLIENTS} clients, {members}");
        let busy = format!(", {:.1} cores busy, the clients' included", at.cores);
        out.push(puts(aim, at.api, at, 1.0, &busy));
    }
    let (median, worst) = (middle(&found.failover), found.failover.iter().max().copied().unwrap_or_default());
    let here = (!found.failover.is_empty()).then(|| format!("{}, at worst {}", ms(median), ms(worst)));
    out.push(time("failover below one second", here, worst, Duration::from_secs(1)));
    let restart = found.restart.unwrap_or_default();
    out.push(time("restart below two seconds", found.restart.map(ms), restart, Duration::from_secs(2)));
    let one = found.one.iter().find(|r| r.clients == 1).and_then(|r| r.propose).zip(found.disk);
    let here = one.map(|(propose, disk)| format!("{:.2} of the disk's appends", propose / disk));
    out.push(["(one client on the propose path, bounded by the disk)".into(), or_none(here), String::new()]);
    out
}

fn puts(aim: String, ours: Option<f64>, at: Rates, least: f64, more: &str) -> Line {
    let Some((ours, etcd)) = ours.zip(at.etcd) else { return [aim, or_none(None), String::new()] };
    let here = format!("{ours:.0}/s beside {etcd:.0}/s, {:.2} ×{more}", ours / etcd);
    [aim, here, verdict(ours >= least * etcd)]
}

fn time(aim: &str, here: Option<String>, took: Duration, most: Duration) -> Line {
    let said = if here.is_some() { verdict(took < most) } else { String::new() };
    [aim.into(), or_none(here), said]
}

fn or_none(here: Option<String>) -> String {
    here.unwrap_or("not measured".into())
}

fn verdict(met: bool) -> String {
    if met { "met" } else { "missed" }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aims_are_held_against_what_was_found() {
        let slow = Rates { clients: 1, propose: Some(900.0), ..Rates::default() };
        let at = Rates { clients: 64, etcd: Some(5000.0), propose: Some(9999.0), api: Some(5000.0), cores: 1.96 };
        let found = Found {
            disk: Some(1000.0),
            one: vec![slow, at],
            three: Vec::new(),
            failover: [300, 1200, 200].map(Duration::from_millis).to_vec(),
            restart: Some(Duration::from_millis(1999)),
        };
        let told: Vec<String> =
            lines(&found).into_iter().map(|[_, here, verdict]| format!("{here}|{verdict}")).collect();
        assert_eq!(
            told,
            [
                "9999/s beside 5000/s, 2.00 ×|missed",
                "5000/s beside 5000/s, 1.00 ×, 2.0 cores busy, the clients' included|met",
                "not measured|",
                "not measured|",
                "300.00 ms, at worst 1200.00 ms|missed",
                "1999.00 ms|met",
                "0.90 of the disk's appends|",
            ]
        );
    }
}
