//! Long polls, and the stream of events.

use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

use super::{MINER, Place, STREAMS, key, refusal};
use crate::http::schema::tests::check;
use crate::machine::Event;

const SOON: Duration = Duration::from_secs(5);

/// Long enough for an answer that is on its way.
const QUIET: Duration = Duration::from_millis(400);

struct Stream {
    answer: reqwest::Response,
    text: String,
}

impl Stream {
    async fn open(place: &Place, last: Option<&str>) -> Self {
        let headers: Vec<(&str, &str)> = last.map(|l| ("last-event-id", l)).into_iter().collect();
        let answer = place.get(&format!("/v1/runs/{}/events", place.run), &headers).await;
        assert_eq!(answer.status().as_u16(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self { answer, text: String::new() }
    }

    /// Id and data of the next event.
    async fn next(&mut self) -> (String, Value) {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field =
                    |name: &str| event.lines().find_map(|l| Some(l.strip_prefix(name)?.trim().to_owned()));
                let found = (field("event:"), field("id:"), field("data:"));
                self.text = rest.to_owned();
                let (Some(kind), Some(id), Some(data)) = found else { continue };
                assert_eq!(kind, "news");
                return (id, serde_json::from_str(&data).unwrap());
            }
            let chunk = self.answer.chunk().await.unwrap().unwrap();
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
}

#[tokio::test]
async fn events_are_numbered_small_and_not_told_twice() {
    let place = Place::open().await;
    let mut stream = Stream::open(&place, None).await;
    let (first, news) = timeout(SOON, stream.next()).await.unwrap();
    check("News", &news);
    assert_eq!(news["phase"], "running");
    assert_eq!(first, news["version"].to_string());
    assert!(news.to_string().len() < 1000);

    place.join().await;
    let (second, news) = timeout(SOON, stream.next()).await.unwrap();
    assert_ne!(first, second);
    assert_eq!(news["miners"], 1);
    drop(stream);

    // Whoever comes back and has seen it all waits for what comes next.
    let mut stream = Stream::open(&place, Some(&second)).await;
    assert!(timeout(QUIET, stream.next()).await.is_err());
    place.nudge().await;
    let (third, _) = timeout(SOON, stream.next()).await.unwrap();
    assert!(third.parse::<u64>().unwrap() > second.parse::<u64>().unwrap());
    // Whoever missed something is told at once how it stands.
    let mut stream = Stream::open(&place, Some(&first)).await;
    assert_eq!(timeout(SOON, stream.next()).await.unwrap().0, third);
}

#[tokio::test]
async fn many_events_are_told_as_one() {
    let place = Place::open().await;
    let mut stream = Stream::open(&place, None).await;
    stream.next().await;
    for _ in 0..50 {
        place.nudge().await;
    }
    let version = place.shared.office.market.with(place.run, |r| r.version).unwrap().to_string();
    let mut told = 0;
    while timeout(SOON, stream.next()).await.unwrap().0 != version {
        told += 1;
    }
    assert!(told < 25, "{told}");
}

#[tokio::test]
async fn there_are_so_many_streams_and_no_more() {
    let place = Place::open().await;
    let others: Vec<_> = (1..STREAMS).map(|_| place.shared.guard.streaming().unwrap()).collect();
    let last = Stream::open(&place, None).await;
    let path = format!("/v1/runs/{}/events", place.run);
    assert_eq!(refusal(place.get(&path, &[]).await).await, (503, "busy".into()));
    drop(last);
    // The server notices with the next thing that it sends.
    let freed = async {
        while place.shared.guard.streaming().is_err() {
            place.nudge().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, freed).await.unwrap();
    drop(others);
    let unknown = format!("/v1/runs/{}/events", "00".repeat(32));
    assert_eq!(refusal(place.get(&unknown, &[]).await).await, (404, "not-found".into()));
}

#[tokio::test]
async fn a_long_poll_waits_for_news_that_concern_it() {
    let place = Place::open().await;
    place.join().await;
    let miner = key(MINER).public();
    let known = place.client.miner(place.run, miner, u64::MAX).await.unwrap().version;
    let asking = tokio::spawn({
        let (client, run) = (place.client.clone(), place.run);
        async move { client.miner(run, miner, known).await }
    });
    tokio::time::sleep(QUIET).await;
    assert!(!asking.is_finished());
    let version = place.shared.office.market.with(place.run, |r| r.miners[&miner].asked).unwrap();
    place.happened(Event::Channel { miner, version, result: Ok(()) }).await;
    let view = timeout(SOON, asking).await.unwrap().unwrap().unwrap();
    assert_eq!(view.channel, "ready");
    assert_ne!(view.version, known);
    // And whoever knows less is answered at once.
    timeout(SOON, place.client.miner(place.run, miner, known)).await.unwrap().unwrap();

    let known = place.client.works(place.run, u64::MAX).await.unwrap().version;
    let asking = tokio::spawn({
        let (client, run) = (place.client.clone(), place.run);
        async move { client.works(run, known).await }
    });
    tokio::time::sleep(QUIET).await;
    assert!(!asking.is_finished());
    place.happened(Event::Begin { live: vec![miner] }).await;
    let view = timeout(SOON, asking).await.unwrap().unwrap().unwrap();
    assert_eq!(view.works.len(), 1);
}
