//! The list of runs, and news of a run's phase.

use std::time::Duration;

use tokio::time::timeout;
use watershed_protocol::market::RunSpec;
use watershed_protocol::{Envelope, RunId};

use super::{COORDINATOR, MINER, Place, key, refusal, spec};
use crate::machine::Event;

const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn runs_are_listed_by_when_they_were_opened_and_a_page_at_a_time() {
    let place = Place::open().await;
    let open = async |seed: u64| {
        let spec = RunSpec { seed, ..spec() };
        let id = spec.id().unwrap();
        let opened = Event::Open { spec: Envelope::sign(&spec, &key(COORDINATOR)).unwrap() };
        place.shared.office.market.happened(id, opened).await.unwrap();
        id
    };
    let mut ids = vec![place.run];
    for seed in 1..=3 {
        // Times are in seconds; names, which are hashes, are in no order.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        ids.push(open(seed).await);
    }
    ids.reverse();
    let listed = |runs: Vec<watershed_protocol::market::view::RunView>| -> Vec<RunId> {
        runs.into_iter().map(|r| r.run).collect()
    };
    assert_eq!(listed(place.client.runs().await.unwrap()), ids);
    let page = async |query: String| {
        let answer = place.get(&format!("/v1/runs{query}"), &[]).await;
        assert_eq!(answer.status().as_u16(), 200);
        listed(answer.json().await.unwrap())
    };
    assert_eq!(page("?limit=3".to_owned()).await, ids[..3]);
    assert_eq!(page(format!("?limit=3&before={}", ids[2])).await, ids[3..]);
    assert_eq!(page(format!("?before={}", ids[3])).await, []);
    for (query, wanted) in [
        ("?limit=0".to_owned(), (400, "bad-request")),
        ("?limit=1001".to_owned(), (400, "bad-request")),
        ("?limit=many".to_owned(), (400, "bad-request")),
        ("?before=x".to_owned(), (400, "bad-id")),
        (format!("?before={}", RunId::from_bytes([7; 32])), (404, "not-found")),
    ] {
        let (status, code) = refusal(place.get(&format!("/v1/runs{query}"), &[]).await).await;
        assert_eq!((status, code.as_str()), wanted, "{query}");
    }
}

#[tokio::test]
async fn a_run_that_begins_to_close_wakes_whoever_waits_for_its_news() {
    let place = Place::open().await;
    place.join().await;
    let miner = key(MINER).public();
    let (works, mine) = (
        place.client.works(place.run, u64::MAX).await.unwrap().version,
        place.client.miner(place.run, miner, u64::MAX).await.unwrap().version,
    );
    let (client, run) = (place.client.clone(), place.run);
    let validator = tokio::spawn(async move { client.works(run, works).await });
    let client = place.client.clone();
    let waiting = tokio::spawn(async move { client.miner(run, miner, mine).await });
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(!validator.is_finished() && !waiting.is_finished());
    // `running` and `closing` have as many letters.
    place.happened(Event::Cancel { reason: "enough".to_owned(), at: 1 }).await;
    let seen = timeout(SOON, validator).await.unwrap().unwrap().unwrap();
    assert_ne!(seen.version, works);
    assert_eq!(timeout(SOON, waiting).await.unwrap().unwrap().unwrap().phase, "closing");
}
