//! The settings a local run depends on, and nothing else: two runs with equal settings have equal checkpoints.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use watershed_engine::merkle::{self, MerkleError, Section};
use watershed_engine::model::{ModelConfig, Profile};
use watershed_engine::product::Precision;
use watershed_engine::train::{AdamwSettings, TrainSettings};

use super::corpus::Corpus;
use super::origin::Origin;
use super::schedule::{ByRound, Lasts, ScheduleError, rounds};
use super::{Args, LocalError, MomentsName, ProfileName, Schedules};

/// Everything that the checkpoints of a run are a function of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) model: ModelConfig,
    /// Digest of the parameters that the run began with, in hex; none where the seed gives them.
    pub(crate) start: Option<String>,
    pub(crate) train: TrainSettings,
    pub(crate) workers: u32,
    pub(crate) batch: usize,
    pub(crate) seq: usize,
    /// Values kept of every 4096; none for dense averaging.
    pub(crate) top_k: Option<ByRound<u32>>,
    pub(crate) rounds: u32,
    pub(crate) inner_steps: ByRound<u32>,
    pub(crate) seed: u64,
    /// Operand widths as text, or `native`.
    pub(crate) arithmetic: String,
    pub(crate) carried: bool,
    pub(crate) eight_bit: bool,
    pub(crate) outer_lr: ByRound<f32>,
    pub(crate) outer_momentum: f32,
    /// None for dense averaging, which leaves nothing out.
    pub(crate) error_decay: Option<ByRound<f32>>,
    /// SHA-256 of the tokens, in hex.
    pub(crate) corpus: String,
    /// What the arithmetic is; not part of equality, which `arithmetic` decides.
    #[serde(skip, default = "native")]
    pub(crate) profile: Profile,
}

fn native() -> Profile {
    Profile::Native
}

/// The flags that the settings come from. Schedules over the rounds stand behind what they follow from.
const FLAGS: [(&str, &str); 17] = [
    ("rounds", "--rounds"),
    ("workers", "--workers"),
    ("batch", "--batch"),
    ("seq", "--seq"),
    ("seed", "--seed"),
    ("corpus", "--text"),
    ("model", "--preset or --model"),
    ("start", "--model"),
    ("arithmetic", "--precision or --profile"),
    ("carried", "--moments"),
    ("eight_bit", "--moments"),
    ("outer_momentum", "--outer-momentum"),
    ("top_k", "--top-k or --dense"),
    ("inner_steps", "--inner-steps"),
    ("outer_lr", "--outer-lr"),
    ("error_decay", "--error-decay"),
    ("train", "--lr"),
];

/// Steps of warm-up: a twentieth of the run, at least one and at most a hundred.
fn warmup(total: u32) -> u32 {
    (total / 20).clamp(1, 100)
}

/// Digest of a checkpoint's parameters, in hex.
pub(crate) fn checkpoint_digest(parameters: &[f32]) -> Result<String, MerkleError> {
    let sections = vec![Section::new("parameters", parameters.len() as u64)];
    let layout = merkle::Layout::new("checkpoint", sections)?;
    Ok(merkle::state_digest(&layout, &[parameters])?.to_string())
}

