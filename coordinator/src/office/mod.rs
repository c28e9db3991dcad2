//! Carries out what runs ask for: money, computing, and the public log.

mod compute;
mod falsehood;
mod fees;
mod money;
mod record;
mod refunds;
mod rule;
mod treasury;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use watershed_protocol::market::Stepped;
use watershed_protocol::{AssignmentId, Msat, RunId, without_paths};

use crate::blobs::Blobs;
use crate::machine::{AWAY, Effect, Event, LEFT, Phase, Run, Work, WorkStage};
use crate::market::{Market, MarketError, Todo, now};

pub use compute::Computer;
pub use falsehood::Falsehood;
pub use money::{Campaign, Funds, Money, MoneyError, Refunded, Unpaid};
pub use record::Recorder;
pub use treasury::TreasuryMoney;

/// How often the clock is looked at.
const TICK: Duration = Duration::from_millis(200);

/// Wait before something that failed is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// Wait before channels that have locked lots are looked at again.
const AGAIN_PART: Duration = Duration::from_secs(10);

/// How often miners are looked for whose channels are not needed any more.
const PARTING: Duration = Duration::from_secs(60);

/// Channels that are opened or closed at the same time.
const CHANNELS: usize = 8;

/// Everything that effects need.
pub struct Office<M> {
    /// The runs.
    pub market: Market,
    /// The wallet and its books.
    pub money: M,
    /// The blobs.
    pub blobs: Blobs,
    /// Models.
    pub computer: Computer,
    /// None for a coordinator that does what it should.
    pub falsehood: Option<Falsehood>,
    /// Takes turns at opening and closing channels.
    channels: Semaphore,
}

impl<M> std::fmt::Debug for Office<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Office").finish_non_exhaustive()
    }
}

impl<M: Money> Office<M> {
    /// An office.
    pub fn new(
        market: Market,
        money: M,
        blobs: Blobs,
        computer: Computer,
        falsehood: Option<Falsehood>,
    ) -> Arc<Self> {
        Arc::new(Self { market, money, blobs, computer, falsehood, channels: Semaphore::new(CHANNELS) })
    }

