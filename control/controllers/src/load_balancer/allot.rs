//! Which Service gets which address of a pool. What a Service has is written in its status, and that is the record: nobody
//! gets an address that stands in another one's, and when the Service goes its address is free.

use std::collections::BTreeMap;
use std::net::IpAddr;

use copepod_machine::{EventType, Plan, View};
use copepod_model::facts::Facts;
use copepod_model::request::PatchType;
use copepod_model::{Key, Object, Time};
use serde_json::{Value, json};

use super::pool::BalancerPool;
use super::{ingress, list_of};
use crate::support::services::{self, SERVICES};
use crate::support::{BURST, event, patch, text};

/// What matters of a Service.
pub(super) struct Balanced {
    /// It is of type LoadBalancer, and ours to look after.
    wants: bool,
    /// Its status is ours to write.
    ours: bool,
    /// `status.loadBalancer.ingress`.
    list: Vec<Value>,
    /// The addresses in it.
    has: Vec<IpAddr>,
    /// `spec.loadBalancerIP`, if it names any: none inside if that is no address.
    asks: Option<Option<IpAddr>>,
    /// For each of its families whether that is IPv4.
    families: Vec<bool>,
}

impl Facts for Balanced {
    fn of(service: &Object) -> Balanced {
        let value = service.value();
        let spec = &value["spec"];
        let list = ingress(&value).to_vec();
        let ours = text(&spec["loadBalancerClass"]).is_empty() && service.meta.deletion_timestamp.is_none();
        let asked = Some(text(&spec["loadBalancerIP"])).filter(|ip| !ip.is_empty());
        Balanced {
            wants: ours && spec["type"] == "LoadBalancer",
            ours,
            has: list.iter().filter_map(|i| text(&i["ip"]).parse().ok()).collect(),
            list,
            asks: asked.map(|ip| ip.parse().ok()),
            families: services::families(&value).into_iter().map(|f| f == "IPv4").collect(),
        }
    }
}

/// Who comes first: those that ask for an address of their own, then the older ones.
type Rank = (bool, Option<Time>, Key);

/// Makes every Service's status list what it should of the pool.
pub(super) fn plan(view: &dyn View, pool: &BalancerPool) -> Plan {
    let mut services = BTreeMap::new();
    for service in view.list(SERVICES, None) {
        let facts = service.facts::<Balanced>();
        if facts.wants || !facts.has.is_empty() {
            let rank: Rank = (facts.asks.is_none(), service.meta.created(), service.key.clone());
            services.insert(rank, (service, facts));
        }
    }
    // Who has what. Of several that say so the first one does; the others will be given another one.
    let mut holders: BTreeMap<IpAddr, &Rank> = BTreeMap::new();
    for (rank, (_, facts)) in &services {
        for ip in facts.has.iter().filter(|ip| pool.contains(**ip)) {
            let holder = holders.entry(*ip).or_insert(rank);
            if (rank.1, &rank.2) < (holder.1, &holder.2) {
                *holder = rank;
            }
        }
    }
    let (mut v4, mut v6) = (pool.addresses(true), pool.addresses(false));
    let mut plan = Plan::none();
    for (rank, (service, facts)) in &services {
        // The rest when these are written.
        if plan.0.len() >= BURST {
            break;
        }
        let mut wanted = Vec::new();
        for &ipv4 in facts.families.iter().filter(|_| facts.wants) {
            let may = |ip: &IpAddr, holders: &BTreeMap<IpAddr, &Rank>| {
                ip.is_ipv4() == ipv4 && pool.contains(*ip) && holders.get(ip).is_none_or(|h| *h == rank)
            };
            let found = match facts.asks {
                Some(asked) => asked.filter(|ip| may(ip, &holders)),
                None => facts.has.iter().copied().find(|ip| may(ip, &holders)).or_else(|| {
                    let free = |ip: &IpAddr| !holders.contains_key(ip);
                    if ipv4 { v4.find(free) } else { v6.find(free) }
                }),
            };
            if let Some(ip) = found {
                holders.insert(ip, rank);
                wanted.push(ip);
            }
        }
        let list: Vec<Value> = wanted.iter().map(|ip| json!({"ip": ip.to_string(), "ipMode": "VIP"})).collect();
        if facts.ours && facts.list != list {
            let why = if list.is_empty() { "no address is its own" } else { "its addresses of the pool" };
            plan.push(patch(service, "status", PatchType::Merge, list_of(list)), why);
        }
        if facts.wants && wanted.is_empty() {
            let tell = event(("v1", "Service"), service, EventType::Warning, "AllocationFailed", refusal(facts, pool));
            plan.push(tell, "nothing of the pool can be given");
        }
    }
    plan
}

