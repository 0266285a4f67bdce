//! What came of an input, as far as it tells whether the input found a new way.

use std::fmt::Display;
use std::hash::{DefaultHasher, Hash, Hasher as _};

/// What came of an input that broke no property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Inputs of the same class took the same way, as far as can be seen from outside.
    pub class: u64,
    /// The decoder took it.
    pub taken: bool,
}

/// Characters of a text that tell what kind of error it is.
const KIND: usize = 48;

impl Outcome {
    /// The decoder took it and made something of this size in bytes.
    pub fn taken(size: usize) -> Outcome {
        Outcome { class: 1, taken: true }.and(bucket(size))
    }

    /// The decoder refused it. Quoted texts and numbers of the reason do not count: they are the input's.
    pub fn refused(why: impl Display) -> Outcome {
        let text = why.to_string();
        let mut quoted = false;
        let words = text.chars().filter(|c| {
            quoted ^= *c == '"';
            !quoted && c.is_ascii_alphabetic()
        });
        let kind: String = words.take(KIND).collect();
        Outcome { class: 2, taken: false }.and(kind)
    }

    /// The same with something more that tells ways apart.
    pub fn and(self, feature: impl Hash) -> Outcome {
        let mut hasher = DefaultHasher::new();
        (self.class, feature).hash(&mut hasher);
        Outcome { class: hasher.finish(), ..self }
    }
}

/// Sizes of about the same magnitude have the same number.
pub(crate) fn bucket(size: usize) -> u32 {
    usize::BITS - size.leading_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_of_ways_and_not_of_inputs() {
        let refused = |text: &str| Outcome::refused(text).class;
        assert_eq!(refused("no \"pod\" at 7"), refused("no \"node\" at 99"));
        assert_ne!(refused("no \"pod\" at 7"), refused("two \"pod\" at 7"));
        assert_eq!(Outcome::taken(65), Outcome::taken(100));
        assert_ne!(Outcome::taken(65), Outcome::taken(129));
        assert_ne!(Outcome::taken(65), Outcome::taken(65).and("x"));
    }
}