    /// Carries out effects until the channel closes. Dropping the future loses nothing: what is not done is done after the
    /// next start.
    pub async fn run(self: Arc<Self>, mut effects: mpsc::UnboundedReceiver<Todo>) {
        let mut tasks = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                todo = effects.recv() => match todo {
                    Some(Todo { run, effect }) => {
                        let office = Arc::clone(&self);
                        tasks.spawn(async move { office.carry_out(run, effect).await });
                    }
                    None => return,
                },
                Some(_) = tasks.join_next() => {}
            }
        }
    }

    /// Watches the clock.
    pub async fn tick(&self) {
        let runs: Vec<RunId> = self.market.runs().keys().copied().collect();
        for run in runs {
            // What a sponsor claimed just before the last process ended.
            if let Err(e) = self.note_refunds(run).await {
                eprintln!("{e}");
            }
        }
        let mut parted = tokio::time::Instant::now();
        loop {
            tokio::time::sleep(TICK).await;
            // Whoever is there has been heard of by the first time.
            let part = parted.elapsed() > PARTING;
            if part {
                parted = tokio::time::Instant::now();
            }
            let due: Vec<(RunId, Event)> = {
                let (runs, now) = (self.market.runs(), now());
                let of = |(id, run): (&RunId, &Run)| {
                    let live = self.market.live(*id);
                    let gone = || run.gone(now, &live, LEFT, AWAY).filter(|_| part);
                    Some((*id, run.due(now, &live).or_else(gone)?))
                };
                runs.iter().filter_map(of).collect()
            };
            for (run, event) in due {
                if let Err(e) = self.market.happened(run, event).await {
                    eprintln!("{e}");
                }
            }
        }
    }

    async fn carry_out(&self, run: RunId, effect: Effect) {
        let mut said = false;
        let (again, wait) = match effect {
            Effect::Channel { .. } | Effect::Part { .. } => (AGAIN_PART, true),
            _ => (AGAIN, false),
        };
        loop {
            // A thousand that join at once are not a thousand transactions at once.
            let turn = if wait { self.channels.acquire().await.ok() } else { None };
            match self.try_once(run, &effect).await {
                Ok(None) => return self.market.done(run, &effect),
                Ok(Some(event)) => match self.market.outcome(run, &effect, event).await {
                    Ok(()) => return,
                    Err(MarketError::Stopping) => return,
                    Err(e) => eprintln!("{}: {e}", effect.name().unwrap_or_default()),
                },
                Err(e) => {
                    if !std::mem::replace(&mut said, true) {
                        eprintln!("{} is tried again: {e}", effect.name().unwrap_or_default());
                    }
                }
            }
            drop(turn);
            tokio::time::sleep(again).await;
        }
    }

    fn work(&self, run: RunId, assignment: AssignmentId) -> Result<Option<(Work, String)>, MarketError> {
        self.market.with(run, |run| {
            let work = run.works.get(&assignment)?.clone();
            let node = run.miners.get(&work.assignment.miner)?.node.clone();
            Some((work, node))
        })
    }

    /// Does an effect; an error means that it should be tried again.
    async fn try_once(&self, run: RunId, effect: &Effect) -> Result<Option<Event>, MoneyError> {
        // What becomes of an effect is shown to everybody: names of this machine's files are for its operator.
        let shown = |text: String| {
            let public = without_paths(&text);
            if public != text {
                eprintln!("{}: {text}", effect.name().unwrap_or_default());
            }
            public
        };
        let text = |e: MoneyError| shown(e.to_string());
        let spec = self.market.with(run, |r| r.spec.clone())?;
        Ok(match effect {
            Effect::Record(_) => None,
            Effect::Campaign => Some(match self.money.campaign(run, &spec).await? {
                Campaign::Funded(pledges) => Event::Funded { pledges },
                Campaign::Over(reason) => Event::Unfunded { reason },
            }),
            Effect::CancelCampaign { reason } => {
                self.money.cancel_campaign(run, reason).await?;
                None
            }
            // It may have ended meanwhile because this failed for too long.
            Effect::Prepare if self.market.with(run, |r| r.phase != Phase::Preparing)? => None,
            Effect::Prepare => {
                let (text, first) = self.computer.prepare(run, &spec, &self.blobs).await?;
                Some(Event::Prepared { text, first })
            }
            Effect::Channel { miner, version } => {
                let node = self.market.with(run, |r| r.miners.get(miner).map(|m| m.node.clone()))?;
                let Some(node) = node else { return Ok(None) };
                let largest = spec.reward.most(spec.rounds.max_size);
                let lots = spec.committee.len() * spec.reward.tiers as usize;
                let result = self.money.channel(&node, largest.unwrap_or_default(), lots).await.map_err(text);
                Some(Event::Channel { miner: *miner, version: *version, result })
            }
            Effect::Part { node, .. } => {
                if !self.is_wanted(node) {
                    self.money.part(node).await?;
                }
                None
            }
            Effect::Offer { assignment } => {
                let Some((work, node)) = self.work(run, *assignment)? else { return Ok(None) };
                let result = if work.stage == WorkStage::Offering {
                    self.money.offer(run, &spec, *assignment, &work, &node).await.map_err(text)
                } else {
                    Ok(())
                };
                Some(Event::Offered { assignment: *assignment, result })
            }
            Effect::Lock { assignment, invoices } => {
                let Some((work, _)) = self.work(run, *assignment)? else { return Ok(None) };
                let result = if work.stage == WorkStage::Locking {
                    self.money.lock(*assignment, invoices).await.map_err(text)
                } else {
                    Ok(())
                };
                Some(Event::LockTried { assignment: *assignment, result })
            }
            Effect::Confirm { assignment, reports } => {
                let result = self.money.confirm(*assignment, reports).await.map_err(text);
                Some(Event::Confirmed { assignment: *assignment, result })
            }
            Effect::Withdraw { assignment } => {
                self.money.withdraw(*assignment).await?;
                None
            }
            Effect::Watch { assignment } => {
                let dropped = || {
                    let stage = self.work(run, *assignment).ok().flatten().map(|(w, _)| w.stage);
                    !matches!(stage, Some(WorkStage::Locking))
                };
                let (settled, back) = self.money.ended(*assignment, &dropped).await?;
                Some(Event::EscrowEnded { assignment: *assignment, settled, back })
            }
            Effect::Fee { assignment, validator } => {
                self.money.fee(run, &spec, *assignment, *validator).await?;
                None
            }
            Effect::Rule { assignment, .. } => {
                let result = self.rule(run, *assignment).await;
                let result = result.map_err(|e| shown(format!("the ruling on {assignment} failed: {e}")));
                Some(Event::Ruled { assignment: *assignment, result })
            }
            Effect::Step { round, accepted, .. } => {
                let stepped = self.step(run, *round, accepted).await;
                let result =
                    stepped.map_err(|e| shown(format!("the outer step of round {round} failed: {e}")));
                Some(Event::Advanced { round: *round, result })
            }
            Effect::Discard { since, blobs, .. } => {
                for blob in blobs {
                    // One file may have been opened in two runs: the one that needs it tells of it.
                    if !self.market.runs().values().any(|run| run.is_needed(*blob)) {
                        self.blobs.discard(*blob, *since).await?;
                    }
                }
                None
            }
            Effect::JoiningFee { miner } => {
                self.money.book_joining_fee(run, &spec, *miner)?;
                None
            }
            Effect::Refunds => {
                let done = self.money.pay_refunds(run).await;
                self.note_refunds(run).await?;
                if !done? {
                    return Err(MoneyError::Other("some sponsors could not be paid yet".to_owned()));
                }
                None
            }
            Effect::Finish => {
                let state = |r: &Run| (r.totals, r.purse.joined.clone(), r.due_to_miners());
                let (sums, joined, due) = self.market.with(run, state)?;
                // Whatever of it was not carried out yet.
                for miner in joined.keys() {
                    self.money.book_joining_fee(run, &spec, *miner)?;
                }
                let left = self.money.finish(run, &spec, sums.pledged, &due).await?;
                Some(Event::Finished { left })
            }
        })
    }

    /// Whether somebody works with this node, in any run, or holds rewards in it. A peer has one name, wherever it listens.
    fn is_wanted(&self, node: &str) -> bool {
        let name = |node: &str| node.split('@').next().unwrap_or_default().to_lowercase();
        let (runs, wanted) = (self.market.runs(), name(node));
        let mut miners = runs.values().flat_map(|run| run.miners.values().map(move |m| (run, m)));
        miners.any(|(run, m)| {
            let locked = || m.works.iter().filter_map(|id| run.works.get(id)).any(|w| w.escrow_open);
            name(&m.node) == wanted && (m.asked != 0 || locked())
        })
    }

    /// Tells a run that is over of payments to sponsors that it has not heard of.
    ///
    /// # Errors
    /// Those of the books and the run.
    pub async fn note_refunds(&self, run: RunId) -> Result<(), MoneyError> {
        let over = |r: &Run| matches!(r.phase, Phase::Ended { .. }).then(|| r.purse.refunded.clone());
        let Some(known) = self.market.with(run, over)? else { return Ok(()) };
        for Refunded { pledge, payment, amount } in self.money.refunds(run)? {
            if !known.contains_key(&payment) {
                self.market.happened(run, Event::Refunded { pledge, payment, amount }).await?;
            }
        }
        Ok(())
    }

    async fn step(&self, run: RunId, round: u32, accepted: &[AssignmentId]) -> Result<Stepped, MoneyError> {
        let (spec, checkpoint, submissions) = self.market.with(run, |r| {
            let works = accepted.iter().filter_map(|id| {
                let work = r.works.get(id)?;
                Some((work.commitment.as_ref()?.submission, work.gain(), work.reveal.as_ref()?.blob))
            });
            (r.spec.clone(), r.checkpoint().cloned(), works.collect::<Vec<_>>())
        })?;
        let checkpoint = checkpoint.ok_or_else(|| MoneyError::Other("there is no checkpoint".to_owned()))?;
        let left_out = usize::from(self.falsehood == Some(Falsehood::DropSubmission) && accepted.len() > 1);
        let (accepted, submissions) = (&accepted[left_out..], &submissions[left_out..]);
        self.computer.step(run, &spec, round, &checkpoint, accepted, submissions, &self.blobs).await
    }
}

/// Adds amounts; what would overflow stays at its largest.
pub(crate) fn sum(amounts: impl Iterator<Item = Msat>) -> Msat {
    amounts.fold(Msat::ZERO, |sum, a| sum.checked_add(a).unwrap_or(Msat::new(u64::MAX)))
}
