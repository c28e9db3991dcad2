//! Every operation of the API: what carries it out and what is said of it, in one table. Router and document are both made of
//! it, so neither has what the other lacks.

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::routing::{MethodRouter, get, post, put};
use utoipa::openapi::path::HttpMethod;

use super::{Shared, blobs, health, log, metrics, money, openapi, runs};
use crate::office::Money;

/// What an operation answers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Gives {
    /// JSON of this schema.
    One(&'static str),
    /// A JSON list of them.
    List(&'static str),
    /// Events whose data is JSON of this schema.
    Events(&'static str),
    /// Something else, of this media type.
    Raw(&'static str),
}

/// What is said of an operation.
#[derive(Clone)]
pub(super) struct About {
    pub(super) method: HttpMethod,
    pub(super) path: &'static str,
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    /// Name and meaning.
    pub(super) queries: Vec<(&'static str, &'static str)>,
    /// Name, meaning, whether it must be there.
    pub(super) headers: Vec<(&'static str, &'static str, bool)>,
    /// Schema of the body; none for bytes, if `uploads`.
    pub(super) takes: Option<&'static str>,
    pub(super) uploads: bool,
    pub(super) gives: Gives,
    /// Other good answers: status and meaning.
    pub(super) also: Vec<(u16, &'static str)>,
    pub(super) codes: Vec<&'static str>,
}

/// An operation.
pub(super) struct Operation<M: Money> {
    pub(super) about: About,
    pub(super) handler: MethodRouter<Arc<Shared<M>>>,
}

impl<M: Money> Operation<M> {
    fn new(
        method: HttpMethod,
        path: &'static str,
        id: &'static str,
        handler: MethodRouter<Arc<Shared<M>>>,
    ) -> Self {
        let about = About {
            method,
            path,
            id,
            summary: "",
            queries: Vec::new(),
            headers: Vec::new(),
            takes: None,
            uploads: false,
            gives: Gives::Raw("text/plain"),
            also: Vec::new(),
            codes: Vec::new(),
        };
        Self { about, handler }
    }

    fn get(path: &'static str, id: &'static str, handler: MethodRouter<Arc<Shared<M>>>) -> Self {
        Self::new(HttpMethod::Get, path, id, handler)
    }

    fn post(path: &'static str, id: &'static str, handler: MethodRouter<Arc<Shared<M>>>) -> Self {
        let mut operation = Self::new(HttpMethod::Post, path, id, handler);
        operation.about.codes.extend(["bad-request", "too-long"]);
        operation
    }

    fn gives(mut self, summary: &'static str, gives: Gives) -> Self {
        (self.about.summary, self.about.gives) = (summary, gives);
        self
    }

    fn query(mut self, name: &'static str, meaning: &'static str) -> Self {
        self.about.queries.push((name, meaning));
        self
    }

    fn header(mut self, name: &'static str, meaning: &'static str, required: bool) -> Self {
        self.about.headers.push((name, meaning, required));
        self
    }

    fn takes(mut self, schema: &'static str) -> Self {
        self.about.takes = Some(schema);
        self
    }

    fn uploads(mut self) -> Self {
        self.about.uploads = true;
        self
    }

    fn also(mut self, status: u16, meaning: &'static str) -> Self {
        self.about.also.push((status, meaning));
        self
    }

    fn refuses(mut self, codes: &[&'static str]) -> Self {
        self.about.codes.extend(codes);
        self
    }
}

const AFTER: &str = "Waits up to 20 seconds until the version is another than this one";

/// What may be wrong with where money is to go.
const DESTINATION: &[&str] = &[
    "destination-amount",
    "destination-expired",
    "destination-form",
    "destination-network",
    "destination-private",
    "destination-unreachable",
];

/// What a message can be refused for.
const MESSAGE: &[&str] = &[
    "bad-envelope",
    "bad-id",
    "bad-receipt",
    "bad-signature",
    "changed",
    "fee-unpaid",
    "joining-fee",
    "known",
    "no-assignment",
    "not-allowed",
    "not-found",
    "not-joined",
    "other-run",
    "other-submission",
    "out-of-range",
    "too-early",
    "too-late",
    "unavailable",
    "unanswerable",
    "unfounded",
    "upload-first",
    "wrong-count",
    "wrong-phase",
    "wrong-preimages",
    "wrong-stage",
];

/// All operations.
pub(super) fn operations<M: Money>() -> Vec<Operation<M>> {
    use Gives::{Events, List, One, Raw};
    type On<M> = Operation<M>;
    vec![
        On::get("/v1/info", "info", get(runs::info::<M>))
            .gives("Who this coordinator is: key, Lightning node, network, verifier of its log", One("Info")),
        On::get("/v1/runs", "runs", get(runs::list::<M>))
            .gives("Runs, the newest first: 100 of them, or as many as `limit` says", List("Run"))
            .query("before", "Only what comes after this run in the list: the last one of the page before")
            .query("limit", "At most so many, 1 to 1000")
            .refuses(&["bad-id", "bad-request", "not-found"]),
        On::get("/v1/runs/{run}", "run", get(runs::show::<M>))
            .gives("A run: where it stands, its sums, checkpoints and signed specification", One("Run"))
            .refuses(&["bad-id", "not-found"]),
        On::get("/v1/runs/{run}/works", "works", get(runs::works::<M>))
            .gives("The round under way with all its tasks", One("RoundWork"))
            .query("after", AFTER)
            .refuses(&["bad-id", "bad-request", "not-found"]),
        On::get("/v1/runs/{run}/works/{assignment}", "work", get(runs::work::<M>))
            .gives("One task with commitment, openings and verdicts", One("Work"))
            .refuses(&["bad-id", "not-found"]),
        On::get("/v1/runs/{run}/works/{assignment}/reveal", "reveal", get(runs::reveal::<M>))
            .gives("What the miner of a task showed, with the digests of all its steps", One("Reveal"))
            .refuses(&["bad-id", "not-found"]),
        On::get("/v1/runs/{run}/miners/{miner}", "miner", get(runs::miner::<M>))
            .gives("What concerns one miner", One("Miner"))
            .query("after", AFTER)
            .header(
                "watershed-present",
                "Base64 of a signed `Present`: the miner itself says that it is there",
                false,
            )
            .refuses(&["bad-id", "bad-request", "bad-signature", "busy", "not-found", "stale-presence"]),
        On::get("/v1/runs/{run}/files", "files", get(runs::files::<M>))
            .gives("Files of the shard set, which are among the blobs", List("File"))
            .refuses(&["bad-id", "not-found", "refused", "unavailable"]),
        On::get("/v1/runs/{run}/events", "events", get(runs::events::<M>))
            .gives(
                "What changes about the run, as server-sent events named `news`; their id is the version",
                Events("News"),
            )
            .header("Last-Event-ID", "The last event that was received: nothing is told again", false)
            .refuses(&["bad-id", "busy", "not-found"]),
        On::post("/v1/runs/{run}/messages", "message", post(runs::message::<M>))
            .gives("Takes a signed message of a miner or validator; again changes nothing", One("Taken"))
            .takes("Signed")
            .header(
                "Authorization",
                "`L402 TOKEN:PREIMAGE`, what the joining fee bought, with a message that joins",
                false,
            )
            .refuses(MESSAGE),
        On::post("/v1/commands", "command", post(runs::command::<M>))
            .gives("Takes a command that is signed with the coordinator's key", One("Run"))
            .takes("Signed")
            .refuses(&[
                "bad-envelope",
                "bad-signature",
                "bad-specification",
                "not-allowed",
                "not-found",
                "out-of-range",
                "refused",
                "stale-command",
                "unavailable",
                "wrong-phase",
            ]),
        On::get("/v1/runs/{run}/pledges", "raised", get(money::raised::<M>))
            .gives("What is pledged so far, and the goal", One("Raised"))
            .refuses(&["bad-id", "refused"]),
        On::post("/v1/runs/{run}/pledges", "pledge", post(money::pledge::<M>))
            .gives("Asks for the invoice of a pledge; its claim token is told this once", One("PledgeMade"))
            .takes("AskPledge")
            .refuses(&["bad-id", "not-found", "out-of-range", "refused", "too-many-pledges", "wrong-phase"])
            .refuses(DESTINATION),
        On::get("/v1/runs/{run}/pledges/{hash}", "pledge_state", get(money::state::<M>))
            .gives("How a pledge stands", One("Pledge"))
            .refuses(&["bad-id", "refused"]),
        On::get("/v1/runs/{run}/pledges/{hash}/qr", "pledge_qr", get(money::qr::<M>))
            .gives("A pledge's invoice as a QR code", Raw("image/svg+xml"))
            .refuses(&["bad-id", "refused", "too-long"]),
        On::post("/v1/runs/{run}/refunds", "refund", post(money::refund::<M>))
            .gives("Pays a pledge's part of what was not spent", One("Paid"))
            .takes("AskRefund")
            .refuses(&["bad-id", "no-claim", "not-found", "not-paid", "nothing-left", "refused", "under-way"])
            .refuses(DESTINATION),
        On::post("/v1/payouts", "payout", post(money::payout::<M>))
            .gives("Pays a validator's fees, or what a miner is due at the end of a run, to the invoice that it signed", One("Paid"))
            .takes("Signed")
            .refuses(&["bad-envelope", "bad-signature", "refused"]),
        On::get("/v1/blobs/{sha256}", "blob", get(blobs::get::<M>))
            .gives("A blob", Raw("application/octet-stream"))
            .header("Range", "`bytes=A-B`, `bytes=A-` or `bytes=-N`", false)
            .header("If-None-Match", "The blob's name in quotes, which is its tag", false)
            .also(206, "The bytes that were asked for")
            .also(304, "It has not changed: blobs never do")
            .refuses(&["bad-id", "bad-range", "not-found", "unavailable"]),
        On::new(
            HttpMethod::Put,
            "/v1/blobs/{sha256}",
            "upload",
            put(blobs::put::<M>).layer(DefaultBodyLimit::disable()),
        )
        .gives("Uploads a blob; does nothing if it is there", One("Uploaded"))
        .uploads()
        .header("watershed-upload", "Base64 of a signed announcement: assignment, SHA-256, length", true)
        .refuses(&[
            "bad-envelope",
            "bad-id",
            "bad-signature",
            "bad-upload",
            "busy",
            "no-upload",
            "not-allowed",
            "too-long",
            "unavailable",
        ]),
        On::get("/v1/openapi.json", "openapi", get(openapi::document::<M>))
            .gives("This document", Raw("application/json")),
        On::get("/log/{*path}", "log", get(log::file::<M>))
            .gives(
                "The public log, as C2SP tlog-tiles has it: `checkpoint`, `tile/...`",
                Raw("application/octet-stream"),
            )
            .refuses(&["not-found"]),
        On::get("/metrics", "metrics", get(metrics::show::<M>))
            .gives("Numbers for Prometheus", Raw("application/openmetrics-text")),
        On::get("/healthz", "health", get(health::show::<M>))
            .gives("Whether journal, wallet and blobs work, a line for each", Raw("text/plain"))
            .also(503, "One of them does not"),
    ]
}
