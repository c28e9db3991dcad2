//! All runs of a coordinator, and the one thread that changes them.
//!
//! Events are taken in batches: each is applied, the batch is written down in one transaction, and only then are the
//! senders answered and the effects started. If the journal cannot be written, the state is read from it again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, mpsc};
use std::time::{SystemTime, UNIX_EPOCH};

use thiserror::Error;
use tokio::sync::{mpsc as channel, oneshot, watch};
use watershed_protocol::market::{Message, RunSpec};
use watershed_protocol::{AssignmentId, Envelope, PublicKey, RunId};

use crate::journal::{Journal, JournalError, Row};
use crate::machine::{Effect, Event, Phase, Refusal, Run, Stage};

/// Most events of one transaction.
const BATCH: usize = 256;

/// Events after which the runs are kept as they are.
pub const KEEP: usize = 5_000;

/// Seconds after which a miner that was not heard of is not given work.
pub const LIVE: u64 = 45;

/// Why an event was not taken.
#[derive(Clone, Debug, Error)]
pub enum MarketError {
    /// By the run.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No such run.
    #[error("there is no run {0} here")]
    NoRun(RunId),
    /// Not a specification.
    #[error("the specification is not signed by this coordinator")]
    NotASpecification,
    /// The disk.
    #[error("{0}")]
    Journal(String),
    /// It is being stopped.
    #[error("the coordinator is stopping")]
    Stopping,
}

/// An effect to be carried out.
#[derive(Debug)]
pub struct Todo {
    /// For which run.
    pub run: RunId,
    /// What.
    pub effect: Effect,
}

/// How many seconds the clock of whoever signs the time may differ from the coordinator's.
pub const FRESH: u64 = 600;

/// What the journal holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// Events that were taken.
    pub events: u64,
    /// Effects that are not done.
    pub pending: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

enum Work {
    Event {
        run: RunId,
        event: Box<Event>,
        done: Option<String>,
        reply: oneshot::Sender<Result<(), MarketError>>,
    },
    Done {
        run: RunId,
        name: String,
    },
    Look(oneshot::Sender<Result<Numbers, MarketError>>),
}

type Runs = BTreeMap<RunId, Run>;

/// A miner that was heard of.
#[derive(Debug)]
struct Seen {
    at: u64,
    /// What it last said about when it was there, in milliseconds.
    said: u64,
    news: watch::Sender<u64>,
}

impl Seen {
    fn nothing() -> Self {
        Self { at: 0, said: 0, news: watch::Sender::new(0) }
    }
}

type SeenMiners = Mutex<HashMap<(RunId, PublicKey), Seen>>;

/// Who has to look again: a run, and which of its miners, or all.
type Concerned = BTreeSet<(RunId, Option<PublicKey>)>;

