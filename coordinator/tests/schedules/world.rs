//! The clock, the network and the coordinator's process.

use std::collections::BTreeMap;

use watershed_commons::record::Runs;
use watershed_coordinator::machine::{Effect, Event, Phase, Refusal, Run};
use watershed_protocol::market::{Entry, FinalState, Message};
use watershed_protocol::{Envelope, PublicKey};

use crate::Kind;
use crate::book::{Book, Done, TOO_LITTLE};
use crate::checks::Checks;
use crate::parties::Party;
use crate::rng::Rng;
use crate::setup::{cast, spec};

/// Something at a time. What belongs to a process carries its number: a crash loses it.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Wake(usize),
    Deliver(PublicKey, Message),
    Do {
        name: String,
        process: u32,
    },
    Outcome {
        name: String,
        event: Event,
        process: u32,
    },
    Tick,
    /// What was due when the clock was looked at, and is told only now.
    Due(Event),
    Operator,
    Crash,
    Restart,
    Fair,
}

/// When every run is opened, in seconds since 1970.
const START: u64 = 1_000_000;

/// More than any run needs, so that one which goes in circles is found.
const MOST: u32 = 30_000;

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) kind: Kind,
    trace: bool,
    pub(crate) now: u64,
    queue: BTreeMap<(u64, u64), Item>,
    queued: u64,
    pub(crate) run: Run,
    journal: Vec<(Event, u64)>,
    /// The run as it was kept after so many events.
    kept: Option<(usize, Vec<u8>)>,
    effects: Vec<Effect>,
    undone: BTreeMap<String, Effect>,
    process: u32,
    down: bool,
    /// When faults ended.
    pub(crate) fair: Option<u64>,
    pub(crate) book: Book,
    pub(crate) checks: Checks,
    told: Runs,
    pub(crate) parties: Vec<Party>,
    pub(crate) heard: BTreeMap<PublicKey, u64>,
    pub(crate) sent: Vec<(PublicKey, Message)>,
}

impl World {
    pub(crate) fn new(seed: u64, kind: Kind, trace: bool) -> Self {
        let mut rng = Rng::new(seed);
        let spec = spec(&mut rng, kind);
        let signed = Envelope::sign(&spec, &cast().coordinator).unwrap();
        let (run, effects) = Run::open_run(&spec, &signed, START).unwrap();
        let parties = Party::all(&mut rng, kind, spec.committee.len());
        let mut world = Self {
            rng,
            kind,
            trace,
            now: START,
            queue: BTreeMap::new(),
            queued: 0,
            run,
            journal: Vec::new(),
            kept: None,
            effects: Vec::new(),
            undone: BTreeMap::new(),
            process: 0,
            down: false,
            fair: None,
            book: Book::default(),
            checks: Checks::default(),
            told: Runs::default(),
            parties,
            heard: BTreeMap::new(),
            sent: Vec::new(),
        };
        world.checks.liars = world.parties.iter().filter_map(Party::is_liar).collect();
        world.checks.effects(&effects);
        for effect in &effects {
            world.record(effect, None);
        }
        world.call_for(effects);
        for index in 0..world.parties.len() {
            world.soon(Item::Wake(index), 1, 100);
        }
        world.soon(Item::Tick, 1, 10);
        world.soon(Item::Operator, 100, 3_000);
        world.soon(Item::Crash, 10, 3_000);
        world.soon(Item::Fair, 1_500, 6_000);
        world
    }

    /// Events taken, and whether every round was played.
    pub(crate) fn play(mut self) -> (usize, FinalState) {
        let mut after_end = 0;
        for _ in 0..MOST {
            let Some(((at, _), item)) = self.queue.pop_first() else { break };
            self.now = self.now.max(at);
            self.handle(item);
            if matches!(self.run.phase, Phase::Ended { .. }) {
                after_end += 1;
            }
            // A while longer: nothing that comes late may change how it ended.
            if after_end > 60 {
                break;
            }
        }
        let how = match &self.run.phase {
            Phase::Ended { how } => Some(how),
            _ => None,
        };
        assert!(how.is_some(), "it did not end: {:?} {:?}", self.run.phase, self.run.round);
        self.checks.end(&self.run, &self.book);
        let unfunded = FinalState::Cancelled { reason: TOO_LITTLE.to_owned() };
        let finished = how == Some(&FinalState::Finished);
        let planned = finished || how == Some(&unfunded) || how == Some(&FinalState::Exhausted);
        assert!(planned || self.kind != Kind::Honest, "all were honest, and it ended so: {how:?}");
        assert_eq!(self.told.runs[&self.run.id].ended.as_ref(), how, "the record ends otherwise");
        (self.journal.len(), how.cloned().unwrap())
    }