impl Settings {
    pub(crate) fn new(args: &Args, origin: &Origin, corpus: &Corpus) -> Result<Self, LocalError> {
        let Schedules { inner_steps, outer_lr, error_decay } = args.schedules();
        let mut schedules: Vec<(&'static str, &dyn Lasts)> =
            vec![("--inner-steps", &inner_steps), ("--outer-lr", &outer_lr)];
        if !args.dense {
            schedules.extend([("--top-k", &args.top_k as &dyn Lasts), ("--error-decay", &error_decay)]);
        }
        let rounds = rounds(args.rounds, &schedules)?;
        let inner_steps = inner_steps.over(rounds);
        let total = inner_steps.total();
        let total = u32::try_from(total).map_err(|_| ScheduleError::TooManySteps(total))?;
        let precision: Precision = args.precision;
        let (profile, arithmetic) = match args.profile {
            ProfileName::Exact => (Profile::Exact(precision), precision.to_string()),
            ProfileName::Native => (Profile::Native, "native".to_owned()),
        };
        let mut model = origin.config;
        let (batch, seq) = args.step();
        // The window may be longer than the model's positions: rotary positions have no table to outgrow.
        model.max_seq = model.max_seq.max(seq);
        Ok(Self {
            model,
            start: origin.parameters.as_deref().map(checkpoint_digest).transpose()?,
            train: TrainSettings {
                adamw: AdamwSettings::default(),
                peak_lr: args.lr,
                warmup_steps: warmup(total),
                total_steps: total,
                floor: 0.1,
            },
            workers: args.workers,
            batch,
            seq,
            top_k: (!args.dense).then(|| args.top_k.over(rounds)),
            rounds,
            inner_steps,
            seed: args.seed,
            arithmetic,
            carried: args.moments != MomentsName::Fresh,
            eight_bit: args.moments == MomentsName::Carried,
            outer_lr: outer_lr.over(rounds),
            outer_momentum: args.outer_momentum,
            error_decay: (!args.dense).then(|| error_decay.over(rounds)),
            corpus: hex::encode(corpus.digest),
            profile,
        })
    }

    /// The number of a worker's first inner step in round `round`, counted from 0.
    pub(crate) fn first_step(&self, round: u32) -> u32 {
        // The whole run fits, see `new`.
        self.inner_steps.before(round) as u32
    }

    /// The flags by which these settings differ from those of a kept run, each with what it was; empty for the same run.
    pub(crate) fn differences(&self, kept: &str) -> Result<Vec<String>, serde_json::Error> {
        let (now, then): (Value, Value) =
            (serde_json::from_str(&self.to_json()?)?, serde_json::from_str(kept)?);
        let mut found: Vec<String> = Vec::new();
        for (field, flag) in FLAGS {
            let of = |settings: &Value| match field {
                // The rest of it follows from the number of steps.
                "train" => settings[field]["peak_lr"].clone(),
                _ => settings[field].clone(),
            };
            let (now_has, then_had) = (of(&now), of(&then));
            // Schedules are kept over all rounds: with more rounds each is another.
            let follows = now["rounds"] != then["rounds"] && now_has.is_array() && field != "rounds";
            if now_has == then_had || follows {
                continue;
            }
            let plain = |value: &Value| matches!(value, Value::Number(_) | Value::Bool(_) | Value::String(_));
            found.push(match (&then_had, &now_has) {
                (then, now) if plain(then) && plain(now) && !matches!(field, "corpus" | "start") => {
                    format!("{flag} was {then} and is {now}")
                }
                _ => format!("{flag} is another"),
            });
        }
        if found.is_empty() && now != then {
            found.push("it is of another version of this program".to_owned());
        }
        Ok(found)
    }

    /// The settings as JSON, without what does not matter to results.
    pub(crate) fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use watershed_engine::model::Preset;

    use super::super::schedule::Schedule;
    use super::*;

    /// Settings of a run of so many rounds.
    pub(crate) fn settings(rounds: u32) -> Settings {
        let steps = Schedule::always(5u32).over(rounds);
        let total = u32::try_from(steps.total()).unwrap();
        Settings {
            model: Preset::Nano.config(),
            start: None,
            train: TrainSettings {
                adamw: AdamwSettings::default(),
                peak_lr: 3e-3,
                warmup_steps: warmup(total),
                total_steps: total,
                floor: 0.1,
            },
            workers: 4,
            batch: 8,
            seq: 128,
            top_k: Some(Schedule::always(512u32).over(rounds)),
            rounds,
            inner_steps: steps,
            seed: 0,
            arithmetic: "12x12".to_owned(),
            carried: true,
            eight_bit: true,
            outer_lr: Schedule::always(1.0f32).over(rounds),
            outer_momentum: 0.0,
            error_decay: Some(Schedule::always(0.95f32).over(rounds)),
            corpus: "00".to_owned(),
            profile: native(),
        }
    }

    #[test]
    fn every_setting_has_the_flag_that_it_comes_from() {
        let value = serde_json::to_value(settings(3)).unwrap();
        let fields: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        for field in &fields {
            assert!(FLAGS.iter().any(|(known, _)| known == field), "{field} has no flag");
        }
        assert_eq!(fields.len(), FLAGS.len());
        let one = settings(3);
        assert!(one.differences(&one.to_json().unwrap()).unwrap().is_empty());
        let lr = Settings { train: TrainSettings { peak_lr: 1e-3, ..one.train }, ..settings(3) };
        let said = lr.differences(&one.to_json().unwrap()).unwrap();
        assert!(said.len() == 1 && said[0].starts_with("--lr was 0.003"), "{said:?}");
        // Of more rounds nothing else is named, although schedules and warm-up differ too.
        assert_eq!(
            settings(60).differences(&settings(40).to_json().unwrap()).unwrap(),
            ["--rounds was 40 and is 60"]
        );
    }
}
