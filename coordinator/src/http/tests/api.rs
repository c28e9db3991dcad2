//! What is asked, what is said, and what is refused.

use watershed_commons::client::{ClientError, to_text};
use watershed_protocol::market::view::Signed;
use watershed_protocol::market::{Command, Commitment, Message, Promise, Reveal, StepClaim, TrajectoryHash};
use watershed_protocol::{AssignmentId, Envelope, Msat, RunId};

use super::{COORDINATOR, MINER, Place, VALIDATOR, digest, key, refusal, refused, spec};
use crate::http::schema::tests::check;
use crate::market::now;

async fn json(place: &Place, path: &str) -> serde_json::Value {
    let answer = place.get(path, &[]).await;
    assert_eq!(answer.status().as_u16(), 200, "{path}");
    answer.json().await.unwrap()
}

#[tokio::test]
async fn answers_have_the_shapes_that_the_document_says() {
    let place = Place::open().await;
    let id = place.assigned().await;
    let run = format!("/v1/runs/{}", place.run);
    check("Info", &json(&place, "/v1/info").await);
    check("Run", &json(&place, "/v1/runs").await[0]);
    check("Run", &json(&place, &run).await);
    check("RoundWork", &json(&place, &format!("{run}/works")).await);
    check("Work", &json(&place, &format!("{run}/works/{id}")).await);
    check("Miner", &json(&place, &format!("{run}/miners/{}", key(MINER).public())).await);
    check("Raised", &json(&place, &format!("{run}/pledges")).await);
    assert_eq!(
        refusal(place.get(&format!("{run}/works/{id}/reveal"), &[]).await).await,
        (404, "not-found".into())
    );

    // Committed and shown, and asked for again.
    let (start, steps) = (digest("start"), vec![StepClaim { state: digest("state"), loss: 7 }; 3]);
    let commitment = Commitment {
        assignment: id,
        submission: Commitment::submission_of(key(MINER).public(), b"work"),
        trajectory: TrajectoryHash::of(start, &steps),
        error_feedback: digest("feedback"),
        moments: digest("moments"),
        updates: 3,
    };
    let commit = Message::Commit(commitment);
    let promise = place
        .client
        .say_for_promise(place.run, &commit, &key(MINER), key(COORDINATOR).public())
        .await
        .unwrap()
        .unwrap();
    let promise = promise.open::<Promise>().unwrap();
    assert_eq!(promise.signer(), key(COORDINATOR).public());
    let signed = Envelope::sign(&commit, &key(MINER)).unwrap().open::<Message>().unwrap().digest();
    let said = promise.value();
    assert_eq!((said.run, said.signer, said.message), (place.run, key(MINER).public(), signed));
    let blob = place.client.upload(id, b"work".to_vec(), &key(MINER)).await.unwrap();
    let reveal = Reveal { assignment: id, blob, start, steps };
    place.say(&Message::Reveal(reveal.clone()), MINER).await.unwrap();
    let work = json(&place, &format!("{run}/works/{id}")).await;
    check("Work", &work);
    assert_eq!(work["stage"], "revealed");
    assert_eq!(work["reveal"]["steps"], 3);
    check("Reveal", &json(&place, &format!("{run}/works/{id}/reveal")).await);
    assert_eq!(place.client.reveal(place.run, id).await.unwrap(), reveal);
    let works = json(&place, &format!("{run}/works")).await;
    check("RoundWork", &works);
    assert!(works["round"]["randomness"].is_string());
    assert!(!json(&place, "/v1/openapi.json").await["paths"].as_object().unwrap().is_empty());
}

#[tokio::test]
async fn what_is_not_there_is_refused_by_name() {
    let place = Place::open().await;
    let none = RunId::from_bytes([0; 32]);
    assert_eq!(refused(place.client.run(none).await), (404, "not-found".into()));
    assert_eq!(refused(place.client.works(none, 0).await), (404, "not-found".into()));
    assert_eq!(refused(place.client.miner(none, key(MINER).public(), 0).await), (404, "not-found".into()));
    let nothing = AssignmentId::from_bytes([0; 32]);
    assert_eq!(refused(place.client.work(place.run, nothing).await), (404, "not-found".into()));
    for path in ["/v1/runs/what", "/v1/runs/what/works", "/v1/runs/what/events", "/v1/runs/what/miners/who"] {
        assert_eq!(refusal(place.get(path, &[]).await).await, (400, "bad-id".into()), "{path}");
    }
    let path = format!("/v1/runs/{}/works?after=soon", place.run);
    assert_eq!(refusal(place.get(&path, &[]).await).await, (400, "bad-request".into()));
    assert_eq!(refusal(place.get("/v1/nothing", &[]).await).await, (404, "not-found".into()));
    for path in ["/log/checkpoint", "/log/..%2fcoordinator.sqlite", "/log/.lock", "/log/tile/X"] {
        assert_eq!(refusal(place.get(path, &[]).await).await, (404, "not-found".into()), "{path}");
    }
    let deleted = place.http.delete(format!("{}/v1/info", place.base)).send().await.unwrap();
    assert_eq!(refusal(deleted).await, (405, "bad-method".into()));
}

