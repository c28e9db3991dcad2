//! Whether a run can be trained, and what it takes. Whoever writes, signs, opens, joins or checks a run asks here, and all get
//! the same answer.

use thiserror::Error;
use watershed_engine::model::{ConfigError, Layout};
use watershed_protocol::Msat;
use watershed_protocol::market::{RunSpec, SpecError};
use watershed_shards::shard::OpenSet;
use watershed_shards::window::WindowError;

use super::settings::config;
use super::{RoundError, text};

/// A number of a specification with which nobody can train it, or nobody can be paid.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field}: {why}; {remedy}")]
pub struct Unfit {
    /// The field as the file has it, or the section.
    pub field: String,
    /// What is wrong.
    pub why: String,
    /// What to do about it.
    pub remedy: String,
}

impl Unfit {
    fn new(field: impl Into<String>, why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { field: field.into(), why: why.into(), remedy: remedy.into() }
    }
}

impl From<SpecError> for Unfit {
    fn from(fault: SpecError) -> Self {
        match fault {
            SpecError::Range { field, found, wanted } => {
                Self::new(field, format!("it is {found}"), format!("it must be {wanted}"))
            }
            SpecError::Twice(key) => Self::new("committee", format!("{key} is named twice"), "name it once"),
        }
    }
}

/// Everything that is wrong with a specification, as far as it shows without its text.
pub fn faults(spec: &RunSpec) -> Vec<Unfit> {
    let mut faults: Vec<Unfit> = spec.faults().into_iter().map(Unfit::from).collect();
    if let Err(e) = Layout::new(&config(&spec.model)) {
        let field = match &e {
            ConfigError::Size { field, .. } | ConfigError::Number { field, .. } => format!("model.{field}"),
            ConfigError::HeadGroups { .. } => "model.heads".to_owned(),
            ConfigError::OddHeadDim { .. } => "model.head_dim".to_owned(),
            ConfigError::TooLarge { .. } => "model".to_owned(),
        };
        faults.push(Unfit::new(field, e.to_string(), "change it, or begin with a preset of `run new`"));
    }
    faults
}

/// Everything that is wrong with a specification, its text included.
pub fn faults_with_text(spec: &RunSpec, set: &OpenSet) -> Vec<Unfit> {
    let mut faults = faults(spec);
    if let Err(e) = text::check(set, spec) {
        let (field, remedy) = match &e {
            RoundError::OtherText { what, .. } => (
                format!("data.{what}"),
                "take the ids that `watershed-shards build` printed with this shard set",
            ),
            RoundError::Vocabulary { .. } => {
                ("model.vocab".to_owned(), "at least the vocabulary of the shard set")
            }
            RoundError::NoHeldOut(_) => ("data.shards".to_owned(), "build a shard set from such a snapshot"),
            RoundError::Window(WindowError::TooLittle { .. }) => {
                ("data.mixture".to_owned(), "leave out registers of which there is too little")
            }
            RoundError::TooShort { .. } => {
                ("data.max_epochs".to_owned(), "raise it, take fewer rounds, miners or steps, or more text")
            }
            _ => ("data".to_owned(), "compare it with what `watershed-shards stats` says of the shard set"),
        };
        // What the numbers alone say is wrong is said once.
        if !faults.iter().any(|f| f.field == field) {
            faults.push(Unfit::new(field, e.to_string(), remedy));
        }
    }
    faults
}

/// What a run takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// Parameters of the model.
    pub parameters: u64,
    /// Tokens of an assignment of one batch size.
    pub tokens: u64,
    /// Tokens per second that a miner must train at least to be asked.
    pub least_speed: u64,
    /// Fewest miners of a round.
    pub miners: u32,
    /// Members of the committee.
    pub validators: usize,
    /// The longest that a round takes, in seconds.
    pub round_seconds: u64,
    /// Rounds.
    pub rounds: u32,
    /// The most that a round of the fewest miners costs.
    pub round_cost: Msat,
    /// The most that all rounds of the fewest miners cost.
    pub cost: Msat,
    /// The most that all rounds of the most miners with the most sequences cost.
    pub most: Msat,
    /// Rounds of the fewest miners that the goal pays at least; none if the operator pays.
    pub paid_rounds: Option<u64>,
}

impl Estimate {
    /// Of a specification; none if [`faults`] finds its model or its sums out of range.
    pub fn of(spec: &RunSpec) -> Option<Self> {
        let r = &spec.rounds;
        let round_cost = spec.smallest_round()?;
        let count = u64::from(r.count);
        let largest = spec.cost(r.max_size)?.checked_mul(u64::from(r.max_miners))?;
        let goal = spec.funding.goal;
        Some(Self {
            parameters: spec.model.parameters()?,
            tokens: spec.tokens(),
            least_speed: spec.tokens().div_ceil(u64::from(r.train_seconds).max(1)),
            miners: r.min_miners,
            validators: spec.committee.len(),
            round_seconds: r.stages(),
            rounds: r.count,
            round_cost,
            cost: round_cost.checked_mul(count)?,
            most: largest.checked_mul(count)?,
            paid_rounds: (goal > Msat::ZERO).then(|| goal.msat() / round_cost.msat().max(1)),
        })
    }
}

#[cfg(test)]
mod tests {
    use watershed_protocol::SecretKey;

    use super::*;

    fn spec() -> RunSpec {
        RunSpec::smallest([SecretKey::from_entropy([1; 32]).unwrap().public()])
    }

    #[test]
    fn the_model_is_tried_like_a_miner_will_try_it_and_each_fault_names_its_field_and_what_to_do() {
        assert_eq!(faults(&spec()), []);
        let mut wrong = spec();
        (wrong.model.head_dim, wrong.inner.warmup_steps) = (15, 2);
        let found = faults(&wrong);
        let fields: Vec<&str> = found.iter().map(|f| f.field.as_str()).collect();
        assert_eq!(fields, ["inner.warmup_steps", "model.head_dim"]);
        assert!(found.iter().all(|f| !f.why.is_empty() && !f.remedy.is_empty()));
        // Whatever is found right here makes the settings that a miner computes with.
        assert!(crate::Settings::new(&spec()).is_ok() && crate::Settings::new(&wrong).is_err());
    }

    #[test]
    fn what_a_run_takes_is_told_before_it_is_opened() {
        let mut spec = spec();
        (spec.rounds.count, spec.rounds.min_miners, spec.rounds.max_miners) = (5, 2, 4);
        (spec.reward.per_assignment, spec.reward.verdict_fee) = (Msat::new(1_000), Msat::new(10));
        spec.funding.goal = Msat::new(5_000);
        let estimate = Estimate::of(&spec).unwrap();
        assert_eq!((estimate.round_cost, estimate.cost), (Msat::new(2_020), Msat::new(10_100)));
        assert_eq!((estimate.most, estimate.paid_rounds), (Msat::new(20_200), Some(2)));
        assert_eq!((estimate.round_seconds, estimate.miners, estimate.least_speed), (240, 2, 1));
    }
}
