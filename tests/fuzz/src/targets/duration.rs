//! Durations: Go's, as fields of objects have them, and Gateway API's.

use copepod_model::kinds::duration;
use copepod_model::schema::Schema;
use serde_json::json;

use crate::{Outcome, Room, Seed, Target};

pub(super) const TARGET: Target = Target {
    name: "duration",
    run,
    seeds,
    words: &["ns", "us", "µs", "μs", "ms", "s", "m", "h", ".", "-", "+", "0", "2562047h47m16.854775807s"],
    room: Room::BYTES,
};

fn run(input: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(input);
    let gateway = duration::parse(&text);
    if let Some(d) = gateway {
        assert!(!duration::human(d).is_empty());
    }
    let schema = Schema::builtin();
    let ty = schema.lookup("metrics.k8s.io/v1beta1", "PodMetrics").expect("a kind with a duration");
    let read = |text: &str| {
        let mut value = json!({"window": text});
        schema.conform(ty, &mut value).map(|_| value["window"].as_str().unwrap_or_default().to_string())
    };
    match read(&text) {
        Ok(printed) => {
            assert_eq!(read(&printed).as_ref(), Ok(&printed), "{text:?} is not what it was");
            // Protobuf has the number.
            let object = json!({"apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetrics", "window": printed});
            let bytes = schema.encode_protobuf(&object).unwrap_or_else(|e| panic!("{printed}: {e}"));
            let back = schema.decode_protobuf(&bytes).unwrap_or_else(|e| panic!("{printed}: {e}"));
            assert_eq!(back["window"], object["window"], "through protobuf");
            Outcome::taken(printed.len()).and(gateway.is_some())
        }
        Err(e) => Outcome::refused(e).and(gateway.is_some()),
    }
}

fn seeds() -> Vec<Seed> {
    let all = ["0s", "1h30m", "1.5s", "-2ms", "+1h1m1.000000001s", "100ns", "20µs", "500ms", "2562047h47m16s"];
    all.iter().enumerate().map(|(i, text)| (format!("s{i}"), (*text).into())).collect()
}