/// A handle to all runs.
#[derive(Clone, Debug)]
pub struct Market {
    runs: Arc<RwLock<Runs>>,
    seen: Arc<SeenMiners>,
    work: mpsc::Sender<Work>,
    changed: Arc<watch::Sender<u64>>,
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// The only miner that an event concerns; none if it may concern all.
fn concerns(run: &Run, event: &Event) -> Option<PublicKey> {
    let of = |id: &AssignmentId| run.works.get(id).map(|w| w.assignment.miner);
    match event {
        Event::Said { signer, message, .. } => message.subject().map_or(Some(*signer), |id| of(&id)),
        Event::Channel { miner, .. } | Event::FeePaid { miner, .. } => Some(*miner),
        Event::Offered { assignment, .. }
        | Event::LockTried { assignment, .. }
        | Event::Confirmed { assignment, .. }
        | Event::EscrowEnded { assignment, .. } => of(assignment),
        _ => None,
    }
}

/// What all miners of a run are shown: whatever changes it concerns all.
fn shown_to_all(run: &Run) -> (std::mem::Discriminant<Phase>, Option<(u32, Stage)>, u64) {
    let round = run.round.as_ref().map(|r| (r.number, r.stage));
    (std::mem::discriminant(&run.phase), round, run.next_sequence)
}

/// As [`apply_to`], and says who has to look again.
fn take(
    runs: &mut Runs,
    run: RunId,
    event: &Event,
    now: u64,
    concerned: &mut Concerned,
) -> Result<Vec<Effect>, MarketError> {
    let before = runs.get(&run).map(|r| (shown_to_all(r), concerns(r, event)));
    let effects = apply_to(runs, run, event, now)?;
    let whom = match (before, runs.get(&run)) {
        (Some((shown, whom)), Some(after)) if shown == shown_to_all(after) => whom,
        _ => None,
    };
    concerned.insert((run, whom));
    Ok(effects)
}

fn wake(seen: &SeenMiners, concerned: &Concerned) {
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let tell = |s: &Seen| s.news.send_modify(|n| *n = n.wrapping_add(1));
    for (run, whom) in concerned {
        match whom {
            Some(miner) => seen.get(&(*run, *miner)).into_iter().for_each(tell),
            None => seen.iter().filter(|((of, _), _)| of == run).for_each(|(_, s)| tell(s)),
        }
    }
}

fn apply_to(runs: &mut Runs, run: RunId, event: &Event, now: u64) -> Result<Vec<Effect>, MarketError> {
    if let Event::Open { spec: envelope } = event {
        if runs.contains_key(&run) {
            return Err(Refusal::Known.into());
        }
        let spec = envelope.open::<RunSpec>().map_err(|_| MarketError::NotASpecification)?.into_value();
        let (new, effects) = Run::open_run(&spec, envelope, now)?;
        runs.insert(run, new);
        return Ok(effects);
    }
    let run = runs.get_mut(&run).ok_or(MarketError::NoRun(run))?;
    Ok(run.apply(event, now)?)
}

/// All runs, and how many events were read for them.
fn load(journal: &Journal) -> Result<(Runs, usize), JournalError> {
    let (mut after, states) = journal.states()?;
    let restored = states.iter().map(|(id, body)| Some((*id, Run::restored(body)?)));
    let mut runs = restored.collect::<Option<Runs>>().unwrap_or_default();
    if runs.is_empty() {
        after = 0;
    }
    let mut read = 0;
    // What was taken once is taken again: refusals are not written down.
    journal.events(after, &mut |run, at, event| {
        read += 1;
        drop(apply_to(&mut runs, run, &event, at));
    })?;
    Ok((runs, read))
}

/// Keeps all runs as they are, so that the next start has less to read. Costs time and nothing else if it fails.
fn keep(journal: &mut Journal, runs: &RwLock<Runs>) -> Result<(), Box<dyn std::error::Error>> {
    let states = {
        let runs = runs.read().unwrap_or_else(PoisonError::into_inner);
        runs.iter().map(|(id, run)| Ok((*id, run.kept()?))).collect::<Result<Vec<_>, serde_json::Error>>()?
    };
    Ok(journal.keep_states(journal.event_count()?, &states)?)
}

impl Market {
    /// Reads the journal and starts the thread. Effects that are not done come first out of the channel.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open(path: &Path) -> Result<(Self, channel::UnboundedReceiver<Todo>), JournalError> {
        let journal = Journal::open(path)?;
        let (read, since) = load(&journal)?;
        let runs = Arc::new(RwLock::new(read));
        let (todo, effects) = channel::unbounded_channel();
        for (run, effect) in journal.undone()? {
            let _ = todo.send(Todo { run, effect });
        }
        let (work, requests) = mpsc::channel();
        let (seen, changed) = (Arc::<SeenMiners>::default(), Arc::new(watch::Sender::new(0)));
        let market =
            Self { runs: Arc::clone(&runs), seen: Arc::clone(&seen), work, changed: Arc::clone(&changed) };
        std::thread::spawn(move || serve(journal, since, &runs, &requests, &todo, (&changed, &seen)));
        Ok((market, effects))
    }

    /// Looks at all runs.
    pub fn runs(&self) -> RwLockReadGuard<'_, Runs> {
        self.runs.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at one run.
    ///
    /// # Errors
    /// [`MarketError::NoRun`].
    pub fn with<T>(&self, run: RunId, look: impl FnOnce(&Run) -> T) -> Result<T, MarketError> {
        self.runs().get(&run).map(look).ok_or(MarketError::NoRun(run))
    }

