//! The description of a dataset in Croissant 1.1 (MLCommons 2026), with provenance in PROV-O and consent in ODRL 2.2.
//!
//! What holds for single deposits stands in the columns of the tables, which name the property they stand for: a description
//! stays small however many deposits there are. Each consent tier is an `odrl:Offer` in `usageInfo`, and the column `tier` refers
//! to it by name.

use serde_json::{Value, json};
use watershed_protocol::data::{ConsentTier, License, Register};

use super::{About, Part, Summary};
use crate::snapshot::Snapshot;

/// Columns: name, data type, property, description.
const COLUMNS: [(&str, &str, Option<&str>, &str); 15] = [
    ("id", "sc:Text", Some("sc:identifier"), "Hash of the signed manifest: the name of the deposit."),
    ("text_hash", "sc:Text", None, "Tagged SHA-256 of the normalised text."),
    ("title", "sc:Text", Some("sc:name"), "What the contributor calls the text."),
    ("author", "sc:Text", Some("sc:author"), "Who wrote the text, if known and not the contributor."),
    ("language", "sc:Text", Some("sc:inLanguage"), "BCP 47 language tag."),
    ("register", "sc:Text", Some("sc:genre"), "Kind of speech or writing."),
    ("core", "sc:Text", None, "Codes of the Corpus of Online Registers of English."),
    ("license", "sc:Text", Some("sc:license"), "SPDX licence expression, or the contributor's own words."),
    ("license_is_spdx", "sc:Boolean", None, "Whether the licence is an SPDX expression."),
    ("tier", "sc:Text", Some("odrl:hasPolicy"), "Consent tier in force when the snapshot was taken."),
    ("split", "sc:Text", None, "Trained on, or held out for evaluation."),
    (
        "contributor",
        "sc:Text",
        Some("prov:wasAttributedTo"),
        "BIP-340 public key of who deposited and signed.",
    ),
    (
        "source",
        "sc:Text",
        Some("prov:wasDerivedFrom"),
        "Where the text comes from, by the contributor's word.",
    ),
    ("bytes", "sc:Integer", None, "Bytes of the normalised text."),
    ("text", "sc:Text", Some("sc:text"), "The text, if its consent tier lets it be shown."),
];

/// What a register is, for people.
fn meaning(register: Register) -> &'static str {
    match register {
        Register::Narrative => "Stories",
        Register::Conversational => "People talking with each other",
        Register::Technical => "Explanations of how things work or are made",
        Register::Sacred => "Scripture, prayer, liturgy",
        Register::Oral => "Speech to an audience, and what is handed down by telling",
        Register::Pedagogical => "Teaching",
        Register::Lyric => "Poems, songs, verse drama",
    }
}

/// A tier as an offer: what it permits and what it prohibits.
fn offer(tier: ConsentTier) -> Value {
    let use_where = |name: &str, left: &str, right: &str| {
        json!({
            "@type": "odrl:Permission",
            "odrl:action": {"@id": "odrl:use", "name": name},
            "odrl:constraint": [{
                "@type": "odrl:Constraint",
                "odrl:leftOperand": {"@id": left},
                "odrl:operator": {"@id": "odrl:eq"},
                "odrl:rightOperand": right
            }]
        })
    };
    let purpose = "training of machine-learning models";
    let training = use_where("Training of machine-learning models", "odrl:purpose", purpose);
    let owner = use_where("Training by the contributor", "odrl:recipient", "the contributor of the deposit");
    let rule = |kind: &str, action: &str| json!({"@type": format!("odrl:{kind}"), "odrl:action": {"@id": format!("odrl:{action}")}});
    let prohibited =
        |actions: &[&str]| actions.iter().map(|action| rule("Prohibition", action)).collect::<Vec<Value>>();
    let (permissions, prohibitions, says) = match tier {
        ConsentTier::Train => (
            vec![training],
            prohibited(&["display", "index", "distribute"]),
            "May be trained on; may not be searched or shown.",
        ),
        ConsentTier::TrainIndex => (
            vec![training, rule("Permission", "index"), rule("Permission", "display")],
            Vec::new(),
            "May be trained on, searched and shown.",
        ),
        ConsentTier::Federated => (
            vec![owner],
            prohibited(&["display", "index", "distribute", "move"]),
            "May be trained on by its contributor only; the text never leaves them.",
        ),
        ConsentTier::None => (Vec::new(), prohibited(&["use"]), "Withdrawn."),
    };
    json!({
        "@type": ["CreativeWork", "odrl:Offer"],
        "@id": policy(tier),
        "name": tier.name(),
        "description": says,
        "odrl:permission": permissions,
        "odrl:prohibition": prohibitions
    })
}

fn policy(tier: ConsentTier) -> String {
    format!("consent/{}", tier.name().replace('+', "-and-"))
}

/// An address for a single SPDX identifier, else the words.
fn license(license: &License) -> String {
    match license {
        License::Spdx(id) if id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.+".contains(&b)) => {
            format!("https://spdx.org/licenses/{id}.html")
        }
        other => other.text().to_owned(),
    }
}

/// A record set over one of the files.
fn table(id: &str, file: &str, what: &str) -> Value {
    let fields: Vec<Value> = COLUMNS
        .iter()
        .map(|(name, data_type, property, description)| {
            let mut field = json!({
                "@type": "cr:Field",
                "@id": format!("{id}/{name}"),
                "name": name,
                "description": description,
                "dataType": data_type,
                "source": {"fileObject": {"@id": file}, "extract": {"column": name}}
            });
            if let Some(property) = property {
                field["equivalentProperty"] = json!(property);
            }
            match *name {
                "core" => {
                    field["isArray"] = json!(true);
                    field["arrayShape"] = json!("-1");
                }
                "register" => field["references"] = json!({"field": {"@id": "registers/name"}}),
                "tier" => field["references"] = json!({"field": {"@id": "tiers/name"}}),
                "split" => field["references"] = json!({"field": {"@id": "splits/name"}}),
                _ => {}
            }
            field
        })
        .collect();
    json!({
        "@type": "cr:RecordSet",
        "@id": id,
        "name": id,
        "description": what,
        "key": {"@id": format!("{id}/id")},
        "field": fields
    })
}

