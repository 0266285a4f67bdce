//! The network: what is cut in which direction, and how late, doubled or lost the rest is. Servers, nodes and clients are
//! places with numbers.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::chance::Chance;

/// Who sends and receives.
pub type Place = u64;

/// The network.
pub struct Net {
    chance: Chance,
    /// From, to.
    cut: BTreeSet<(Place, Place)>,
    cuts: u64,
    /// Those that reach nobody and are not reached, whatever else is cut or mended.
    silent: BTreeSet<Place>,
    /// One message in so many is lost, doubled, or much later than others; 0 for none.
    pub loses: u64,
    /// See there.
    pub doubles: u64,
    /// See there.
    pub delays: u64,
}

impl Net {
    /// A good one.
    pub fn new(chance: Chance) -> Net {
        Net { chance, cut: BTreeSet::new(), cuts: 0, silent: BTreeSet::new(), loses: 0, doubles: 0, delays: 0 }
    }

    /// Cuts one direction.
    pub fn cut(&mut self, from: Place, to: Place) {
        self.cut.insert((from, to));
    }

    /// Cuts both directions between two groups.
    pub fn part(&mut self, some: &[Place], others: &[Place]) {
        for a in some {
            for b in others.iter().filter(|b| *b != a) {
                self.cut.insert((*a, *b));
                self.cut.insert((*b, *a));
            }
        }
    }

    /// Nobody reaches a place, and it reaches nobody.
    pub fn silence(&mut self, place: Place) {
        self.silent.insert(place);
    }

    /// It reaches others again, but for whom it is cut from.
    pub fn end_silence(&mut self, place: Place) {
        self.silent.remove(&place);
    }

    /// All is well.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.silent.clear();
        (self.loses, self.doubles, self.delays) = (0, 0, 0);
    }

    /// Nothing is cut, and something else may be; gives the number of that.
    pub fn anew(&mut self) -> u64 {
        self.cut.clear();
        self.cuts += 1;
        self.cuts
    }

    /// What was cut under this number is mended, if it is not already.
    pub fn mend(&mut self, number: u64) {
        if self.cuts == number {
            self.cut.clear();
        }
    }

    /// Whether something gets from one place to another.
    pub fn reaches(&self, from: Place, to: Place) -> bool {
        !self.cut.contains(&(from, to)) && !self.silent.contains(&from) && !self.silent.contains(&to)
    }

    /// How long something takes.
    pub fn delay(&mut self) -> Duration {
        let late = self.delays > 0 && self.chance.one_in(self.delays);
        Duration::from_micros(200 + self.chance.below(if late { 900_000 } else { 4_000 }))
    }

    /// After which delays a message arrives, if at all.
    pub fn arrivals(&mut self, from: Place, to: Place) -> Vec<Duration> {
        if !self.reaches(from, to) || self.loses > 0 && self.chance.one_in(self.loses) {
            return Vec::new();
        }
        let twice = self.doubles > 0 && self.chance.one_in(self.doubles);
        (0..if twice { 2 } else { 1 }).map(|_| self.delay()).collect()
    }
}
