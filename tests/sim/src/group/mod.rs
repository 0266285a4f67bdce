//! Several servers that are one group: processes on disks, a network between them, and all that invariants see of it.

pub mod disk;
pub mod hub;
pub mod net;
pub mod process;
pub mod store;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use copepod_consensus::rules::Hold;
use copepod_consensus::{ConfState, Message, MessageType, Position};
use copepod_machine::Time;
use copepod_state::Tables;

use crate::bug::Bug;
use crate::caught::caught;
use crate::chance::Chance;
use crate::counts::{Counts, Event};
use crate::exec::{Exec, Owner, Signal};
use crate::invariants::Invariants;
use crate::trace::Trace;
use disk::{Applied, Disk, Trouble};
use net::{Net, Place};
use process::{Command, LITTLE, MUCH, Out, Process, Seen, TICK};

/// How often a failed store looks at its disk again.
const MEND: Duration = Duration::from_secs(1);
/// How long a member may take to come for a snapshot that it was told of.
const COLLECT: Duration = Duration::from_secs(10);
/// Raft's clock while nobody waits for raft and everything is well.
const REST: Duration = Duration::from_secs(2);

/// A machine with a disk on which a server runs, or not.
pub struct Server {
    /// The disk.
    pub disk: Disk,
    /// The process, if one runs.
    pub process: Option<Process>,
    /// Counts processes.
    pub life: u64,
    /// Whether the process runs and its store waits for the disk.
    pub failed: bool,
}

/// Whose a transaction is.
#[derive(Clone)]
pub struct Origin {
    /// Which component, as invariants know it.
    pub actor: &'static str,
    /// The term in which it was decided, if it counts in that only.
    pub term: Option<u64>,
    /// What was seen when it was decided.
    pub view: Option<Tables>,
    /// When it was decided by control loops, by a clock that nobody sets.
    pub decided: Option<Time>,
    /// Whether the process that asked for it still runs, where that may end before its writes are applied.
    pub lives: Option<Rc<Cell<bool>>>,
}

impl Origin {
    /// Somebody outside of the control plane.
    pub fn of(actor: &'static str) -> Origin {
        Origin { actor, term: None, view: None, decided: None, lives: None }
    }
}

/// A group, its network, its time. Everything of a run hangs on it.
pub struct Group {
    /// Tasks and time.
    pub exec: Exec,
    /// The servers by raft id.
    pub servers: RefCell<BTreeMap<u64, Server>>,
    /// The network.
    pub net: RefCell<Net>,
    /// What must never happen.
    pub invariants: RefCell<Invariants>,
    /// Whose transactions there were; their tags are one more than their places.
    pub origins: RefCell<Vec<Origin>>,
    /// How much clocks are ahead, in milliseconds.
    pub skews: RefCell<BTreeMap<Place, i64>>,
    /// How often everybody's watches were ended.
    pub resets: Cell<u64>,
    /// Everything in order, as a number.
    pub trace: RefCell<Trace>,
    /// How often what happened.
    pub counts: Counts,
    /// The first invariant that broke, and how.
    pub failure: RefCell<Option<(&'static str, String)>>,
    /// What is wrong on purpose.
    pub bug: Option<Bug>,
    /// Rings when a server starts or leads.
    pub news: Signal,
    /// The space quota in bytes, 0 for none.
    pub quota: u64,
    /// How much of the log its servers keep for each other.
    pub hold: Cell<Hold>,
    /// Whether raft's clock may rest.
    calm: Cell<bool>,
    /// Counts the times that it was to go on: a rest that began before is over.
    stirred: Cell<u64>,
    last_id: Cell<u64>,
    salt: u64,
    chance: RefCell<Chance>,
    snapshots: RefCell<BTreeSet<(u64, u64)>>,
    turned: RefCell<BTreeSet<u64>>,
    led: Cell<bool>,
}

impl Group {
    /// `n` servers that begin with the same state.
    pub fn new(n: u64, first: Tables, quota: u64, bug: Option<Bug>, mut chance: Chance) -> Rc<Group> {
        let members = ConfState { voters: (1..=n).collect(), ..ConfState::default() };
        let applied = Applied { at: Position { index: 1, term: 1 }, members };
        let server =
            |_| Server { disk: Disk::restored(applied.clone(), first.clone()), process: None, life: 0, failed: false };
        let servers = (1..=n).map(|id| (id, server(id))).collect();
        let group = Rc::new(Group {
            exec: Exec::new(crate::START),
            servers: RefCell::new(servers),
            net: RefCell::new(Net::new(chance.split())),
            invariants: RefCell::new(Invariants::new(applied, first, quota)),
            origins: RefCell::default(),
            skews: RefCell::default(),
            resets: Cell::default(),
            trace: RefCell::default(),
            counts: Counts::default(),
            failure: RefCell::default(),
            bug,
            news: Signal::default(),
            quota,
            hold: Cell::new(LITTLE),
            calm: Cell::new(false),
            stirred: Cell::new(0),
            last_id: Cell::new(n),
            salt: chance.below(8),
            chance: RefCell::new(chance),
            snapshots: RefCell::default(),
            turned: RefCell::default(),
            led: Cell::new(false),
        });
        // Most runs are to see members that are too far behind, and some those that are not.
        if group.salt % 4 == 3 {
            group.hold.set(MUCH);
        }
        (1..=n).for_each(|id| group.start(id));
        group
    }

