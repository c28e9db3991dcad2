//! Who runs the coordinator.

use watershed_coordinator::machine::Event;

use crate::Kind;
use crate::world::{Item, World};

/// Long enough for honest parties to play every round once faults have ended.
const PATIENCE: u64 = 6_000;

impl World {
    pub(crate) fn operate(&mut self) {
        self.soon(Item::Operator, 200, 1_500);
        let event = match (self.fair, self.rng.below(100)) {
            (Some(since), 40..) if self.now > since + PATIENCE => {
                Event::Cancel { reason: "enough".to_owned() }
            }
            (Some(_), _) | (None, 0..45) => Event::Resume,
            (None, 45..70) => Event::Pause,
            (None, 70..74) if self.kind != Kind::Honest => {
                Event::Cancel { reason: format!("at {}", self.now) }
            }
            (None, _) => return,
        };
        self.tell(event);
    }
}
