//! A shorter input that fails in the same way.

use crate::{Target, attempt};

/// How often a failing input is tried in other forms.
const TRIES: usize = 4000;

/// The shortest input that is found to fail at the same place as `input` does.
pub fn shrink(target: &Target, input: &[u8]) -> Vec<u8> {
    let mut best = input.to_vec();
    let Err(first) = attempt(target, input) else { return best };
    let mut tries = TRIES;
    let mut part = best.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        let before = best.len();
        while at < best.len() && tries > 0 {
            tries -= 1;
            let end = (at + part).min(best.len());
            let shorter = [&best[..at], &best[end..]].concat();
            match attempt(target, &shorter) {
                Err(same) if same.at == first.at => best = shorter,
                _ => at = end,
            }
        }
        match (part, best.len() < before) {
            _ if tries == 0 => return best,
            (1, false) => return best,
            (1, true) => {}
            _ => part = part.div_ceil(2),
        }
    }
}
