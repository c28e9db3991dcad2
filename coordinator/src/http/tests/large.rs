//! A round of a thousand miners fits into an answer.

use watershed_protocol::market::{Assignment, Reveal, StepClaim, TermsOffered};
use watershed_protocol::{Envelope, Msat, Preimage, RoundNumber};

use super::{COORDINATOR, MINER, Place, VALIDATOR, digest, key, spec};
use crate::http::views;
use crate::machine::{Round, Run, Stage, Work, WorkStage};

const MINERS: u64 = 1_000;
const STEPS: u32 = 1_500;

/// As the client takes at most.
const LIMIT: usize = 64 << 20;

#[tokio::test]
async fn a_thousand_miners_with_many_steps_fit_into_an_answer() {
    let place = Place::open().await;
    let id = place.assigned().await;
    let model = place.shared.office.market.with(place.run, |r| r.works[&id].clone()).unwrap();
    let mut spec = spec();
    spec.inner.steps = STEPS;
    let envelope = Envelope::sign(&spec, &key(COORDINATOR)).unwrap();
    let (mut run, _) = Run::open_run(&spec, &envelope, 0).unwrap();
    let claim = |n: u64| StepClaim { state: digest(&n.to_string()), loss: u32::MAX };
    for n in 0..MINERS {
        let assignment = Assignment {
            window: watershed_protocol::data::WindowSpec { first: n, ..model.assignment.window.clone() },
            ..model.assignment.clone()
        };
        let id = assignment.id().unwrap();
        let steps = (0..STEPS).map(|s| claim(n + u64::from(s))).collect();
        let lot = |tier| TermsOffered {
            validator: key(VALIDATOR).public(),
            tier,
            hash: Preimage::from_bytes([tier as u8; 32]).hash(),
            amount: Msat::new(u64::MAX / 2),
        };
        let work = Work {
            assignment,
            stage: WorkStage::Revealed,
            lots: (0..20).map(lot).collect(),
            reveal: Some(Reveal { assignment: id, blob: digest("blob"), start: digest("start"), steps }),
            ..model.clone()
        };
        run.works.insert(id, work);
    }
    run.round = Some(Round {
        number: 0,
        stage: Stage::Judging,
        until: 0,
        began: 0,
        judging: 0,
        randomness: Some(digest("random")),
    });
    let view = views::round_work(&run);
    assert_eq!(view.works.len(), MINERS as usize);
    let shown = view.works[0].reveal.unwrap();
    assert_eq!(shown.steps, STEPS);
    let length = serde_json::to_string(&view).unwrap().len();
    println!("{length} bytes");
    assert!(length < LIMIT / 4, "{length}");
    assert_eq!(view.works[0].assignment.miner, key(MINER).public());
    assert_eq!(view.works[0].assignment.round, RoundNumber(0));
    // An event of the stream stays as it is, however many there are.
    assert!(serde_json::to_string(&views::news(&run)).unwrap().len() < 1_000);
}
