//! What goes wrong, a file each. A seed chooses which of them may happen at all (runs in which everything fails see less
//! than runs in which little does), and chance when.

mod clock;
mod crash;
mod disk;
mod handover;
mod members;
mod network;
mod partition;
mod rolling;
pub mod silence;
mod watch;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use crate::chance::Chance;
use crate::counts::Event;
use crate::group::Group;
use crate::group::disk::Trouble;
use crate::kv::OUTSIDE;
use crate::shape::Shape;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Some do not reach others, in one direction or both.
    Partition,
    /// Messages are lost, doubled, late, out of order.
    Network,
    /// A process ends.
    Crash,
    /// The power of one fails, or that of all.
    Power,
    /// A disk is slow, full, or does not sync.
    Disk,
    /// A clock is wrong, of a server or of a node.
    Clock,
    /// One server after the other is restarted.
    Rolling,
    /// Leadership is handed over.
    HandOver,
    /// A server joins, another one leaves.
    Members,
    /// Everybody's watch ends.
    Watch,
    /// An agent's process ends.
    Agent,
    /// The API has no room: 429.
    Busy,
    /// Images, volumes and probes fail; containers crash, trap, run out of memory.
    Containers,
    /// A node is silent until its pods are evicted.
    Silence,
}

impl Fault {
    /// Those of servers.
    pub const SERVERS: [Fault; 10] = [
        Fault::Partition,
        Fault::Network,
        Fault::Crash,
        Fault::Power,
        Fault::Disk,
        Fault::Clock,
        Fault::Rolling,
        Fault::HandOver,
        Fault::Members,
        Fault::Watch,
    ];
    /// Those of nodes, and of those who use the API.
    pub const NODES: [Fault; 4] = [Fault::Agent, Fault::Busy, Fault::Containers, Fault::Silence];
}

/// The form of a fault that has several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// One server and all others do not reach each other.
    Alone,
    /// Several and the rest do not.
    Halves,
    /// Some are not reached by the rest, and reach it.
    Deaf,
    /// Some do not reach the rest, and are reached by it.
    Mute,
    /// Two sides do not reach each other, and one server reaches both.
    Bridge,
    /// Nodes or users do not reach some servers.
    Outside,
    /// Messages do not come.
    Lost,
    /// They come twice.
    Doubled,
    /// They come late.
    Late,
    /// Nothing more can be written to a disk.
    Full,
    /// It does not sync.
    NoSync,
    /// It takes its time.
    Slow,
    /// An image cannot be pulled.
    Pull,
    /// A volume cannot be mounted.
    Mount,
    /// A container ends with an error.
    Exit,
    /// It traps.
    Trap,
    /// It had too much memory.
    Memory,
    /// A probe fails; no pod here has hooks.
    Probe,
}

impl Form {
    /// All of them.
    pub const ALL: [Form; 18] = [
        Form::Alone,
        Form::Halves,
        Form::Deaf,
        Form::Mute,
        Form::Bridge,
        Form::Outside,
        Form::Lost,
        Form::Doubled,
        Form::Late,
        Form::Full,
        Form::NoSync,
        Form::Slow,
        Form::Pull,
        Form::Mount,
        Form::Exit,
        Form::Trap,
        Form::Memory,
        Form::Probe,
    ];
}

/// Lets these faults happen for a while, then ends them all.
pub async fn chaos(group: &Rc<Group>, shape: &Shape, mut chance: Chance) {
    let (faults, end) = (&shape.faults, group.exec.now() + shape.chaos);
    let (changing, healed) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
    if faults.contains(&Fault::Silence) {
        let (g, h, c) = (group.clone(), healed.clone(), chance.split());
        group.exec.spawn(OUTSIDE, async move { silence::strike(&g, &h, c).await });
    }
    while group.exec.now() < end {
        group.exec.sleep(Duration::from_millis(50 + chance.below(shape.pace))).await;
        let Some(fault) = faults.get(chance.below(faults.len() as u64) as usize) else { continue };
        match fault {
            Fault::Partition => partition::strike(group, shape.cluster, &mut chance),
            Fault::Network => network::strike(group, &mut chance),
            Fault::Crash => crash::strike(group, false, &mut chance),
            Fault::Power => crash::strike(group, true, &mut chance),
            Fault::Disk => disk::strike(group, &mut chance),
            Fault::Clock => clock::strike(group, shape.cluster, &mut chance),
            Fault::Watch => watch::strike(group),
            Fault::Rolling => rolling::strike(group, &mut chance).await,
            Fault::HandOver => handover::strike(group, &mut chance),
            Fault::Members => members::strike(group, &changing, &mut chance),
            // Nodes see to these themselves, and the last one has a task of its own.
            Fault::Agent | Fault::Busy | Fault::Containers | Fault::Silence => {}
        }
    }
    healed.set(true);
    heal(group);
}

/// Everything is well again, and everybody is there.
pub fn heal(group: &Rc<Group>) {
    group.net.borrow_mut().heal();
    group.skews.borrow_mut().clear();
    let all: Vec<u64> = {
        let mut servers = group.servers.borrow_mut();
        servers.values_mut().for_each(|s| s.disk.trouble = Trouble::None);
        servers.keys().copied().collect()
    };
    all.into_iter().for_each(|id| group.start(id));
}

/// A fault strikes somebody.
pub fn struck(group: &Group, fault: Fault) {
    group.counts.add(Event::Strike(fault));
}

/// A fault has this form.
pub fn formed(group: &Group, form: Form) {
    group.counts.add(Event::Formed(form));
}

/// Does `f` after a while.
fn later(group: &Rc<Group>, chance: &mut Chance, most: u64, f: impl FnOnce(&Rc<Group>) + 'static) {
    let g = group.clone();
    group.exec.after(Duration::from_millis(100 + chance.below(most)), move || f(&g));
}