    /// The record as whoever audits it follows it. Receipts are looked at where messages come in.
    fn record(&mut self, effect: &Effect, event: Option<&Event>) {
        let Effect::Record(entry) = effect else { return };
        let followed = match (&**entry, event) {
            (Entry::Message { .. }, Some(Event::Said { message: Message::Receipts { .. }, .. })) => Ok(()),
            (Entry::Message { .. }, Some(Event::Said { signer, message, .. })) => {
                self.told.said(*signer, message.clone())
            }
            (entry, _) => self.told.entry(entry.clone()),
        };
        assert_eq!(followed, Ok(()), "{entry:?} of {event:?}");
    }

    pub(crate) fn soon(&mut self, item: Item, least: u64, most: u64) {
        self.queued += 1;
        let at = self.now + self.rng.between(least, most);
        self.queue.insert((at, self.queued), item);
    }

    /// On its way; perhaps lost, late or twice.
    pub(crate) fn send(&mut self, signer: PublicKey, message: Message) {
        if self.sent.len() < 100 {
            self.sent.push((signer, message.clone()));
        }
        if self.fair.is_some() {
            return self.soon(Item::Deliver(signer, message), 1, 5);
        }
        let times = match self.rng.below(100) {
            0..15 => 0,
            15..25 => 2,
            _ => 1,
        };
        for _ in 0..times {
            let most = if self.rng.chance(5) { 1_500 } else { 30 };
            self.soon(Item::Deliver(signer, message.clone()), 1, most);
        }
    }

    fn handle(&mut self, item: Item) {
        match item {
            Item::Wake(index) => self.wake(index),
            Item::Deliver(signer, message) => {
                self.tell(Event::Said { signer, message, envelope: cast().envelope.clone() });
            }
            Item::Do { name, process } => self.carry_out(&name, process),
            Item::Outcome { name, event, process } => {
                if process == self.process && self.tell(event) {
                    self.undone.remove(&name);
                }
            }
            Item::Tick => self.tick(),
            Item::Due(event) => {
                self.tell(event);
            }
            Item::Operator => self.operate(),
            Item::Crash => {
                if self.fair.is_none() {
                    self.crash();
                }
            }
            Item::Restart => {
                self.down = false;
                self.resume();
            }
            Item::Fair => {
                self.fair = Some(self.now);
                self.down = false;
                self.resume();
            }
        }
    }

    /// Takes an event if the coordinator is up. A refused one must leave no trace.
    pub(crate) fn tell(&mut self, event: Event) -> bool {
        if self.down {
            return false;
        }
        let before = self.run.clone();
        let effects = match self.run.apply(&event, self.now) {
            Ok(effects) => effects,
            Err(refusal) => {
                self.note(|| format!("refused {event:?}: {refusal}"));
                assert_eq!(self.run, before, "a refused event changed the run: {event:?}");
                return refusal == Refusal::Known;
            }
        };
        self.note(|| format!("{event:?} -> {effects:?}"));
        self.checks.after(&before, &event, &self.run, &effects, self.now);
        self.checks.effects(&effects);
        self.checks.nodes(&effects, &self.book);
        for effect in &effects {
            self.record(effect, Some(&event));
        }
        if self.rng.chance(20) {
            self.checks.again(&event, &self.run, self.now);
        }
        self.journal.push((event, self.now));
        if self.rng.chance(2) {
            self.kept = Some((self.journal.len(), self.run.kept().unwrap()));
        }
        self.call_for(effects);
        true
    }

