use std::collections::BTreeMap;

use copepod_machine::View;
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// What `apply` should do, written the slow and obvious way: everything on a copy that is thrown away on failure.
#[derive(Clone, Default, Debug, PartialEq)]
struct Naive {
    revision: u64,
    objects: BTreeMap<Key, (u64, String)>,
}

impl Naive {
    fn apply(&mut self, term: u64, txn: &Txn) -> Outcome {
        if txn.fence.is_some() && txn.fence != Some(term) {
            return Outcome::Fenced;
        }
        for (i, r) in txn.require.iter().enumerate() {
            let holds = match r {
                Require::Absent(k) => !self.objects.contains_key(k),
                Require::At(k, at) => self.objects.get(k).is_some_and(|(r, _)| r == at),
                Require::Exists(k) => self.objects.contains_key(k),
                Require::PrefixEmpty { resource, namespace } => !self
                    .objects
                    .keys()
                    .any(|k| *k.resource == **resource && namespace.as_ref().is_none_or(|ns| *k.namespace == **ns)),
            };
            if !holds {
                return Outcome::Failed(i);
            }
        }
        let mut next = self.clone();
        let mut revisions = Vec::new();
        for (i, op) in txn.ops.iter().enumerate() {
            match op {
                Op::Put { key, body, revised } => {
                    next.revision += 1;
                    let text = String::from_utf8(body.to_vec()).unwrap();
                    let text = match text.strip_prefix("{\"metadata\":{\"resourceVersion\":\"") {
                        Some(rest) if *revised => {
                            format!("{{\"metadata\":{{\"resourceVersion\":\"{}{rest}", next.revision)
                        }
                        _ => text,
                    };
                    next.objects.insert(key.clone(), (next.revision, text));
                }
                Op::Delete { key } => {
                    if next.objects.remove(key).is_some() {
                        next.revision += 1;
                    }
                }
                Op::CheckedAdd { key, delta, max } => {
                    let now = next.objects.get(key).map_or(Ok(0i64), |(_, text)| text.parse());
                    let sum = now.ok().map(i128::from).map(|n| n + i128::from(*delta));
                    match sum {
                        Some(sum) if sum >= 0 && sum <= i128::from(*max) => {
                            if *delta != 0 {
                                next.revision += 1;
                                next.objects.insert(key.clone(), (next.revision, sum.to_string()));
                            }
                        }
                        _ => return Outcome::OutOfRange(i),
                    }
                }
            }
            revisions.push(next.revision);
        }
        *self = next;
        Outcome::Applied(revisions)
    }
}

fn key() -> impl Strategy<Value = Key> {
    // Names that are prefixes of each other, and few of them, so that preconditions sometimes hold.
    let resource = prop_oneof![Just("pods"), Just("pod"), Just("services")];
    let namespace = prop_oneof![Just(""), Just("a"), Just("ab"), Just("b")];
    let name = prop_oneof![Just("x"), Just("xy"), Just("y")];
    (resource, namespace, name).prop_map(|(r, ns, n)| Key::new(r, ns, n))
}

fn body(node: Option<&str>, n: u8) -> Bytes {
    let mut v = json!({"kind": "Pod", "metadata": {"name": "x", "labels": {"n": n.to_string()}}, "spec": {}});
    if let Some(node) = node {
        v["spec"]["nodeName"] = node.into();
    }
    object::encode(&v)
}

fn op() -> impl Strategy<Value = Op> {
    let node = prop_oneof![Just(None), Just(Some("n1")), Just(Some("n2"))];
    prop_oneof![
        4 => (key(), node, any::<u8>())
            .prop_map(|(key, node, n)| Op::Put { key, body: body(node, n), revised: true }),
        1 => (key(), 0i64..20).prop_map(|(key, n)| Op::Put { key, body: n.to_string().into(), revised: false }),
        2 => key().prop_map(|key| Op::Delete { key }),
        3 => (key(), -5i64..6, 0i64..20).prop_map(|(key, delta, max)| Op::CheckedAdd { key, delta, max }),
    ]
}

