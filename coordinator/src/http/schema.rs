//! The shapes of what is said and answered, for the document. That they are those of the values is tested.

use serde_json::Value;
use utoipa::openapi::schema::{
    AdditionalProperties, ArrayBuilder, ArrayItems, ComponentsBuilder, ObjectBuilder, OneOfBuilder, Schema,
    SchemaType, Type,
};
use utoipa::openapi::{Components, Ref, RefOr};

use super::codes::CODES;

/// A kind of value.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Text,
    /// 64 hex digits.
    Name,
    Whole,
    /// A decimal number.
    Number,
    Flag,
    /// A Lightning node, `<66 hex digits>@host:port`.
    Node,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Another schema.
    Of(&'static str),
    List(&'static Kind),
    /// Or null.
    Maybe(&'static Kind),
    /// Two values in a list.
    Pair(&'static Kind, &'static Kind),
    /// By name.
    Map(&'static Kind),
    /// Whatever it is.
    Any,
}

use Kind::{Any, Flag, List, Map, Maybe, Name, Node, Number, Of, Pair, Text, Whole, Word};

type Fields = &'static [(&'static str, Kind, &'static str)];

const PHASES: &[&str] = &["funding", "preparing", "running", "closing", "ended"];
const STAGES: &[&str] = &["locking", "training", "revealing", "judging", "stepping"];
const WAITS: &[&str] =
    &["pledges", "checkpoint", "operator", "miners", "channels", "validators", "pause", "rewards"];
const WORK_STAGES: &[&str] = &[
    "hashing",
    "offering",
    "offered",
    "locking",
    "paid",
    "confirming",
    "locked",
    "committed",
    "revealed",
    "dropped",
];

/// Name, meaning, fields.
const SHAPES: &[(&str, &str, Fields)] = &[
    (
        "Info",
        "Who a coordinator is",
        &[
            ("key", Name, "Its key, which signs specifications"),
            ("node", Node, "Its Lightning node, `<66 hex digits>@host:port`"),
            ("network", Text, "The Bitcoin network"),
            ("log", Text, "The verifier of its log, in the form of C2SP signed notes"),
            ("version", Text, "Its version"),
            ("now", Whole, "Its clock, in seconds since 1970"),
        ],
    ),
    (
        "Run",
        "A run",
        &[
            ("run", Name, "Its name: the hash of the specification"),
            ("title", Text, "For people"),
            ("phase", Word(PHASES), "Where it stands"),
            ("end", Text, "How it ended or will end; else empty"),
            ("paused", Flag, "Whether no round is begun"),
            ("trouble", Text, "What needs the operator's attention; else empty"),
            ("waits_for", List(&Of("Wait")), "What it waits for; empty while it gets on, or when it is over"),
            ("opened", Whole, "When it was opened, in seconds since 1970"),
            (
                "idle_at",
                Maybe(&Whole),
                "When it ends by itself if no round ends before, in seconds since 1970; null if it has no such day",
            ),
            ("rounds_done", Whole, "Rounds that are done"),
            ("rounds", Whole, "Rounds in all"),
            ("round", Maybe(&Of("Round")), "The round under way"),
            ("miners", Whole, "Miners that joined and want work"),
            ("sums", Of("Sums"), "Sums"),
            ("checkpoints", List(&Of("Checkpoint")), "From the first on"),
            ("spec", Any, "The specification, in the sections of the TOML file that `run new` writes"),
            ("signed", Text, "Base64 of the specification as the coordinator signed it"),
        ],
    ),
    (
        "Wait",
        "What keeps a run from getting on",
        &[
            ("what", Word(WAITS), "Which"),
            ("text", Text, "For people: goes on from `It waits for`"),
            ("keys", List(&Name), "Which miners or validators, where they are known; else empty"),
        ],
    ),
    (
        "Sums",
        "Sums over a run, in msat",
        &[
            ("pledged", Whole, "Taken from sponsors"),
            ("locked", Whole, "Locked at any time"),
            ("paid", Whole, "Paid to miners"),
            ("back", Whole, "Come back from escrows"),
            ("fees", Whole, "Paid for verdicts"),
            (
                "owed",
                Whole,
                "Earned by miners and held back; when the run is over, what of it is paid on request",
            ),
            ("left", Whole, "Left at the end"),
            ("accepted", Whole, "Submissions accepted"),
            ("rejected", Whole, "Submissions rejected"),
        ],
    ),
    (
        "Round",
        "The round under way",
        &[
            ("number", Whole, "From 0"),
            ("stage", Word(STAGES), "What it is doing"),
            ("until", Whole, "When the stage ends, in seconds since 1970"),
            ("randomness", Maybe(&Name), "What scores are drawn from, once it is known"),
        ],
    ),
    (
        "Checkpoint",
        "The parameters before the first round, or after one",
        &[
            ("run", Name, "The run"),
            ("round", Whole, "The round that begins with it, from 0: so many are done"),
            ("checkpoint", Name, "Merkle root of the parameters"),
            ("blob", Name, "SHA-256 of the file with the parameters"),
            ("velocity", Maybe(&Name), "SHA-256 of the file with the outer optimizer's velocity"),
            ("accepted", List(&Name), "Tasks whose submissions are in it, ascending"),
            ("loss", Maybe(&Number), "Loss on held-out text; null if it is no finite number"),
            ("loss_bits", Whole, "The bits of the same (f32)"),
        ],
    ),
    (
        "RoundWork",
        "What a validator works from",
        &[
            ("version", Whole, "Changes when there is something for a validator to do"),
            ("round", Maybe(&Of("Round")), "The round under way"),
            ("checkpoint", Maybe(&Of("Checkpoint")), "The newest one"),
            ("ended", Flag, "Whether the run is over"),
            ("works", List(&Of("Work")), "Tasks of the round"),
        ],
    ),
    (
        "Work",
        "A task with everything that came of it",
        &[
            ("id", Name, "Its name: the hash of the assignment"),
            ("assignment", Of("Assignment"), "The task"),
            ("stage", Word(WORK_STAGES), "Where it stands"),
            ("reason", Text, "Why it was dropped; else empty"),
            ("holders", List(&Name), "Validators that are asked for payment hashes"),
            ("hashed", List(&Name), "Validators that gave payment hashes"),
            ("lots", List(&Of("Lot")), "Offered lots"),
            ("commitment", Maybe(&Of("Commitment")), "What the miner bound itself to"),
            ("reveal", Maybe(&Of("Shown")), "What it showed, in short"),
            (
                "openings",
                List(&Pair(&Name, &Of("Opening"))),
                "What validators asked for, each with who asked",
            ),
            ("opened", List(&Of("Opened")), "What the miner answered"),
            ("sound", List(&Name), "Validators that found nothing wrong"),
            ("verdicts", List(&Text), "Signed verdicts, in base64"),
            (
                "rulings",
                List(&Pair(&Name, &Flag)),
                "Contradicting verdicts that were looked at again: whether they hold",
            ),
            (
                "record",
                Pair(&Whole, &Whole),
                "Submissions of its miner that were accepted and rejected before",
            ),
            ("judged", Flag, "Whether no further verdict is taken"),
            ("accepted", Flag, "Whether the submission went into the checkpoint"),
            ("escrow_open", Flag, "Whether money is still locked for it"),
            ("receipts", Flag, "Whether the miner's receipts are in the record"),
        ],
    ),
    (
        "Assignment",
        "What one miner is to compute in one round",
        &[
            ("run", Name, "The run"),
            ("round", Whole, "The round, from 0"),
            ("miner", Name, "Who"),
            ("checkpoint", Name, "Merkle root of the parameters to start from"),
            ("previous", Maybe(&Name), "The assignment whose error feedback and moments it continues"),
            ("window", Any, "Its text: shard set, mixture, seed and range of sequences"),
            ("batch", Whole, "Sequences of each inner step"),
            ("reward", Whole, "The most that it pays, in msat"),
        ],
    ),
    (
        "Lot",
        "A part of a reward",
        &[
            ("validator", Name, "Whose secret releases it"),
            ("tier", Whole, "From 0"),
            ("hash", Name, "The payment hash"),
            ("amount", Whole, "In msat"),
        ],
    ),
    (
        "Commitment",
        "What a miner binds itself to before anybody's work is shown",
        &[
            ("assignment", Name, "The task"),
            ("submission", Name, "Hash of the miner's key and the encoded pseudo-gradient"),
            ("trajectory", Name, "Hash over the digests of all states"),
            ("error_feedback", Name, "Merkle root of the error feedback after compression"),
            ("moments", Name, "Merkle root of the carried moments"),
            ("updates", Whole, "Updates that these moments have seen"),
        ],
    ),
    (
        "Shown",
        "What a miner showed, in short",
        &[
            ("blob", Name, "SHA-256 of the encoded pseudo-gradient"),
            ("start", Name, "State digest before the first step"),
            ("steps", Whole, "How many steps"),
        ],
    ),
    (
        "Reveal",
        "What a miner showed",
        &[
            ("assignment", Name, "The task"),
            ("blob", Name, "SHA-256 of the encoded pseudo-gradient"),
            ("start", Name, "State digest before the first step"),
            ("steps", List(&Of("Step")), "All steps"),
        ],
    ),
    (
        "Step",
        "One inner step, as the miner says it went",
        &[
            ("state", Name, "State digest after the step"),
            ("loss", Maybe(&Number), "Loss before its update; null if it is no finite number"),
            ("loss_bits", Whole, "The bits of the same (f32)"),
        ],
    ),
    (
        "Opening",
        "What a validator asks of a miner",
        &[
            ("assignment", Name, "The task"),
            ("step", Maybe(&Whole), "Step that will be replayed, from 0; none if only chunks are opened"),
            ("chunks", List(&Whole), "Chunks of 4096 parameters whose compression will be done again"),
        ],
    ),
    (
        "Opened",
        "A miner's answer: two uploads",
        &[
            ("assignment", Name, "The task"),
            ("validator", Name, "Who asked"),
            ("step", Maybe(&Whole), "The step that was asked for"),
            ("state", Maybe(&Name), "SHA-256 of the state before the step"),
            ("chunks", Name, "SHA-256 of the opened chunks"),
        ],
    ),
    (
        "Miner",
        "What a miner works from",
        &[
            ("version", Whole, "Changes with every event that concerns it"),
            ("active", Flag, "Whether it joined and wants work"),
            ("channel", Text, "`ready`, `none yet`, or why there is none"),
            ("ended", Flag, "Whether the run is over"),
            ("phase", Word(PHASES), "Where the run stands"),
            ("round", Maybe(&Of("Round")), "The round under way"),
            ("checkpoint", Maybe(&Of("Checkpoint")), "The newest one, without the list of what is in it"),
            ("record", Pair(&Whole, &Whole), "Submissions accepted and rejected so far"),
            ("good", Whole, "Submissions accepted since the last rejected one"),
            ("held_back", Whole, "What it has earned and is held back, in msat"),
            ("due", Whole, "What it is paid of that on request when the run is over, in msat"),
            ("last", Maybe(&Name), "The assignment whose state it carries"),
            ("works", List(&Of("Work")), "Its tasks that are not over: the newest last"),
        ],
    ),
    (
        "File",
        "A file of a shard set",
        &[
            ("role", Word(&["set", "index", "shard"]), "Which"),
            ("sha256", Name, "Its name among the blobs"),
            ("bytes", Whole, "Its length"),
        ],
    ),
    (
        "News",
        "What changes about a run while it runs",
        &[
            ("version", Whole, "Changes with every event; also the id of the event in the stream"),
            ("phase", Word(PHASES), "Where the run stands"),
            ("round", Maybe(&Of("Round")), "The round under way"),
            ("works", Map(&Whole), "Tasks of the round under way, by their stage"),
            ("rounds_done", Whole, "Rounds that are done"),
            ("miners", Whole, "Miners that joined and want work"),
            ("sums", Of("Sums"), "Sums"),
        ],
    ),
    (
        "Pledge",
        "A pledge's invoice",
        &[
            ("invoice", Text, "BOLT 11, payable by any wallet"),
            ("hash", Name, "Names the pledge"),
            ("state", Word(&["invoiced", "held", "claiming", "settled", "given-back"]), "How it stands"),
            ("amount", Whole, "In msat"),
            ("left", Whole, "Its part of what the run did not spend, as far as it is not paid back, in msat"),
            ("refunded", Whole, "Paid back after the end of the run, in msat"),
            ("refund", Text, "How paying back by itself stands: none, waiting, paid or claim"),
        ],
    ),
    (
        "PledgeMade",
        "A pledge that was just made",
        &[
            ("invoice", Text, "BOLT 11, payable by any wallet"),
            ("hash", Name, "Names the pledge"),
            ("state", Word(&["invoiced", "held", "claiming", "settled", "given-back"]), "How it stands"),
            ("amount", Whole, "In msat"),
            ("left", Whole, "Nothing yet"),
            ("refunded", Whole, "Nothing yet"),
            ("refund", Text, "Whether a destination was left"),
            ("claim", Text, "Whoever shows this may claim what is left of the pledge; it is told once"),
        ],
    ),
    (
        "Raised",
        "Pledges of a run, in msat",
        &[("raised", Whole, "Pledged so far"), ("goal", Whole, "What is needed")],
    ),
    ("Paid", "A payment", &[("paid", Whole, "In msat")]),
    ("Uploaded", "A blob that is here", &[("sha256", Name, "Its name")]),
    (
        "Taken",
        "A message that was taken",
        &[(
            "promise",
            Maybe(&Text),
            "For commitments and submissions: base64 of a signed promise that it will be in the record",
        )],
    ),
    ("Signed", "A signed message", &[("envelope", Text, "Base64 of an encoded envelope")]),
    (
        "AskPledge",
        "Somebody wants to pledge",
        &[
            ("sponsor", Text, "A name"),
            ("amount_sat", Whole, "In sat"),
            (
                "refund_to",
                Maybe(&Text),
                "Where what is not spent goes by itself: BOLT 12 offer or Lightning address",
            ),
        ],
    ),
    (
        "AskRefund",
        "A sponsor wants its part of what was not spent",
        &[
            ("claim", Text, "The token that the pledge's answer had"),
            ("to", Text, "BOLT 11 invoice with the amount, BOLT 12 offer or Lightning address"),
        ],
    ),
];

fn of_type(kind: Type) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::new(kind))
}

impl Kind {
    fn schema(self) -> RefOr<Schema> {
        let plain = |object: ObjectBuilder| RefOr::T(Schema::Object(object.build()));
        match self {
            Text => plain(of_type(Type::String)),
            Name => plain(of_type(Type::String).pattern(Some("^[0-9a-f]{64}$"))),
            Whole => plain(of_type(Type::Integer).minimum(Some(0))),
            Number => plain(of_type(Type::Number)),
            Node => plain(of_type(Type::String).pattern(Some("^[0-9a-f]{66}@.+:[0-9]{1,5}$"))),
            Flag => plain(of_type(Type::Boolean)),
            Word(words) => plain(of_type(Type::String).enum_values(Some(words.iter().copied()))),
            Of(name) => RefOr::Ref(Ref::from_schema_name(name)),
            List(of) => RefOr::T(Schema::Array(ArrayBuilder::new().items(of.schema()).build())),
            Pair(first, second) => {
                let places = [first, second].map(|kind| match kind.schema() {
                    RefOr::T(schema) => schema,
                    // A place of a list takes no reference itself.
                    to => Schema::OneOf(OneOfBuilder::new().item(to).build()),
                });
                let list = ArrayBuilder::new().prefix_items(places).items(ArrayItems::False);
                RefOr::T(Schema::Array(list.min_items(Some(2)).max_items(Some(2)).build()))
            }
            Maybe(of) => {
                let none = plain(of_type(Type::Null));
                RefOr::T(Schema::OneOf(OneOfBuilder::new().item(none).item(of.schema()).build()))
            }
            Map(of) => plain(of_type(Type::Object).additional_properties(Some(of.schema()))),
            Any => {
                plain(of_type(Type::Object).additional_properties(Some(AdditionalProperties::FreeForm(true))))
            }
        }
    }
}

/// Of what is named by 64 hex digits.
pub(super) fn name() -> RefOr<Schema> {
    Name.schema()
}

/// Of a whole number.
pub(super) fn whole() -> RefOr<Schema> {
    Whole.schema()
}

/// With what it means beside it: a reference alone cannot say.
fn described(kind: Kind, meaning: &'static str) -> RefOr<Schema> {
    match kind.schema() {
        RefOr::T(Schema::Object(mut object)) => {
            object.description = Some(meaning.to_owned());
            RefOr::T(Schema::Object(object))
        }
        RefOr::T(Schema::Array(mut list)) => {
            list.description = Some(meaning.to_owned());
            RefOr::T(Schema::Array(list))
        }
        RefOr::T(Schema::OneOf(mut one)) => {
            one.description = Some(meaning.to_owned());
            RefOr::T(Schema::OneOf(one))
        }
        RefOr::Ref(mut to) => {
            to.description = meaning.to_owned();
            RefOr::Ref(to)
        }
        other => other,
    }
}

fn shape(meaning: &'static str, fields: Fields) -> Schema {
    let mut object = of_type(Type::Object).description(Some(meaning));
    for (name, kind, meaning) in fields {
        object = object.property(*name, described(*kind, meaning)).required(*name);
    }
    Schema::Object(object.build())
}

/// All schemas.
pub(super) fn components() -> Components {
    let mut components = ComponentsBuilder::new();
    for (name, meaning, fields) in SHAPES {
        components = components.schema(*name, shape(meaning, fields));
    }
    let codes = CODES.iter().map(|(code, ..)| Value::from(*code));
    let code =
        of_type(Type::String).enum_values(Some(codes)).description(Some("For programs; does not change"));
    let message = of_type(Type::String).description(Some("For people"));
    let refused = of_type(Type::Object)
        .description(Some("Why a request was refused"))
        .property("code", code.build())
        .required("code")
        .property("message", message.build())
        .required("message");
    components.schema("Refused", refused.build()).build()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn is(value: &Value, kind: Kind, at: &str) {
        let good = match kind {
            Text => value.is_string(),
            Name => value.as_str().is_some_and(|s| s.len() == 64 && s.bytes().all(|b| b.is_ascii_hexdigit())),
            Whole => value.is_u64(),
            Number => value.is_number(),
            Node => value.as_str().and_then(|s| s.split_once('@')).is_some_and(|(key, at)| {
                key.len() == 66 && key.bytes().all(|b| b.is_ascii_hexdigit()) && at.contains(':')
            }),
            Flag => value.is_boolean(),
            Word(words) => value.as_str().is_some_and(|s| words.contains(&s)),
            Any => value.is_object(),
            Of(name) => {
                check(name, value);
                true
            }
            List(of) => {
                let list = value.as_array().unwrap_or_else(|| panic!("{at}: {value}"));
                list.iter().for_each(|v| is(v, *of, at));
                true
            }
            Pair(first, second) => {
                let pair =
                    value.as_array().filter(|l| l.len() == 2).unwrap_or_else(|| panic!("{at}: {value}"));
                is(&pair[0], *first, at);
                is(&pair[1], *second, at);
                true
            }
            Map(of) => {
                let map = value.as_object().unwrap_or_else(|| panic!("{at}: {value}"));
                map.values().for_each(|v| is(v, *of, at));
                true
            }
            Maybe(of) => {
                if !value.is_null() {
                    is(value, *of, at);
                }
                true
            }
        };
        assert!(good, "{at} is {value}");
    }

    /// What a list of two differs in stands in two places, so that a value of it fits its schema.
    #[test]
    fn a_pair_is_described_place_by_place() {
        let schema = serde_json::to_value(Pair(&Whole, &Whole).schema()).unwrap();
        let whole = serde_json::json!({ "type": "integer", "minimum": 0 });
        assert_eq!(schema["prefixItems"], serde_json::json!([whole, whole]));
        assert_eq!((&schema["items"], &schema["minItems"]), (&Value::from(false), &Value::from(2)));
        assert!(schema.get("oneOf").is_none() && schema["items"].get("oneOf").is_none());
    }

    /// That a value is a refusal.
    pub(in crate::http) fn check_refused(value: &Value) {
        assert!(value["code"].is_string() && value["message"].is_string(), "{value}");
        assert_eq!(value.as_object().map(serde_json::Map::len), Some(2), "{value}");
    }

    /// That a value has the fields of its schema, and no others.
    pub(in crate::http) fn check(name: &str, value: &Value) {
        let (.., fields) = SHAPES.iter().find(|(known, ..)| *known == name).unwrap();
        let object = value.as_object().unwrap_or_else(|| panic!("{name} is {value}"));
        for (field, kind, _) in *fields {
            let found = object.get(*field).unwrap_or_else(|| panic!("{name} has no {field}: {value}"));
            is(found, *kind, &format!("{name}.{field}"));
        }
        for field in object.keys() {
            assert!(fields.iter().any(|(known, ..)| known == field), "{name}.{field} is in no schema");
        }
    }
}
