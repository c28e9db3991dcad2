//! Carries out what runs ask for: money, computing, and the public log.

mod compute;
mod falsehood;
mod money;
mod record;
mod treasury;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use watershed_protocol::market::Stepped;
use watershed_protocol::{AssignmentId, Msat, RunId};

use crate::blobs::Blobs;
use crate::machine::{Effect, Event, Run, Work, WorkStage};
use crate::market::{Market, MarketError, Todo, now};

pub use compute::Computer;
pub use falsehood::Falsehood;
pub use money::{Campaign, Money, MoneyError};
pub use record::Recorder;
pub use treasury::TreasuryMoney;

/// How often the clock is looked at.
const TICK: Duration = Duration::from_millis(200);

/// Wait before something that failed is tried again.
const AGAIN: Duration = Duration::from_secs(2);

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
}

impl<M> std::fmt::Debug for Office<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Office").finish_non_exhaustive()
    }
}

impl<M: Money> Office<M> {
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
        loop {
            tokio::time::sleep(TICK).await;
            let due: Vec<(RunId, Event)> = {
                let runs = self.market.runs();
                let of = |(id, run): (&RunId, &Run)| Some((*id, run.due(now(), &self.market.live(*id))?));
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
        loop {
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
            tokio::time::sleep(AGAIN).await;
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
        let text = |e: MoneyError| e.to_string();
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
            Effect::Prepare => {
                let (text, first) = self.computer.prepare(run, &spec, &self.blobs).await?;
                Some(Event::Prepared { text, first })
            }
            Effect::Channel { miner, version } => {
                let node = self.market.with(run, |r| r.miners.get(miner).map(|m| m.node.clone()))?;
                let Some(node) = node else { return Ok(None) };
                let largest = spec.reward.per_assignment.checked_mul(u64::from(spec.rounds.max_size));
                let lots = spec.committee.len() * spec.reward.tiers as usize;
                let result = self.money.channel(&node, largest.unwrap_or_default(), lots).await.map_err(text);
                Some(Event::Channel { miner: *miner, version: *version, result })
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
            Effect::Step { round, accepted, .. } => {
                let stepped = self.step(run, *round, accepted).await;
                let result = stepped.map_err(|e| format!("the outer step of round {round} failed: {e}"));
                Some(Event::Advanced { round: *round, result })
            }
            Effect::Finish => {
                let sums = self.market.with(run, |r| r.totals)?;
                let left = self.money.finish(run, &spec, sums.pledged).await?;
                Some(Event::Finished { left })
            }
        })
    }

    async fn step(&self, run: RunId, round: u32, accepted: &[AssignmentId]) -> Result<Stepped, MoneyError> {
        let (spec, checkpoint, submissions) = self.market.with(run, |r| {
            let works = accepted.iter().filter_map(|id| {
                let work = r.works.get(id)?;
                Some((work.commitment.as_ref()?.submission, work.reveal.as_ref()?.blob))
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