fn txn() -> impl Strategy<Value = Txn> {
    let require = prop_oneof![
        key().prop_map(Require::Absent),
        (key(), 0u64..30).prop_map(|(k, r)| Require::At(k, r)),
        key().prop_map(Require::Exists),
        (key(), any::<bool>()).prop_map(|(k, all)| Require::PrefixEmpty {
            resource: k.resource.to_string(),
            namespace: (!all).then(|| k.namespace.to_string()),
        }),
    ];
    (
        prop_oneof![3 => Just(None), 1 => (1u64..3).prop_map(Some)],
        proptest::collection::vec(require, 0..2),
        proptest::collection::vec(op(), 0..5),
    )
        .prop_map(|(fence, require, ops)| Txn { fence, require, ops })
}

/// The contents as the naive model has them.
fn contents(t: &Tables) -> Naive {
    let text = |o: &Object| String::from_utf8(o.body.to_vec()).unwrap();
    let objects = t.all().map(|o| (o.key.clone(), (o.revision, text(o)))).collect();
    Naive { revision: t.revision(), objects }
}

/// Which objects, not which contents.
fn ids<'a>(objects: impl Iterator<Item = &'a Arc<Object>>) -> Vec<*const Object> {
    objects.map(Arc::as_ptr).collect()
}