async fn post(place: &Place, path: &str, body: impl Into<reqwest::Body>) -> (u16, String) {
    let request = place.http.post(format!("{}{path}", place.base)).header("content-type", "application/json");
    refusal(request.body(body).send().await.unwrap()).await
}

#[tokio::test]
async fn what_is_no_message_is_refused() {
    let place = Place::open().await;
    let path = format!("/v1/runs/{}/messages", place.run);
    for body in ["", "{", "[]", "{}", r#"{"envelope": 5}"#, r#"{"envelope": "", "more": 1}"#] {
        let (status, code) = post(&place, &path, body).await;
        assert!((400..=422).contains(&status), "{body}: {status}");
        assert_eq!(code, "bad-request", "{body}");
    }
    for envelope in ["", "?", "AAAA"] {
        let body = serde_json::to_string(&Signed { envelope: envelope.to_owned() }).unwrap();
        assert_eq!(post(&place, &path, body).await, (400, "bad-envelope".into()), "{envelope}");
    }
    // More than is read of a message.
    let long = serde_json::to_string(&Signed { envelope: "A".repeat((1 << 20) + 100) }).unwrap();
    assert_eq!(post(&place, &path, long).await, (413, "too-long".into()));
    // Without saying that it is JSON.
    let plain = place.http.post(format!("{}{path}", place.base)).body("{}").send().await.unwrap();
    assert_eq!(refusal(plain).await.1, "bad-request");
    // A signature over something else.
    let leave = Message::Leave { run: place.run };
    let signed = Envelope::sign(&Command::Pause { run: place.run, at: now() * 1000 }, &key(MINER)).unwrap();
    let envelope = to_text(&signed).unwrap();
    assert_eq!(refused(place.client.forward(place.run, envelope).await), (400, "bad-signature".into()));
    let mut bytes = watershed_protocol::encode(&Envelope::sign(&leave, &key(MINER)).unwrap()).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    let broken: Envelope = watershed_protocol::decode(&bytes).unwrap();
    let sent = place.client.forward(place.run, to_text(&broken).unwrap()).await;
    assert_eq!(refused(sent), (400, "bad-signature".into()));
}

#[tokio::test]
async fn who_may_not_say_something_is_refused() {
    let place = Place::open().await;
    let leave = |run| Message::Leave { run };
    assert_eq!(refused(place.say(&leave(place.run), MINER).await), (403, "not-joined".into()));
    let other = leave(RunId::from_bytes([0; 32]));
    assert_eq!(refused(place.say(&other, MINER).await), (400, "other-run".into()));
    let assignment = place.assigned().await;
    let sound = Message::Sound { assignment };
    assert_eq!(refused(place.say(&sound, MINER).await), (403, "not-allowed".into()));
    assert_eq!(refused(place.say(&sound, VALIDATOR).await), (409, "wrong-stage".into()));
    let nothing = Message::Sound { assignment: AssignmentId::from_bytes([0; 32]) };
    assert_eq!(refused(place.say(&nothing, VALIDATOR).await), (404, "no-assignment".into()));
    let reveal = Reveal { assignment, blob: digest("nothing"), start: digest(""), steps: Vec::new() };
    assert_eq!(refused(place.say(&Message::Reveal(reveal), MINER).await), (409, "upload-first".into()));
    let pause = Command::Pause { run: place.run, at: now() * 1000 };
    let refused_command = place.client.command(&pause, &key(MINER)).await;
    assert_eq!(refused(refused_command), (403, "not-allowed".into()));
    assert!(place.client.command(&pause, &key(COORDINATOR)).await.unwrap().paused);
}

#[tokio::test]
async fn pledges_are_taken_while_a_run_is_funded() {
    let place = Place::open().await;
    assert_eq!(refused(place.client.pledge(place.run, "ada", 5, None).await), (409, "wrong-phase".into()));
    let mut funded = spec();
    funded.funding.goal = Msat::new(1_000_000);
    let place = Place::with(&funded).await;
    assert_eq!(refused(place.client.pledge(place.run, "ada", 0, None).await), (422, "out-of-range".into()));
    let found = place.client.pledge(place.run, "ada", 5, None).await.unwrap();
    assert_eq!(found.pledge.amount, Msat::new(5000));
    check("PledgeMade", &serde_json::to_value(&found).unwrap());
    let state = place.client.pledge_state(place.run, "00").await;
    assert!(matches!(&state, Err(ClientError::Refused { status: 422, .. })), "{state:?}");
}

#[tokio::test]
async fn pages_and_numbers_are_there() {
    let place = Place::open().await;
    place.join().await;
    let page = place.get(&format!("/runs/{}", place.run), &[]).await;
    assert_eq!(page.status().as_u16(), 200);
    assert!(page.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
    let page = place.get("/runs/nothing", &[]).await;
    assert_eq!(page.status().as_u16(), 404);
    assert!(page.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
    let numbers = place.get("/metrics", &[]).await.text().await.unwrap();
    assert!(numbers.contains("watershed_miners"), "{numbers}");
    assert!(place.folder.path().join("coordinator.sqlite").exists());
}