    /// A number that changes with every event.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Notes that a miner is there. The number changes with every event that concerns it: if each of a thousand miners looked
    /// at every event of all others, little else would be done.
    pub fn saw(&self, run: RunId, miner: PublicKey) -> watch::Receiver<u64> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = seen.entry((run, miner)).or_insert_with(Seen::nothing);
        seen.at = now();
        seen.news.subscribe()
    }

    /// As [`Market::saw`], by the miner's own word that it was there at `at`, in milliseconds since 1970; none if that word
    /// is an old one.
    pub fn present(&self, run: RunId, miner: PublicKey, at: u64) -> Option<watch::Receiver<u64>> {
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let seen = seen.entry((run, miner)).or_insert_with(Seen::nothing);
            if at <= seen.said {
                return None;
            }
            seen.said = at;
        }
        Some(self.saw(run, miner))
    }

    /// Miners that were heard of lately.
    pub fn live(&self, run: RunId) -> Vec<PublicKey> {
        let oldest = now().saturating_sub(LIVE);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever forgot a word too soon would take it again.
        let fresh = now().saturating_sub(FRESH) * 1000;
        seen.retain(|_, s| s.at >= oldest || s.said >= fresh);
        let live = seen.iter().filter(|((of, _), s)| *of == run && s.at >= oldest);
        live.map(|((_, key), _)| *key).collect()
    }

    async fn tell(&self, run: RunId, event: Event, done: Option<String>) -> Result<(), MarketError> {
        let (reply, answer) = oneshot::channel();
        self.work
            .send(Work::Event { run, event: Box::new(event), done, reply })
            .map_err(|_| MarketError::Stopping)?;
        answer.await.map_err(|_| MarketError::Stopping)?
    }

    /// Something happened.
    ///
    /// # Errors
    /// [`MarketError`].
    pub async fn happened(&self, run: RunId, event: Event) -> Result<(), MarketError> {
        self.tell(run, event, None).await
    }

    /// A signed message arrived.
    ///
    /// # Errors
    /// [`MarketError`].
    pub async fn said(
        &self,
        run: RunId,
        signer: PublicKey,
        message: Message,
        envelope: Envelope,
    ) -> Result<(), MarketError> {
        self.tell(run, Event::Said { signer, message, envelope }, None).await
    }

    /// An effect is done, with this outcome.
    ///
    /// # Errors
    /// [`MarketError`].
    pub async fn outcome(&self, run: RunId, effect: &Effect, event: Event) -> Result<(), MarketError> {
        self.tell(run, event, effect.name()).await
    }

    /// Whether the journal can be written, and what it holds.
    ///
    /// # Errors
    /// [`MarketError::Journal`] and [`MarketError::Stopping`].
    pub async fn numbers(&self) -> Result<Numbers, MarketError> {
        let (reply, answer) = oneshot::channel();
        self.work.send(Work::Look(reply)).map_err(|_| MarketError::Stopping)?;
        answer.await.map_err(|_| MarketError::Stopping)?
    }

    /// An effect that has no outcome is done.
    pub fn done(&self, run: RunId, effect: &Effect) {
        if let Some(name) = effect.name() {
            let _ = self.work.send(Work::Done { run, name });
        }
    }
}

fn numbers(journal: &Journal) -> Result<Numbers, JournalError> {
    journal.check()?;
    let (events, pending) = (journal.event_count()?, journal.undone_count()?);
    Ok(Numbers { events, pending, bytes: journal.bytes()? })
}

fn serve(
    mut journal: Journal,
    mut since: usize,
    runs: &RwLock<Runs>,
    requests: &mpsc::Receiver<Work>,
    todo: &channel::UnboundedSender<Todo>,
    (changed, seen): (&watch::Sender<u64>, &SeenMiners),
) {
    loop {
        if since >= KEEP {
            since = 0;
            if let Err(e) = keep(&mut journal, runs) {
                eprintln!("the state of the runs could not be kept, and the next start takes longer: {e}");
            }
        }
        let Ok(first) = requests.recv() else { return };
        let mut batch = vec![first];
        while batch.len() < BATCH
            && let Ok(next) = requests.try_recv()
        {
            batch.push(next);
        }
        let at = now();
        let mut taken = Vec::new();
        let (mut answers, mut finished, mut concerned) = (Vec::new(), Vec::new(), Concerned::new());
        let mut looks = Vec::new();
        {
            let mut runs = runs.write().unwrap_or_else(PoisonError::into_inner);
            for work in batch {
                match work {
                    Work::Event { run, event, done, reply } => {
                        match take(&mut runs, run, &event, at, &mut concerned) {
                            Ok(effects) => {
                                taken.push((run, event, effects, done));
                                answers.push((reply, Ok(())));
                            }
                            // Nothing new is well, and leaves no trace.
                            Err(MarketError::Refused(Refusal::Known)) => {
                                finished.extend(done.map(|name| (run, name)));
                                answers.push((reply, Ok(())));
                            }
                            Err(e) => answers.push((reply, Err(e))),
                        }
                    }
                    // If it is lost, the effect is done again.
                    Work::Done { run, name } => finished.push((run, name)),
                    Work::Look(reply) => looks.push(reply),
                }
            }
            let rows: Vec<Row<'_>> = taken
                .iter()
                .map(|(run, event, effects, done)| Row {
                    run: *run,
                    at,
                    event,
                    effects,
                    done: done.as_deref(),
                })
                .collect();
            if !(rows.is_empty() && finished.is_empty())
                && let Err(e) = journal.append(&rows, &finished)
            {
                eprintln!("{e}");
                for (_, answer) in &mut answers {
                    *answer = Err(MarketError::Journal(e.to_string()));
                }
                taken.clear();
                match load(&journal) {
                    Ok((read, _)) => *runs = read,
                    Err(e) => {
                        // Neither written nor read: whoever asks is told that the coordinator stops.
                        eprintln!("{e}");
                        return;
                    }
                }
            }
        }
        for (reply, answer) in answers {
            let _ = reply.send(answer);
        }
        for reply in looks {
            let _ = reply.send(numbers(&journal).map_err(|e| MarketError::Journal(e.to_string())));
        }
        since += taken.len();
        if !taken.is_empty() {
            changed.send_modify(|n| *n = n.wrapping_add(1));
            wake(seen, &concerned);
        }
        for (run, _, effects, _) in taken {
            for effect in effects.into_iter().filter(|e| e.name().is_some()) {
                let _ = todo.send(Todo { run, effect });
            }
        }
    }
}
