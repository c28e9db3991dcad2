//! Who runs the coordinator.

use watershed_coordinator::machine::{Event, Phase};

use crate::Kind;
use crate::world::{Item, World};

/// Long enough for honest parties to play every round once faults have ended.
const PATIENCE: u64 = 6_000;

impl World {
    pub(crate) fn operate(&mut self) {
        self.soon(Item::Operator, 200, 1_500);
        // Now and then somebody sends an old command again. Once faults have ended the right one comes too.
        let old = (!self.rng.chance(90)).then(|| self.run.commanded.saturating_sub(1));
        let right = (old.is_none() || self.fair.is_some()).then_some(self.now);
        let drawn = self.rng.below(100);
        for at in old.into_iter().chain(right) {
            if let Some(command) = self.command(drawn, at) {
                self.tell(command);
            }
        }
    }

    fn command(&self, drawn: u64, at: u64) -> Option<Event> {
        Some(match (self.fair, drawn) {
            (Some(since), 40..) if self.now > since + PATIENCE => {
                let open = self.run.works.values().any(|w| w.escrow_open);
                let stuck = self.run.phase == Phase::Running && self.run.round.is_none() && !open;
                assert!(!stuck || self.run.can_pay_a_round(), "it waits for money that cannot come");
                Event::Cancel { reason: "enough".to_owned(), at }
            }
            (Some(_), _) | (None, 0..45) => Event::Resume { at },
            (None, 45..70) => Event::Pause { at },
            (None, 70..74) if self.kind != Kind::Honest => {
                Event::Cancel { reason: format!("at {}", self.now), at }
            }
            (None, _) => return None,
        })
    }
}
