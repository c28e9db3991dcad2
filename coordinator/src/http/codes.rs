//! The codes of refusals: part of the API, so that programs can tell one from another. Each has one status.

use axum::http::StatusCode;

/// Code, status, meaning.
pub(super) const CODES: &[(&str, u16, &str)] = &[
    ("bad-envelope", 400, "`envelope` is not the base64 of a signed envelope"),
    ("bad-id", 400, "a name in the path is not 64 hex digits"),
    ("bad-receipt", 400, "a receipt is not the miner's node's, or not for a lot of the assignment"),
    ("bad-request", 400, "the request is not what this path takes: no JSON, a field too many or too few"),
    ("bad-signature", 400, "the signature does not hold, or it is over something else"),
    ("bad-specification", 400, "the specification makes no run that can be run here"),
    ("bad-upload", 400, "what was uploaded has another hash or length than was announced, or broke off"),
    ("no-upload", 400, "the header `watershed-upload` is missing, or announces another blob"),
    (
        "destination-amount",
        400,
        "the destination takes less or more than there is to pay, or names no amount",
    ),
    ("destination-expired", 400, "the destination has expired, or will have when it is needed"),
    ("destination-form", 400, "this is no offer, Lightning address or invoice that can be paid"),
    ("destination-network", 400, "the destination is on another Bitcoin network"),
    ("destination-private", 400, "the address leads to a private network"),
    ("destination-unreachable", 400, "the address' server gives no invoice"),
    ("other-run", 400, "the message is for another run than the path names"),
    ("stale-presence", 400, "the clocks of miner and coordinator differ too much"),
    ("fee-unpaid", 402, "the run takes a fee for joining, which was not paid"),
    ("joining-fee", 402, "the run takes a fee for joining; the header `WWW-Authenticate` has its invoice"),
    ("no-claim", 403, "this token claims nothing"),
    ("not-allowed", 403, "the signer may not say this"),
    ("not-joined", 403, "the miner has not joined the run"),
    ("no-assignment", 404, "there is no such assignment, or it is over"),
    ("not-found", 404, "there is nothing of this name"),
    ("bad-method", 405, "not with this method"),
    ("too-slow", 408, "the request took too long to arrive"),
    ("changed", 409, "something else was said before, and counts"),
    ("known", 409, "this was said before, and changes nothing"),
    ("nothing-left", 409, "nothing is left to be paid"),
    ("stale-command", 409, "the command is older than one that was taken, or was not given just now"),
    ("too-early", 409, "its part of the time for verdicts has not come yet"),
    ("too-late", 409, "its part of the time for verdicts is over"),
    ("under-way", 409, "it is being paid already"),
    ("upload-first", 409, "a blob that the message names is not here yet"),
    ("wrong-phase", 409, "not in this phase of the run"),
    ("wrong-stage", 409, "not at this stage of the assignment"),
    ("too-long", 413, "more bytes than are taken"),
    ("bad-range", 416, "the blob has no bytes there"),
    ("not-paid", 422, "the payment did not arrive; the message says why"),
    ("other-submission", 422, "the verdict is on another submission, or drawn from something else"),
    ("out-of-range", 422, "a number is out of range"),
    ("refused", 422, "the wallet or its books refuse it; the message says why"),
    ("unanswerable", 422, "the request for openings is none that a miner could answer"),
    ("unfounded", 422, "the verdict does not follow from what was asked for and answered"),
    ("wrong-count", 422, "too many or too few of something"),
    ("wrong-preimages", 422, "the preimages do not release the lots of the share"),
    ("too-many", 429, "too many requests or streams; ask again later"),
    ("too-many-pledges", 429, "too many pledges wait to be paid; ask again later"),
    ("busy", 503, "too much is under way at once; ask again in a moment"),
    ("unavailable", 503, "the coordinator cannot do it now; ask again later"),
];

/// The status that goes with a code. A code that is not in the table is one that was forgotten there.
pub(super) fn status(code: &str) -> StatusCode {
    let found = CODES.iter().find(|(known, ..)| *known == code);
    found
        .and_then(|(_, status, _)| StatusCode::from_u16(*status).ok())
        .unwrap_or(StatusCode::UNPROCESSABLE_ENTITY)
}