/// A list of names with what they stand for.
fn list(id: &str, data_type: &str, what: &str, second: (&str, &str), rows: Vec<(String, String)>) -> Value {
    let (name, other) = (format!("{id}/name"), format!("{id}/{}", second.0));
    let data: Vec<Value> =
        rows.into_iter().map(|(a, b)| json!({name.clone(): a, other.clone(): b})).collect();
    json!({
        "@type": "cr:RecordSet",
        "@id": id,
        "name": id,
        "description": what,
        "dataType": data_type,
        "key": {"@id": name.clone()},
        "field": [
            {"@type": "cr:Field", "@id": name, "name": "name", "dataType": "sc:Text"},
            {"@type": "cr:Field", "@id": other, "name": second.0, "dataType": second.1}
        ],
        "data": data
    })
}

/// The description of a dataset.
pub(super) fn describe(snapshot: &Snapshot, about: &About, summary: &Summary, parts: &[Part]) -> Value {
    let id = snapshot.id().to_string();
    let files: Vec<Value> = parts
        .iter()
        .map(|part| {
            let format = if part.name.ends_with(".parquet") {
                "application/x-parquet"
            } else {
                "application/jsonlines"
            };
            json!({
                "@type": "cr:FileObject",
                "@id": part.name,
                "name": part.name,
                "description": "A row for each deposit.",
                "contentUrl": part.name,
                "contentSize": format!("{} B", part.bytes),
                "encodingFormat": format,
                "sha256": part.sha256.to_string(),
                "prov:wasGeneratedBy": {"@id": format!("urn:watershed:snapshot:{id}")}
            })
        })
        .collect();
    let registers = Register::ALL.iter().map(|r| (r.name().to_owned(), meaning(*r).to_owned())).collect();
    let tiers = summary.tiers.iter().map(|t| (t.name().to_owned(), policy(*t))).collect();
    let splits = vec![
        ("train".to_owned(), "cr:TrainingSplit".to_owned()),
        ("held-out".to_owned(), "cr:ValidationSplit".to_owned()),
    ];
    let mut dataset = json!({
        "@context": context(),
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": about.name,
        "description": about.description,
        "creator": {"@type": "sc:Organization", "name": about.creator},
        "url": about.url.clone().unwrap_or_else(|| format!("urn:watershed:snapshot:{id}")),
        "version": format!("1.0.0+{}", id.get(..12).unwrap_or(&id)),
        "identifier": id,
        "license": summary.licenses.iter().map(license).collect::<Vec<_>>(),
        "inLanguage": summary.languages,
        "citeAs": format!("{}, snapshot {id}", about.name),
        "isLiveDataset": false,
        "usageInfo": summary.tiers.iter().map(|t| offer(*t)).collect::<Vec<_>>(),
        "prov:wasGeneratedBy": {
            "@type": "prov:Activity",
            "@id": format!("urn:watershed:snapshot:{id}"),
            "prov:label": "Snapshot of the deposits whose consent was in force"
        },
        "distribution": files,
        "recordSet": [
            list("registers", "sc:Enumeration", "Kinds of text.", ("meaning", "sc:Text"), registers),
            list("tiers", "sc:Enumeration", "Consent tiers, each with its policy.", ("policy", "sc:Text"), tiers),
            list("splits", "cr:Split", "What is trained on and what is measured with.", ("url", "sc:URL"), splits),
            table("deposits", super::PARQUET, "The deposits, from Parquet."),
            table("deposits_jsonl", super::JSON_LINES, "The same deposits, from JSON lines."),
        ]
    });
    if let Some(day) = &about.published {
        dataset["datePublished"] = json!(day);
    }
    dataset
}

/// The context of the specification, with the vocabularies of provenance and policy.
fn context() -> Value {
    let mut context = json!({
        "@language": "en",
        "@vocab": "https://schema.org/",
        "sc": "https://schema.org/",
        "cr": "http://mlcommons.org/croissant/",
        "rai": "http://mlcommons.org/croissant/RAI/",
        "dct": "http://purl.org/dc/terms/",
        "prov": "http://www.w3.org/ns/prov#",
        "odrl": "http://www.w3.org/ns/odrl/2/",
        "conformsTo": "dct:conformsTo",
        "data": {"@id": "cr:data", "@type": "@json"},
        "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
        "examples": {"@id": "cr:examples", "@type": "@json"}
    });
    const TERMS: [&str; 33] = [
        "annotation",
        "arrayShape",
        "citeAs",
        "column",
        "containedIn",
        "equivalentProperty",
        "excludes",
        "extract",
        "field",
        "fileProperty",
        "fileObject",
        "fileSet",
        "format",
        "includes",
        "isArray",
        "isLiveDataset",
        "jsonPath",
        "key",
        "md5",
        "parentField",
        "readLines",
        "recordSet",
        "references",
        "regex",
        "separator",
        "source",
        "subField",
        "transform",
        "unArchive",
        "path",
        "repeated",
        "replace",
        "samplingRate",
    ];
    for term in TERMS {
        context[term] = json!(format!("cr:{term}"));
    }
    context
}