    fn note(&self, text: impl FnOnce() -> String) {
        if self.trace {
            println!("{} {:?} {}", self.now, self.run.round.as_ref().map(|r| (r.number, r.stage)), text());
        }
    }

    fn call_for(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            if let Some(name) = effect.name() {
                self.undone.insert(name.clone(), effect.clone());
                let process = self.process;
                self.soon(Item::Do { name, process }, 0, 20);
            }
            self.effects.push(effect);
        }
    }

    fn carry_out(&mut self, name: &str, process: u32) {
        if process != self.process {
            return;
        }
        let Some(effect) = self.undone.get(name).cloned() else { return };
        let fair = self.fair.is_some();
        let done = self.book.carry_out(&effect, &self.run, self.now, &mut self.rng, fair);
        match done {
            Done::Event(event) => {
                // Some outcomes are late, some come twice, and now and then a task hangs until the next start.
                let times =
                    if fair { 1 } else { [0, 1, 1, 1, 1, 1, 1, 1, 2, 2][self.rng.below(10) as usize] };
                for _ in 0..times {
                    let most = if !fair && self.rng.chance(10) { 900 } else { 20 };
                    let (name, event) = (name.to_owned(), (*event).clone());
                    self.soon(Item::Outcome { name, event, process }, 0, most);
                }
                if times == 2 {
                    self.soon(Item::Do { name: name.to_owned(), process }, 1, 60);
                }
            }
            Done::Quiet => {
                if fair || self.rng.chance(80) {
                    self.undone.remove(name);
                }
            }
            Done::Wait => self.soon(Item::Do { name: name.to_owned(), process }, 50, 400),
        }
    }

    fn tick(&mut self) {
        self.soon(Item::Tick, 5, 60);
        if self.fair.is_none() && self.rng.chance(1) {
            self.now += self.rng.between(100, 2_000);
        }
        if self.down {
            return;
        }
        if let Some(round) = self.run.round.as_ref().filter(|_| self.rng.chance(3)) {
            // A deadline of which somebody's clock says that it has passed.
            let (round, until) = (round.number, round.until);
            self.tell(Event::Deadline { round, until });
        }
        let live: Vec<PublicKey> =
            self.heard.iter().filter(|(_, at)| **at + 400 > self.now).map(|(key, _)| *key).collect();
        if let Some(event) = self.run.gone(self.now, &live, 300, 3_000) {
            assert!(self.tell(event.clone()), "what was due is refused: {event:?}");
            assert_ne!(self.run.gone(self.now, &live, 300, 3_000), Some(event), "it is due for ever");
        }
        if let Some(event) = self.run.due(self.now, &live) {
            if self.fair.is_none() && self.rng.chance(10) {
                return self.soon(Item::Due(event), 1, 300);
            }
            assert!(self.tell(event.clone()), "what was due is refused: {event:?}");
            assert_ne!(self.run.due(self.now, &live), Some(event), "it is due for ever");
        }
    }

    /// The process dies: what was under way is lost, and the run is what its journal makes of it.
    fn crash(&mut self) {
        self.process += 1;
        self.down = true;
        let (mut run, mut effects) = Run::open_run(&self.run.spec, &self.run.signed, START).unwrap();
        for (event, at) in &self.journal {
            effects.extend(run.apply(event, *at).unwrap());
        }
        assert_eq!(run, self.run, "replayed, it is another run");
        assert_eq!(effects, self.effects, "replayed, it asks for other things");
        if let Some((events, kept)) = &self.kept {
            let mut run = Run::restored(kept).unwrap();
            for (event, at) in &self.journal[*events..] {
                run.apply(event, *at).unwrap();
            }
            assert_eq!(run, self.run, "replayed from what was kept, it is another run");
        }
        self.run = run;
        self.note(|| "crash".to_owned());
        self.soon(Item::Restart, 1, 300);
        let most = if self.kind == Kind::Silent { 900 } else { 4_000 };
        self.soon(Item::Crash, 300, most);
    }

    fn resume(&mut self) {
        for name in self.undone.keys().cloned().collect::<Vec<_>>() {
            let process = self.process;
            self.soon(Item::Do { name, process }, 0, 30);
        }
    }
}