    /// An id that no server has had.
    pub fn new_id(&self) -> u64 {
        self.last_id.set(self.last_id.get() + 1);
        self.last_id.get()
    }

    /// Whose tasks end with the process of a server; the lowest eight bits are for parts of it.
    pub fn owner(id: u64, life: u64) -> Owner {
        (id << 32) | (life << 8)
    }

    /// The time by the clock of a server or of a node.
    pub fn clock(&self, place: Place) -> Time {
        let skew = self.skews.borrow().get(&place).copied().unwrap_or(0);
        Time(self.exec.now().0.saturating_add_signed(skew * 1_000_000))
    }

    /// An invariant broke.
    pub fn broke(&self, invariant: &'static str, how: String) {
        let mut failure = self.failure.borrow_mut();
        if failure.is_none() {
            *failure = Some((invariant, format!("at {:.3} s: {how}", self.elapsed().as_secs_f64())));
        }
    }

    /// Virtual time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.exec.now().since(crate::START)
    }

    /// Lets invariants look; the first that breaks ends the run.
    pub fn check(&self, f: impl FnOnce(&mut Invariants) -> Result<(), (&'static str, String)>) {
        if let Err((which, how)) = f(&mut self.invariants.borrow_mut()) {
            self.broke(which, how);
        }
    }

    /// Those that run, healthy or not.
    pub fn running(&self) -> Vec<u64> {
        self.servers.borrow().iter().filter(|(_, s)| s.process.is_some() || s.failed).map(|(id, _)| *id).collect()
    }

    /// What a server's process says, if one runs.
    pub fn ask<T>(&self, id: u64, f: impl FnOnce(&Process) -> T) -> Option<T> {
        self.servers.borrow().get(&id).and_then(|s| s.process.as_ref()).map(f)
    }

    /// The server that leads, the one of the highest term if several think so.
    pub fn leader(&self) -> Option<u64> {
        let servers = self.servers.borrow();
        let leading = servers.iter().filter_map(|(id, s)| s.process.as_ref().map(|p| (p, id)));
        leading.filter(|(p, _)| p.role.leads).max_by_key(|(p, _)| p.role.term).map(|(_, id)| *id)
    }

    /// The members, as the leader knows them, that are there.
    pub fn members(&self) -> Vec<u64> {
        let members = self.leader().and_then(|l| self.ask(l, |p| p.role.members.clone())).unwrap_or_default();
        let running = self.running();
        members.voters.iter().chain(&members.learners).copied().filter(|id| running.contains(id)).collect()
    }

    /// All servers, for people.
    pub fn describe(&self) -> String {
        let servers = self.servers.borrow();
        let one = |(id, s): (&u64, &Server)| match &s.process {
            Some(p) => {
                format!("{id}: {:?}, applied {:?}, last {}, {:?}", p.role, p.applied.at, p.last_index(), p.progress())
            }
            None => format!("{id}: no process, failed: {}", s.failed),
        };
        servers.iter().map(one).collect::<Vec<_>>().join("; ")
    }

    /// How far a server is.
    pub fn read_revision(&self, id: u64) -> Option<u64> {
        self.ask(id, |p| p.shown.revision())
    }

    /// Starts a server's process.
    pub fn start(self: &Rc<Self>, id: u64) {
        // Never the same for two members, or they could go on meeting each other.
        let ticks = (id + self.salt) as usize;
        let (life, started) = {
            let mut servers = self.servers.borrow_mut();
            let Some(server) = servers.get_mut(&id) else { return };
            if server.process.is_some() {
                return;
            }
            server.life += 1;
            let now = self.exec.now();
            let started = caught(|| Process::start(id, &mut server.disk, ticks, now, self.bug, &self.counts)).flatten();
            let started = started.map(|mut process| {
                process.hold = self.hold.get();
                server.failed = false;
                server.process = Some(process);
            });
            (server.life, started)
        };
        self.trace.borrow_mut().add([1, id, life]);
        if let Err(why) = started {
            return self.broke("raft", format!("server {id} cannot start: {why}"));
        }
        self.observe(id, vec![Seen::Started]);
        self.tick(id, life);
        self.pump(id);
        self.news.ring();
    }

    /// The process ends without a word; with `power` the disk loses what was not synced.
    pub fn crash(&self, id: u64, power: bool) {
        let (life, process) = {
            let mut servers = self.servers.borrow_mut();
            let Some(server) = servers.get_mut(&id) else { return };
            server.failed = false;
            let mut chance = self.chance.borrow_mut();
            if server.disk.cut_off(&mut chance) {
                self.counts.add(Event::TornObjects);
            }
            if power && server.disk.lose_power(&mut chance) {
                self.counts.add(Event::TornLog);
            }
            (server.life, server.process.take())
        };
        self.trace.borrow_mut().add([2, id, u64::from(power)]);
        self.exec.kill_where(|owner| owner & !0xff == Group::owner(id, life));
        // Nobody is answered: whoever waits sees that the answer will not come.
        if let Some(process) = process {
            process.hub.stop();
        }
    }

    /// A server's disk goes with it.
    pub fn scrap(&self, id: u64) {
        self.crash(id, true);
        self.servers.borrow_mut().remove(&id);
    }

    /// Raft's clock may rest from now on where nobody waits for raft.
    pub fn calm(&self) {
        self.calm.set(true);
    }

    /// Raft's clock goes on, and for all at once: a follower whose rest ends first would miss a leader that still rests.
    pub fn stir(self: &Rc<Self>) {
        self.calm.set(false);
        self.stirred.set(self.stirred.get() + 1);
        let all: Vec<(u64, u64)> = self.servers.borrow().iter().map(|(id, s)| (*id, s.life)).collect();
        all.into_iter().for_each(|(id, life)| self.tick(id, life));
    }

    fn tick(self: &Rc<Self>, id: u64, life: u64) {
        let rests = self.calm.get()
            && !self
                .servers
                .borrow()
                .values()
                .any(|s| s.process.as_ref().is_none_or(|p| p.is_waited_for() || p.role.leader.is_none()));
        let group = self.clone();
        let (delay, stirred) = (if rests { REST } else { TICK }, self.stirred.get());
        self.exec.after(delay, move || {
            let alive =
                group.servers.borrow().get(&id).is_some_and(|s| s.life == life && (s.process.is_some() || s.failed));
            if !alive || stirred != group.stirred.get() {
                return;
            }
            if !rests {
                group.command(id, Command::Tick);
            }
            group.tick(id, life);
        });
    }

    /// Asks something of a server's process; what asks a process that does not run gets no answer.
    pub fn command(self: &Rc<Self>, id: u64, command: Command) {
        if let Some(process) = self.servers.borrow_mut().get_mut(&id).and_then(|s| s.process.as_mut()) {
            // Ticks that came while the disk was waited for are one.
            let late = matches!(command, Command::Tick) && process.inbox.iter().any(|c| matches!(c, Command::Tick));
            if !late {
                process.inbox.push_back(command);
            }
        }
        self.pump(id);
    }

    fn pump(self: &Rc<Self>, id: u64) {
        self.drive(id, |process, disk, now, out| process.run(disk, now, out));
    }

    fn drive(self: &Rc<Self>, id: u64, f: fn(&mut Process, &mut Disk, Time, &mut Out)) {
        let mut out = Out::default();
        let life = {
            let mut servers = self.servers.borrow_mut();
            let Some(Server { disk, process: Some(process), life, .. }) = servers.get_mut(&id) else { return };
            let now = self.exec.now();
            // Raft panics where its contract is broken.
            if let Err(text) = caught(|| f(process, disk, now, &mut out)) {
                drop(servers);
                return self.broke("raft", format!("server {id}: {text}"));
            }
            *life
        };
        let Out { messages, seen, flight, checkpoint, failed } = out;
        self.observe(id, seen);
        messages.into_iter().for_each(|m| self.send(m));
        if let Some(delay) = flight {
            let group = self.clone();
            self.exec.after(delay, move || {
                if group.servers.borrow().get(&id).is_some_and(|s| s.life == life) {
                    group.drive(id, |process, disk, now, out| process.written(disk, now, out));
                }
            });
        }
        if let Some((number, applied)) = checkpoint {
            let slow = self.servers.borrow().get(&id).map_or(Duration::ZERO, |s| s.disk.trouble.delay());
            let delay = Duration::from_millis(5 + self.chance.borrow_mut().below(40)) + slow;
            let group = self.clone();
            self.exec.after(delay, move || group.checkpointed(id, life, number, applied));
        }
        if self.bug == Some(Bug::AcknowledgeBeforeSync) {
            let group = self.clone();
            self.exec.after(Duration::from_millis(20), move || {
                let runs = |s: &&mut Server| s.life == life && s.process.is_some();
                if let Some(server) = group.servers.borrow_mut().get_mut(&id).filter(runs) {
                    server.disk.sync();
                }
            });
        }
        if let Some(why) = failed {
            self.fail(id, life, &why);
        }
    }

    fn checkpointed(self: &Rc<Self>, id: u64, life: u64, number: u64, applied: Applied) {
        let written = {
            let mut servers = self.servers.borrow_mut();
            let Some(server) = servers.get_mut(&id).filter(|s| s.life == life) else { return };
            if !server.process.as_ref().is_some_and(|p| p.wants_checkpoint(number)) {
                return;
            }
            server.disk.replaced()
        };
        match written {
            Ok(()) => self.command(id, Command::Checkpointed(number, applied)),
            Err(why) => self.fail(id, life, &format!("checkpoint: {why}")),
        }
    }

    /// The store of a server has failed: it answers nothing until its disk can be opened again.
    fn fail(self: &Rc<Self>, id: u64, life: u64, why: &str) {
        self.trace.borrow_mut().add([3, id, life]);
        let process = {
            let mut servers = self.servers.borrow_mut();
            let Some(server) = servers.get_mut(&id) else { return };
            if server.disk.trouble == Trouble::None {
                drop(servers);
                return self.broke("raft", format!("server {id} failed: {why}"));
            }
            server.failed = true;
            server.disk.cut_off(&mut self.chance.borrow_mut());
            server.process.take()
        };
        self.exec.kill_where(|owner| owner & !0xff == Group::owner(id, life));
        if let Some(process) = process {
            process.fail();
        }
        let group = self.clone();
        self.exec.after(MEND, move || {
            let same = |s: &Server| s.life == life && s.failed;
            if group.servers.borrow().get(&id).is_some_and(same) {
                group.start(id);
            }
        });
    }

    fn send(self: &Rc<Self>, message: Message) {
        let (from, to) = (message.from, message.to);
        let kind = message.get_msg_type();
        self.trace.borrow_mut().add([4, from, to, kind as u64, message.index, message.term, self.exec.now().0]);
        if kind == MessageType::MsgSnapshot {
            return self.send_snapshot(message);
        }
        let arrivals = self.net.borrow_mut().arrivals(from, to);
        if arrivals.is_empty() {
            return;
        }
        for delay in arrivals {
            let (group, message) = (self.clone(), message.clone());
            self.exec.after(delay, move || {
                group.turn_away(from, to);
                group.command(to, Command::Step(message));
            });
        }
    }

    /// Whether `to` leads a group of which `from` is no member.
    fn is_stranger(&self, from: u64, to: u64) -> bool {
        let stranger = self.ask(to, |p| {
            let m = &p.role.members;
            let known = [&m.voters, &m.learners, &m.voters_outgoing, &m.learners_next];
            p.role.leads && !known.into_iter().flatten().any(|id| *id == from)
        });
        stranger == Some(true)
    }

    /// A leader that hears from somebody who is no member makes sure that it leads, and says so; whoever hears that he was
    /// taken out of the group ends (`control/server/src/peers/listener.rs`).
    pub fn turn_away(self: &Rc<Self>, from: u64, to: u64) {
        if !self.is_stranger(from, to) || !self.turned.borrow_mut().insert(from) {
            return;
        }
        let group = self.clone();
        self.exec.after(COLLECT, move || {
            group.turned.borrow_mut().remove(&from);
        });
        let Some(life) = self.servers.borrow().get(&to).map(|s| s.life) else { return };
        let group = self.clone();
        self.exec.spawn(Group::owner(to, life), async move {
            if group.read_index(to).await.is_some() && group.is_stranger(from, to) {
                group.scrap(from);
            }
        });
    }

    /// The receiver comes for the whole state; raft waits until it hears how that went.
    fn send_snapshot(self: &Rc<Self>, message: Message) {
        let (from, to) = (message.from, message.to);
        let group = self.clone();
        let failed = move || {
            if group.snapshots.borrow_mut().remove(&(from, to)) {
                group.command(from, Command::SnapshotSent(to, false));
            }
        };
        if !self.snapshots.borrow_mut().insert((from, to)) {
            return;
        }
        self.exec.after(COLLECT, failed);
        let Some(delay) = self.net.borrow_mut().arrivals(from, to).into_iter().next() else { return };
        let group = self.clone();
        self.exec.after(delay, move || {
            if !group.net.borrow().reaches(to, from) {
                return;
            }
            let Some((applied, tables)) = group.ask(from, |p| (p.applied.clone(), p.tables.clone())) else { return };
            let delay = Duration::from_millis(20 + group.chance.borrow_mut().below(200));
            let g = group.clone();
            group.exec.after(delay, move || {
                if !g.net.borrow().reaches(from, to) || !g.snapshots.borrow_mut().remove(&(from, to)) {
                    return;
                }
                g.command(to, Command::Install(message, applied, tables));
                g.command(from, Command::SnapshotSent(to, true));
            });
        });
    }

    fn observe(&self, id: u64, seen: Vec<Seen>) {
        for one in seen {
            if let Seen::Applied { at, tag, .. } = &one {
                self.trace.borrow_mut().add([5, id, at.index, at.term, *tag]);
            }
            let origins = self.origins.borrow();
            self.check(|all| all.observe(id, &one, &origins));
            match one {
                Seen::Leads(_) => {
                    if self.led.replace(true) {
                        self.counts.add(Event::LeaderChange);
                    }
                    self.news.ring();
                }
                Seen::Installed(..) => self.counts.add(Event::Installed),
                _ => {}
            }
        }
    }

    /// Ends the watches of all who are no part of a server.
    pub fn reset_watches(&self) {
        self.resets.set(self.resets.get() + 1);
        let signals: Vec<Signal> =
            self.servers.borrow().values().filter_map(|s| Some(s.process.as_ref()?.signal.clone())).collect();
        signals.iter().for_each(Signal::ring);
    }

    /// Whether a place is reached from another.
    pub fn reaches(&self, from: Place, to: Place) -> bool {
        self.net.borrow().reaches(from, to)
    }
}
