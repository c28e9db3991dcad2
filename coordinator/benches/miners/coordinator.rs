//! The coordinator as a process of its own, with money that is always there. It says where it is and when stages begin, and
//! stops when its input closes.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::net::TcpListener;
use watershed_commons::log::LogKey;
use watershed_coordinator::blobs::Blobs;
use watershed_coordinator::http::{Limits, Shared, router, serve as listen};
use watershed_coordinator::machine::{Phase, Run, VerdictKept, Work, WorkStage};
use watershed_coordinator::market::Market;
use watershed_coordinator::office::{
    Campaign, Computer, Funds, Money, MoneyError, Office, Recorder, Refunded, Unpaid,
};
use watershed_engine::device;
use watershed_protocol::market::view::{PledgeMade, PledgeView};
use watershed_protocol::market::{Outcome, RunSpec};
use watershed_protocol::{AssignmentId, Msat, PaymentHash, PublicKey, RunId};
use watershed_shards::library::Store;

use super::setup::{Failed, key};

/// About what regtest takes on this kind of machine for the lots of one task.
const LOCK: Duration = Duration::from_millis(200);

/// What a look into the books takes.
const BOOKS: Duration = Duration::from_millis(2);

/// Money that is always there.
struct FreeMoney(Market);

impl FreeMoney {
    fn look<T>(&self, assignment: AssignmentId, look: impl FnOnce(&Work) -> T) -> Option<T> {
        self.0.runs().values().find_map(|run: &Run| run.works.get(&assignment)).map(look)
    }
}

fn earned(work: &Work) -> Msat {
    let paid = |v: &&VerdictKept| matches!(v.outcome, Outcome::Earned { .. });
    if work.verdicts.values().filter(paid).count() > 0 { work.assignment.reward } else { Msat::ZERO }
}

fn nobody<T>() -> Result<T, MoneyError> {
    Err(MoneyError::Other("nobody pledges and nobody is paid out here".to_owned()))
}

impl Money for FreeMoney {
    async fn campaign(&self, _: RunId, _: &RunSpec) -> Result<Campaign, MoneyError> {
        nobody()
    }

    async fn cancel_campaign(&self, _: RunId, _: &str) -> Result<(), MoneyError> {
        nobody()
    }

    async fn pledge(&self, _: RunId, _: &str, _: Msat, _: Option<&str>) -> Result<PledgeMade, MoneyError> {
        nobody()
    }

    fn pledge_state(&self, _: RunId, _: &str) -> Result<PledgeView, MoneyError> {
        nobody()
    }

    fn raised(&self, _: RunId) -> Result<(Msat, Msat), MoneyError> {
        nobody()
    }

    async fn channel(&self, _: &str, _: Msat, _: usize) -> Result<(), MoneyError> {
        tokio::time::sleep(BOOKS).await;
        Ok(())
    }

    async fn funds(&self) -> Result<Funds, MoneyError> {
        Ok(Funds { channels: 0, usable: 0, spendable: Msat::ZERO, on_chain_sats: 0, chain_trouble: None })
    }

    async fn part(&self, _: &str) -> Result<(), MoneyError> {
        Ok(())
    }

    async fn offer(
        &self,
        _: RunId,
        _: &RunSpec,
        _: AssignmentId,
        _: &Work,
        _: &str,
    ) -> Result<(), MoneyError> {
        tokio::time::sleep(BOOKS).await;
        Ok(())
    }

    async fn lock(&self, _: AssignmentId, _: &[String]) -> Result<(), MoneyError> {
        tokio::time::sleep(LOCK).await;
        Ok(())
    }

    async fn confirm(&self, _: AssignmentId, _: &[(PaymentHash, u32)]) -> Result<(), MoneyError> {
        tokio::time::sleep(BOOKS).await;
        Ok(())
    }

    async fn withdraw(&self, _: AssignmentId) -> Result<(), MoneyError> {
        Ok(())
    }