/// Every way to read gives the same objects.
fn check_reads(t: &Tables) -> Result<(), TestCaseError> {
    let all: Vec<&Arc<Object>> = t.all().collect();
    for resource in ["pods", "pod", "services"] {
        let of: Vec<&Arc<Object>> = all.iter().copied().filter(|o| *o.key.resource == *resource).collect();
        prop_assert_eq!(ids(t.scan(resource, None)), ids(of.iter().copied()));
        prop_assert_eq!(t.count(resource), of.len());
        prop_assert_eq!(t.bytes(resource), of.iter().map(|o| o.body.len()).sum::<usize>());
        for ns in ["", "a", "ab", "b", "c"] {
            let within: Vec<&Arc<Object>> = of.iter().copied().filter(|o| *o.key.namespace == *ns).collect();
            prop_assert_eq!(ids(t.scan(resource, Some(ns))), ids(within.iter().copied()));
            let listed: Vec<Arc<Object>> = t.list(resource, Some(ns)).collect();
            prop_assert_eq!(ids(listed.iter()), ids(within.iter().copied()));
            prop_assert_eq!(t.is_none(resource, Some(ns)), within.is_empty());
            prop_assert_eq!(View::count(t, resource, Some(ns)), within.len());
            for place in [("", "x"), ("a", "x"), ("a", "xx"), ("ab", "zz"), ("b", "")] {
                let behind = |o: &&&Arc<Object>| (&*o.key.namespace, &*o.key.name) > place;
                prop_assert_eq!(
                    ids(t.scan_after(resource, Some(ns), place)),
                    ids(within.iter().filter(behind).copied())
                );
                prop_assert_eq!(ids(t.scan_after(resource, None, place)), ids(of.iter().filter(behind).copied()));
            }
        }
        for node in ["n", "n1", "n2", "n3"] {
            let on = of.iter().copied().filter(|o| o.meta.node_name.as_deref() == Some(node));
            let on: Vec<&Arc<Object>> = on.collect();
            prop_assert_eq!(ids(t.on_node(resource, node, None)), ids(on.iter().copied()));
            for ns in ["", "a", "ab", "b", "c"] {
                let within = on.iter().copied().filter(|o| *o.key.namespace == *ns);
                let listed: Vec<Arc<Object>> = View::on_node(t, resource, node, Some(ns)).collect();
                prop_assert_eq!(ids(listed.iter()), ids(within));
            }
        }
    }
    prop_assert_eq!((t.len(), t.is_empty()), (all.len(), all.is_empty()));
    prop_assert_eq!(t.total_bytes(), all.iter().map(|o| o.body.len()).sum::<usize>());
    for o in &all {
        prop_assert!(Arc::ptr_eq(t.at(&o.key).unwrap(), o));
        if o.body.starts_with(b"{") {
            prop_assert_eq!(&o.value()["metadata"]["resourceVersion"], &json!(o.revision.to_string()));
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn agrees_with_the_naive_model(txns in proptest::collection::vec(txn(), 1..25)) {
        let (mut tables, mut naive) = (Tables::default(), Naive::default());
        for t in &txns {
            let (before, snapshot) = (contents(&tables), tables.clone());
            let (outcome, changes) = apply(&mut tables, 1, t);
            prop_assert_eq!(&outcome, &naive.apply(1, t));
            prop_assert_eq!(contents(&tables), naive.clone());
            // The snapshot did not notice.
            prop_assert_eq!(contents(&snapshot), before.clone());
            // The changes lead from before to after, one revision each.
            let mut replayed = before.clone();
            for c in &changes {
                replayed.revision += 1;
                prop_assert_eq!(c.revision, replayed.revision);
                let old = replayed.objects.remove(&c.key);
                prop_assert_eq!(old.is_some(), c.old.is_some());
                match &c.new {
                    Some(new) => {
                        prop_assert_eq!(c.old.as_ref().map(|o| o.revision), old.map(|o| o.0));
                        let text = String::from_utf8(new.body.to_vec()).unwrap();
                        replayed.objects.insert(c.key.clone(), (new.revision, text));
                    }
                    None => prop_assert_eq!(c.old.as_ref().unwrap().revision, c.revision),
                }
            }
            prop_assert_eq!(replayed, naive.clone());
            prop_assert!(matches!(outcome, Outcome::Applied(_)) || changes.is_empty());
        }
        check_reads(&tables)?;
    }

    #[test]
    fn garbage_bodies_are_stored_and_do_not_panic(
        bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 1..6),
        revised in any::<bool>(),
        head in any::<bool>(),
    ) {
        let mut tables = Tables::default();
        let key = Key::new("pods", "a", "x");
        for b in bodies {
            let mut body = if head { object::encode(&json!({}))[..object::revision_at()].to_vec() } else { Vec::new() };
            body.extend(b);
            let put = Op::Put { key: key.clone(), body: body.into(), revised };
            let ops = vec![put.clone(), Op::Delete { key: key.clone() }, put];
            let (outcome, changes) = apply(&mut tables, 1, &Txn { ops, ..Txn::default() });
            prop_assert!(matches!(outcome, Outcome::Applied(_)));
            prop_assert!(changes.iter().all(|c| c.departed().is_some() == c.old.is_some()));
        }
    }
}

#[test]
fn a_deletion_carries_its_own_revision() {
    let mut t = Tables::default();
    let key = Key::new("pods", "a", "x");
    let put = Op::Put { key: key.clone(), body: body(Some("n1"), 1), revised: true };
    apply(&mut t, 1, &Txn { ops: vec![put.clone(), put], ..Txn::default() });
    let delete = Txn { ops: vec![Op::Delete { key: key.clone() }, Op::Delete { key }], ..Txn::default() };
    let (outcome, changes) = apply(&mut t, 1, &delete);
    // The second one finds nothing: no change, and the revision before it.
    assert_eq!(outcome, Outcome::Applied(vec![3, 3]));
    let gone = changes[0].departed().unwrap();
    assert_eq!(gone.value()["metadata"]["resourceVersion"], "3");
    assert_eq!((changes.len(), gone.meta.node_name.as_deref()), (1, Some("n1")));
    assert_eq!(t.resources().count(), 0);
}

#[test]
fn sums_stay_in_range_within_one_transaction() {
    let key = Key::new("_quota", "a", "pods");
    let add = |delta| Op::CheckedAdd { key: key.clone(), delta, max: 3 };
    let mut t = Tables::default();
    let ops = |ops: &[i64]| Txn { ops: ops.iter().map(|d| add(*d)).collect(), ..Txn::default() };
    assert_eq!(apply(&mut t, 1, &ops(&[2, 1])).0, Outcome::Applied(vec![1, 2]));
    assert_eq!(apply(&mut t, 1, &ops(&[-1, 2])).0, Outcome::OutOfRange(1));
    assert_eq!(apply(&mut t, 1, &ops(&[-4])).0, Outcome::OutOfRange(0));
    assert_eq!(apply(&mut t, 1, &ops(&[i64::MAX])).0, Outcome::OutOfRange(0));
    assert_eq!((t.revision(), &t.at(&key).unwrap().body[..]), (2, &b"3"[..]));
}
