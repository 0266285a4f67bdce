//! What a decider sees of the cluster, and where its ids come from.

use std::sync::Arc;

use copepod_model::Object;

/// A consistent snapshot of the stored objects at one revision.
pub trait View {
    /// The revision up to which every change is visible.
    fn revision(&self) -> u64;
    /// One object; `resource` is a GroupResource such as `deployments.apps`.
    fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Object>>;
    /// The objects of a resource in key order, of one namespace or of all.
    fn list(&self, resource: &str, namespace: Option<&str>) -> Box<dyn Iterator<Item = Arc<Object>> + '_>;
    /// The same behind a place, given as namespace and name, which need not exist any more.
    fn list_after(
        &self,
        resource: &str,
        namespace: Option<&str>,
        (ns, name): (&str, &str),
    ) -> Box<dyn Iterator<Item = Arc<Object>> + '_> {
        let place = (ns.to_string(), name.to_string());
        Box::new(
            self.list(resource, namespace).skip_while(move |o| (o.namespace(), o.name()) <= (&*place.0, &*place.1)),
        )
    }
    /// The objects of a resource whose `spec.nodeName` is `node`, in key order, of one namespace or of all.
    fn on_node(
        &self,
        resource: &str,
        node: &str,
        namespace: Option<&str>,
    ) -> Box<dyn Iterator<Item = Arc<Object>> + '_> {
        let node: Arc<str> = node.into();
        Box::new(self.list(resource, namespace).filter(move |o| o.meta.node_name.as_ref() == Some(&node)))
    }
    /// How many there are.
    fn count(&self, resource: &str, namespace: Option<&str>) -> usize {
        self.list(resource, namespace).count()
    }
}

/// The source of everything random: uids, name suffixes, nonces. An argument, so that a seed replays a run.
pub trait Ids: Send {
    /// Fills `buf` with random bytes.
    fn fill(&mut self, buf: &mut [u8]);

    /// A version 4 UUID (RFC 9562).
    fn uid(&mut self) -> String {
        let mut b = [0u8; 16];
        self.fill(&mut b);
        b[6] = b[6] & 0x0f | 0x40;
        b[8] = b[8] & 0x3f | 0x80;
        let hex: String = b.iter().map(|x| format!("{x:02x}")).collect();
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }

    /// `n` characters of the alphabet that Kubernetes draws name suffixes from (no vowels, no look-alikes).
    fn suffix(&mut self, n: usize) -> String {
        const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
        let mut b = vec![0u8; n];
        self.fill(&mut b);
        b.iter().map(|x| ALPHABET[usize::from(*x) % ALPHABET.len()] as char).collect()
    }
}

/// Ids from a seed (SplitMix64): for the simulation and for tests, never for secrets.
#[derive(Clone, Debug)]
pub struct SeededIds(pub u64);

impl Ids for SeededIds {
    fn fill(&mut self, buf: &mut [u8]) {
        for chunk in buf.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let bytes = (z ^ (z >> 31)).to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }
}