    async fn ended(
        &self,
        assignment: AssignmentId,
        _: &(dyn Fn() -> bool + Send + Sync),
    ) -> Result<(Msat, Msat), MoneyError> {
        loop {
            let over = |w: &Work| {
                let dropped = matches!(w.stage, WorkStage::Dropped { .. });
                (w.receipts || dropped).then(|| (earned(w), w.assignment.reward))
            };
            match self.look(assignment, over) {
                None => return Ok((Msat::ZERO, Msat::ZERO)),
                Some(Some((paid, whole))) => {
                    return Ok((paid, whole.checked_sub(paid).unwrap_or(Msat::ZERO)));
                }
                Some(None) => tokio::time::sleep(Duration::from_secs(2)).await,
            }
        }
    }

    async fn fee(&self, _: RunId, _: &RunSpec, _: AssignmentId, _: PublicKey) -> Result<(), MoneyError> {
        tokio::time::sleep(BOOKS).await;
        Ok(())
    }

    async fn finish(
        &self,
        _: RunId,
        _: &RunSpec,
        _: Msat,
        _: &[(PublicKey, Msat)],
    ) -> Result<Msat, MoneyError> {
        Ok(Msat::ZERO)
    }

    async fn refund(&self, _: RunId, _: &str, _: &str) -> Result<Refunded, MoneyError> {
        nobody()
    }

    async fn pay_refunds(&self, _: RunId) -> Result<bool, MoneyError> {
        Ok(true)
    }

    fn refunds(&self, _: RunId) -> Result<Vec<Refunded>, MoneyError> {
        Ok(Vec::new())
    }

    async fn joining_fee(
        &self,
        _: RunId,
        _: &RunSpec,
        _: PublicKey,
        _: &axum::http::HeaderMap,
    ) -> Result<Result<PaymentHash, Unpaid>, MoneyError> {
        nobody()
    }

    fn book_joining_fee(&self, _: RunId, _: &RunSpec, _: PublicKey) -> Result<(), MoneyError> {
        Ok(())
    }

    async fn pay_out(&self, _: PublicKey, _: &str) -> Result<Msat, MoneyError> {
        nobody()
    }
}

/// Nanoseconds since 1970, which both processes read from the same clock.
pub(crate) fn clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64
}

/// Says when stages begin, from a thread that no request delays.
fn tell(market: Market, runtime: &tokio::runtime::Handle) {
    let mut changes = market.changes();
    let mut known = None;
    loop {
        changes.mark_unchanged();
        let stage = {
            let runs = market.runs();
            runs.values().next().map(|run| match (&run.phase, &run.round) {
                (Phase::Ended { .. }, _) => "ended 0".to_owned(),
                (_, Some(round)) => format!("{:?} {}", round.stage, round.number).to_lowercase(),
                (_, None) => format!("between {}", run.next_round),
            })
        };
        if known != stage {
            println!("{} {}", stage.as_deref().unwrap_or_default(), clock());
            known = stage;
        }
        if runtime.block_on(changes.changed()).is_err() {
            return;
        }
    }
}

pub(crate) async fn serve(folder: &Path) -> Result<(), Failed> {
    let key = key("coordinator", 0);
    let computer = Computer::new(Store::new(&folder.join("library")), device::cpu(), None);
    let blobs = Blobs::open(&folder.join("blobs").to_string_lossy())?;
    let log_key = LogKey::new("watershed/benchmark", &[1; 32])?;
    let (log_folder, journal) = (folder.join("log"), folder.join("coordinator.sqlite"));
    let verifier = log_key.verifier().to_string();
    let (market, effects) = Market::open(&journal)?;
    let recorder = Recorder::open(&log_folder, log_key, &journal)?;
    let (changes, runtime) = (market.changes(), tokio::runtime::Handle::current());
    let (watched, handle) = (market.clone(), runtime.clone());
    std::thread::spawn(move || recorder.run(changes, &runtime));
    std::thread::spawn(move || tell(watched, &handle));
    let office = Office::new(market.clone(), FreeMoney(market), blobs, computer, None);
    let shared = Shared::new(
        Arc::clone(&office),
        key,
        ("nowhere".to_owned(), "regtest".to_owned()),
        (verifier, log_folder),
        1 << 30,
        Limits::default(),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{} 0 {}", listener.local_addr()?, clock());
    let stopped = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    tokio::select! {
        () = Arc::clone(&office).run(effects) => {}
        () = office.tick() => {}
        () = listen(listener, router(Arc::clone(&shared)), Arc::clone(&shared.guard)) => {}
        _ = stopped => {}
    }
    Ok(())
}
