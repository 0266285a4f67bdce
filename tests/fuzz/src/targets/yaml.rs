//! YAML, as manifests and bodies have it.

use copepod_model::yaml;

use crate::support::{depth, same};
use crate::{Outcome, Room, Seed, Target};

pub(super) const TARGET: Target =
    Target { name: "yaml", run, seeds, words: WORDS, room: Room { base: 8 << 20, each: 8192 } };

const WORDS: &[&str] = &[
    "---\n",
    "...\n",
    "&a ",
    "*a",
    "<<: ",
    "- ",
    ": ",
    "? ",
    "|\n  ",
    ">-\n  ",
    "!!str ",
    "!!binary ",
    "!!int ",
    "!x ",
    "\"",
    "'",
    "yes",
    "off",
    "~",
    "null",
    "0o17",
    "0400",
    "0x1F",
    "1_000",
    "1:30",
    ".inf",
    ".nan",
    "1e3",
    "2020-01-01",
    "# c\n",
    "\\u00e9",
    "[",
    "]",
    "{",
    "}",
    ",",
    "%YAML 1.1\n",
    "\t",
    "\u{feff}",
];
/// A document is at most so many times as long as its text (as JSON, whose escapes are longer), and this much longer by aliases.
const GROWTH: usize = 16;
const ALIASED: usize = 2 << 20;

fn run(input: &[u8]) -> Outcome {
    if let Ok(text) = std::str::from_utf8(input) {
        let _ = yaml::documents(text);
    }
    let value = match yaml::from_slice(input) {
        Ok(value) => value,
        Err(why) => return Outcome::refused(why),
    };
    let json = value.to_string();
    assert!(json.len() <= ALIASED + GROWTH * input.len(), "{} bytes become {}", input.len(), json.len());
    assert!(depth(&value) <= 127, "{} levels", depth(&value));
    // JSON is YAML, as far as its texts are without what YAML reads otherwise.
    let again = yaml::from_slice(json.as_bytes());
    assert!(again.as_ref().is_ok_and(|again| same(again, &value)), "{json} as YAML is {again:?}");
    Outcome::taken(json.len())
}

fn seeds() -> Vec<Seed> {
    let all = [
        (
            "pod",
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\nspec:\n  containers:\n  - name: c\n    image: i\n    args: [\"a\", 'b']\n",
        ),
        ("alias", "a: &x {b: [1, 2]}\nc: *x\nd:\n  <<: *x\n  e: 3\n"),
        ("laughs", "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: &d [*c, *c]\ne: [*d, *d]\n"),
        ("scalars", "a: 0400\nb: yes\nc: ~\nd: 1e3\ne: 0x1F\nf: 1_000\ng: 1:30\nh: 2020-01-01\ni: .inf\nj: -0.5\n"),
        (
            "texts",
            "a: |\n  one\n  two\nb: >-\n  folded\n  text\nc: \"\\u00e9\\n\"\nd: 'it''s'\ne: plain text # comment\n",
        ),
        ("documents", "---\na: 1\n---\n# nothing\n---\nb: [x, {y: z}]\n...\n"),
        ("tags", "a: !!str 1\nb: !!int \"2\"\nc: !!binary aGk=\n? x\n: y\n"),
        ("json", "{\"a\": [1, -2.5, true, null, \"\\\"\\\\/\"], \"b\": {}}"),
    ];
    all.map(|(name, text)| (name.to_string(), text.as_bytes().to_vec())).into()
}