/// Why a Service gets nothing.
fn refusal(facts: &Balanced, pool: &BalancerPool) -> String {
    match facts.asks {
        Some(Some(ip)) if !pool.contains(ip) => format!("{ip} is not in the pool of load balancers' addresses"),
        Some(Some(ip)) if !facts.families.contains(&ip.is_ipv4()) => {
            format!("{ip} is of none of the Service's IP families")
        }
        Some(Some(ip)) => format!("{ip} is another Service's"),
        Some(None) => "spec.loadBalancerIP is no IP address".into(),
        None => "no address of the pool of load balancers' addresses is free".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use copepod_machine::{Action, Step};

    use crate::support::sim::{TestView, config};
    use crate::{Config, Controller as _};

    fn settings(pool: &str) -> Config {
        Config { balancer_pool: pool.parse().unwrap(), ..config() }
    }

    fn service(name: &str, created: u32, change: impl FnOnce(&mut Value)) -> Value {
        let mut v = json!({"metadata": {"name": name, "namespace": "a", "uid": name,
                "creationTimestamp": format!("2026-01-01T00:00:{created:02}Z")},
            "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.7", "ipFamilies": ["IPv4"]},
            "status": {"loadBalancer": {}}});
        change(&mut v);
        v
    }

    /// Reconciles until nothing is written; what each Service has, and the events of the last time.
    fn settle(view: &mut TestView, pool: &str) -> (String, String) {
        let controller = super::super::new(&settings(pool));
        for _ in 0..4 {
            let all = controller.all(view);
            assert_eq!(all, [Key::new(SERVICES, "", "")]);
            let plan = controller.reconcile(view, &all[0], Time::default());
            let told = |s: &Step| match &s.action {
                Action::Event { message, .. } => Some(message.clone()),
                _ => None,
            };
            let events: Vec<String> = plan.0.iter().filter_map(told).collect();
            if events.len() == plan.0.len() {
                let has = |o: std::sync::Arc<Object>| {
                    let ips: Vec<_> = ingress(&o.value()).iter().map(|i| text(&i["ip"]).to_string()).collect();
                    format!("{}={}", o.name(), ips.join("+"))
                };
                return (view.list(SERVICES, None).map(has).collect::<Vec<_>>().join(" "), events.join("; "));
            }
            assert!(view.execute(&plan));
        }
        panic!("it does not go quiet")
    }

    fn key(name: &str) -> Key {
        Key::new(SERVICES, "a", name)
    }

    #[test]
    fn each_service_gets_an_address_of_its_own_and_keeps_it() {
        let (mut view, pool) = (TestView::default(), "192.0.2.1-192.0.2.3");
        for (name, created) in [("x", 2), ("y", 1), ("z", 3)] {
            view.put(SERVICES, service(name, created, |_| {}));
        }
        view.put(SERVICES, service("plain", 0, |s| s["spec"]["type"] = "NodePort".into()));
        let nothing = String::new();
        assert_eq!(
            settle(&mut view, pool),
            ("plain= x=192.0.2.2 y=192.0.2.1 z=192.0.2.3".into(), nothing.clone()),
            "the oldest one first"
        );
        view.put(SERVICES, service("w", 0, |_| {}));
        let (has, told) = settle(&mut view, pool);
        assert_eq!(has, "plain= w= x=192.0.2.2 y=192.0.2.1 z=192.0.2.3", "nobody loses what it has");
        assert_eq!(told, "no address of the pool of load balancers' addresses is free");
        view.remove(&key("x"));
        assert_eq!(settle(&mut view, pool).0, "plain= w=192.0.2.2 y=192.0.2.1 z=192.0.2.3");
        // What is of another type gives its address back, and what is going keeps it to the end.
        view.put(SERVICES, service("v", 9, |_| {}));
        view.edit(&key("y"), |s| s["metadata"]["finalizers"] = json!(["example.com/wait"]));
        view.edit(&key("y"), |s| s["metadata"]["deletionTimestamp"] = "2026-01-02T00:00:00Z".into());
        assert!(settle(&mut view, pool).0.contains("v= "), "it is not given twice");
        view.edit(&key("z"), |s| s["spec"]["type"] = "ClusterIP".into());
        assert_eq!(settle(&mut view, pool).0, "plain= v=192.0.2.3 w=192.0.2.2 y=192.0.2.1 z=");
    }

    #[test]
    fn an_address_may_be_asked_for() {
        let (mut view, pool) = (TestView::default(), "192.0.2.1-192.0.2.2,2001:db8::1-2001:db8::9");
        let ask = |ip: &str| {
            let ip = ip.to_string();
            move |s: &mut Value| s["spec"]["loadBalancerIP"] = ip.into()
        };
        view.put(SERVICES, service("old", 1, |_| {}));
        view.put(SERVICES, service("asks", 2, ask("192.0.2.1")));
        assert_eq!(settle(&mut view, pool).0, "asks=192.0.2.1 old=192.0.2.2");
        for (ip, why) in [
            ("192.0.2.1", "192.0.2.1 is another Service's"),
            ("192.0.2.7", "192.0.2.7 is not in the pool of load balancers' addresses"),
            ("2001:db8::1", "2001:db8::1 is of none of the Service's IP families"),
            ("here", "spec.loadBalancerIP is no IP address"),
        ] {
            view.put(SERVICES, service("late", 3, ask(ip)));
            assert_eq!(settle(&mut view, pool), ("asks=192.0.2.1 late= old=192.0.2.2".into(), why.into()));
        }
        view.put(SERVICES, service("late", 3, |s| s["spec"]["ipFamilies"] = json!(["IPv6", "IPv4"])));
        assert_eq!(settle(&mut view, pool).0, "asks=192.0.2.1 late=2001:db8::1 old=192.0.2.2");
        view.remove(&key("asks"));
        assert_eq!(settle(&mut view, pool).0, "late=2001:db8::1+192.0.2.1 old=192.0.2.2", "one of each family");
    }

    #[test]
    fn what_stands_in_two_statuses_is_the_older_ones() {
        let (mut view, pool) = (TestView::default(), "192.0.2.1-192.0.2.3");
        let said = |ip: &str| json!({"loadBalancer": {"ingress": [{"ip": ip, "ipMode": "VIP"}]}});
        view.put(SERVICES, service("a", 2, |s| s["status"] = said("192.0.2.1")));
        view.put(SERVICES, service("b", 1, |s| s["status"] = said("192.0.2.1")));
        view.put(SERVICES, service("c", 3, |s| s["status"] = said("198.51.100.9")));
        view.put(
            SERVICES,
            service("other", 9, |s| {
                s["spec"]["loadBalancerClass"] = "example.com/lb".into();
                s["status"] = said("192.0.2.2");
            }),
        );
        assert_eq!(settle(&mut view, pool).0, "a=192.0.2.3 b=192.0.2.1 c= other=192.0.2.2");
    }
}
