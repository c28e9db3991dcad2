//! The real journal: what is written down, what is not, and what a start reads.

use std::path::Path;

use futures_util::future::join_all;
use watershed_coordinator::journal::Journal;
use watershed_coordinator::machine::{Effect, Event, Run};
use watershed_coordinator::market::{KEEP, Market};
use watershed_protocol::market::{Join, Message};
use watershed_protocol::{Envelope, Msat, PublicKey, RunId, SecretKey};

use crate::Kind;
use crate::rng::Rng;
use crate::setup::{cast, spec};

/// A run without pledges, opened.
pub(crate) async fn opened(market: &Market) -> RunId {
    let mut spec = spec(&mut Rng::new(1), Kind::Honest);
    spec.funding.goal = Msat::ZERO;
    let run = spec.id().unwrap();
    let spec = Envelope::sign(&spec, &cast().coordinator).unwrap();
    market.happened(run, Event::Open { spec }).await.unwrap();
    run
}

pub(crate) fn join(run: RunId, node: &str) -> Message {
    Message::Join(Join {
        run,
        node: node.to_owned(),
        tokens_per_second: 10,
        min_per_million_tokens: Msat::ZERO,
        lost_state: false,
    })
}

pub(crate) async fn say(market: &Market, run: RunId, key: &SecretKey, message: &Message) -> PublicKey {
    let envelope = Envelope::sign(message, key).unwrap();
    market.said(run, key.public(), message.clone(), envelope).await.unwrap();
    key.public()
}

fn runs(path: &Path) -> Vec<Run> {
    let (market, _effects) = Market::open(path).unwrap();
    let runs = market.runs();
    runs.values().cloned().collect()
}

#[tokio::test]
async fn what_changes_nothing_is_not_written_down() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let (market, _effects) = Market::open(&path).unwrap();
    let run = opened(&market).await;
    let (key, journal) = (SecretKey::from_entropy([1; 32]).unwrap(), Journal::open(&path).unwrap());
    let message = join(run, &cast().nodes[0][0]);
    let miner = say(&market, run, &key, &message).await;
    let version = market.with(run, |r| r.miners[&miner].asked).unwrap();
    let (effect, answer) =
        (Effect::Channel { miner, version }, Event::Channel { miner, version, result: Ok(()) });
    let before = journal.event_count().unwrap();
    assert_eq!(
        (before, journal.undone_count().unwrap()),
        (2, 2),
        "opened and joined; to prepare and a channel"
    );
    for _ in 0..20 {
        say(&market, run, &key, &message).await;
    }
    assert_eq!(journal.event_count().unwrap(), before);
    market.happened(run, answer.clone()).await.unwrap();
    assert_eq!(journal.event_count().unwrap(), before + 1);
    // An outcome that is known already still ends its effect.
    market.outcome(run, &effect, answer).await.unwrap();
    assert_eq!((journal.event_count().unwrap(), journal.undone_count().unwrap()), (before + 1, 1));
    // A word of the operator is taken once.
    market.happened(run, Event::Pause { at: 10 }).await.unwrap();
    market.happened(run, Event::Pause { at: 10 }).await.unwrap();
    market.happened(run, Event::Resume { at: 20 }).await.unwrap();
    assert!(market.happened(run, Event::Pause { at: 10 }).await.is_err());
    assert_eq!(journal.event_count().unwrap(), before + 3);
    assert!(!market.with(run, |r| r.paused).unwrap());
    let numbers = market.numbers().await.unwrap();
    assert_eq!((numbers.events, numbers.pending), (before + 3, 1));
}

#[tokio::test]
async fn a_start_reads_what_was_kept_and_the_events_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let (market, _effects) = Market::open(&path).unwrap();
    let run = opened(&market).await;
    let key = SecretKey::from_entropy([1; 32]).unwrap();
    say(&market, run, &key, &join(run, &cast().nodes[0][0])).await;
    let steer = |at| if at % 2 == 1 { Event::Pause { at } } else { Event::Resume { at } };
    let told = join_all((1..KEEP as u64 + 500).map(|at| market.happened(run, steer(at)))).await;
    assert!(told.iter().all(Result::is_ok));
    market.numbers().await.unwrap();
    let now: Vec<Run> = market.runs().values().cloned().collect();
    drop(market);

    let journal = Journal::open(&path).unwrap();
    let (after, states) = journal.states().unwrap();
    assert_eq!(states.len(), 1);
    let mut read = 0;
    journal.events(after, &mut |_, _, _| read += 1).unwrap();
    assert!(read < 1_000, "{read} events are read");
    assert_eq!(runs(&path), now);
    // From the first event on it comes to the same.
    rusqlite::Connection::open(&path).unwrap().execute("DELETE FROM state", []).unwrap();
    assert_eq!(runs(&path), now);
    // What cannot be read is not believed.
    let mut journal = Journal::open(&path).unwrap();
    journal.keep_states(3, &[(run, b"{}".to_vec())]).unwrap();
    assert_eq!(runs(&path), now);
}
