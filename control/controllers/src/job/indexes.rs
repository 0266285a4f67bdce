//! Sets of completion indexes, and their text: `1,3-5`.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// As many indexes are read of a text at most; a Job that names more of them is none that could run.
const MOST: usize = 1 << 20;

/// The intervals that a text names; what it does not say rightly is left out.
pub(super) fn intervals(text: &str, below: i64) -> Vec<RangeInclusive<i64>> {
    let range = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (from.parse::<i64>().ok()?, to.parse::<i64>().ok()?.min(below - 1));
        (from >= 0 && from <= to).then_some(from..=to)
    };
    text.split(',').filter_map(range).collect()
}

/// The indexes that a text names.
pub(super) fn parse(text: &str, below: i64) -> BTreeSet<i64> {
    intervals(text, below).into_iter().flatten().take(MOST).collect()
}

/// The text of a set.
pub(super) fn format(indexes: &BTreeSet<i64>) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut all = indexes.iter().copied().peekable();
    while let Some(from) = all.next() {
        let mut to = from;
        while let Some(next) = all.next_if_eq(&(to + 1)) {
            to = next;
        }
        parts.push(match to - from {
            0 => from.to_string(),
            // Two that follow each other are no interval, as upstream.
            1 => format!("{from},{to}"),
            _ => format!("{from}-{to}"),
        });
    }
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_and_texts() {
        for (text, want) in [("", vec![]), ("0", vec![0]), ("1,3-5,7,8", vec![1, 3, 4, 5, 7, 8])] {
            let set: BTreeSet<i64> = want.into_iter().collect();
            assert_eq!((parse(text, 10), format(&set)), (set.clone(), text.to_string()));
        }
        assert_eq!(parse("2-9,x,-3", 5), [2, 3, 4].into());
        // However many a text names.
        assert_eq!(intervals("0-2147483646", 2_147_483_647), [0..=2_147_483_646]);
        assert_eq!(parse("0-2147483646", 2_147_483_647).len(), MOST);
    }
}
