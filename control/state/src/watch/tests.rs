use copepod_model::Key;
use proptest::prelude::*;

use super::*;

fn text(options: &'static [&'static str]) -> impl Strategy<Value = Arc<str>> {
    proptest::sample::select(options).prop_map(Arc::from)
}

fn interest() -> impl Strategy<Value = Interest> {
    let option = |o| proptest::option::of(text(o));
    (text(&["pods", "nodes"]), option(&["a", "b", ""]), option(&["x", "y"]), option(&["n1", "n2"]))
        .prop_map(|(resource, namespace, name, node_name)| Interest { resource, namespace, name, node_name })
}

fn change() -> impl Strategy<Value = Change> {
    let key = (text(&["pods", "nodes", "events"]), text(&["a", "b", ""]), text(&["x", "y"]));
    let node = || proptest::option::of(proptest::option::of(text(&["n1", "n2", "n3"])));
    (key, node(), node()).prop_map(|((resource, namespace, name), new, old)| {
        let key = Key { resource, namespace, name };
        let object = |node: Option<Option<Arc<str>>>| {
            node.map(|node_name| {
                let mut o = Object::decode(key.clone(), 1, bytes::Bytes::new());
                o.meta.node_name = node_name;
                Arc::new(o)
            })
        };
        Change { revision: 1, new: object(new), old: object(old), key: key.clone() }
    })
}

/// Which objects, not which contents.
fn ids<'a>(objects: impl Iterator<Item = &'a Arc<Object>>) -> Vec<*const Object> {
    objects.map(Arc::as_ptr).collect()
}

proptest! {
    #[test]
    fn tells_exactly_those_whom_it_concerns(
        interests in proptest::collection::vec(interest(), 0..25),
        gone in proptest::collection::vec(any::<bool>(), 25),
        changes in proptest::collection::vec(change(), 1..25),
    ) {
        let mut index = WatchIndex::default();
        interests.iter().enumerate().for_each(|(id, i)| index.insert(id as u64, i.clone()));
        for (id, i) in interests.iter().enumerate().filter(|(id, _)| gone[*id]) {
            index.remove(id as u64, i);
        }
        for c in &changes {
            let mut told = Vec::new();
            index.interested(c, |id| told.push(id));
            told.sort_unstable();
            let on = |o: &Option<Arc<Object>>, n: &Arc<str>| o.as_ref().is_some_and(|o| o.meta.node_name.as_ref() == Some(n));
            let concerned: Vec<u64> = interests.iter().enumerate().filter(|(id, i)| {
                !gone[*id]
                    && i.resource == c.key.resource
                    && i.namespace.as_ref().is_none_or(|ns| *ns == c.key.namespace)
                    && i.name.as_ref().is_none_or(|n| *n == c.key.name)
                    && i.node_name.as_ref().is_none_or(|n| on(&c.new, n) || on(&c.old, n))
            }).map(|(id, _)| id as u64).collect();
            prop_assert_eq!(told, concerned);
        }
        interests.iter().enumerate().for_each(|(id, i)| index.remove(id as u64, i));
        prop_assert!(index.is_empty());
    }

    #[test]
    fn begins_with_exactly_what_is_in_the_set(
        interests in proptest::collection::vec(interest(), 1..25),
        changes in proptest::collection::vec(change(), 0..25),
    ) {
        let mut tables = Tables::default();
        for object in changes.iter().filter_map(|c| c.new.clone()) {
            tables.put(object);
        }
        for i in &interests {
            prop_assert_eq!(ids(i.objects(&tables)), ids(tables.scan(&i.resource, None).filter(|o| i.includes(o))));
        }
    }
}

/// What makes it fast: a watcher of one name or node does not even get looked at for other changes.
#[test]
fn a_narrow_watcher_is_filed_apart() {
    let mut index = WatchIndex::default();
    let mut on_node = Interest::all("pods");
    on_node.node_name = Some("n1".into());
    let mut named = Interest::all("pods");
    named.name = Some("x".into());
    (0..100).for_each(|id| index.insert(id, if id % 2 == 0 { on_node.clone() } else { named.clone() }));
    let of = &index.resources["pods"];
    assert!(of.all.is_empty() && of.namespaces.is_empty());
    assert_eq!((of.nodes["n1"].len(), of.names["x"][""].len()), (50, 50));
    index.remove(50, &on_node);
    let of = &index.resources["pods"];
    assert!(!of.nodes["n1"].contains_key(&50) && of.nodes["n1"].contains_key(&52));
    assert_eq!((of.nodes["n1"].len(), of.names["x"][""].len()), (49, 50));
}
