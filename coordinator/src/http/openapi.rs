//! The API's description.

use axum::Json;
use utoipa::openapi::path::{
    HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn, PathItem, PathsBuilder,
};
use utoipa::openapi::{InfoBuilder, OpenApi, OpenApiBuilder, Required, ResponseBuilder};

/// Method, path, what it does.
const ROUTES: &[(HttpMethod, &str, &str)] = &[
    (
        HttpMethod::Get,
        "/v1/info",
        "Who this coordinator is: key, Lightning node, network, verifier of its log",
    ),
    (HttpMethod::Get, "/v1/runs", "All runs"),
    (
        HttpMethod::Get,
        "/v1/runs/{run}",
        "A run: where it stands, its sums, checkpoints and signed specification",
    ),
    (
        HttpMethod::Get,
        "/v1/runs/{run}/works",
        "The round under way with all its tasks; `after=VERSION` waits for news",
    ),
    (
        HttpMethod::Get,
        "/v1/runs/{run}/works/{assignment}",
        "One task with commitments, reveals, openings and verdicts",
    ),
    (
        HttpMethod::Get,
        "/v1/runs/{run}/miners/{miner}",
        "What concerns one miner; `after=VERSION` waits for news",
    ),
    (HttpMethod::Get, "/v1/runs/{run}/files", "Files of the shard set, which are among the blobs"),
    (HttpMethod::Get, "/v1/runs/{run}/events", "The round under way as server-sent events"),
    (
        HttpMethod::Post,
        "/v1/runs/{run}/messages",
        "A signed message of a miner or validator: {\"envelope\": base64}",
    ),
    (HttpMethod::Post, "/v1/commands", "A command signed with the coordinator's key: {\"envelope\": base64}"),
    (HttpMethod::Get, "/v1/runs/{run}/pledges", "What is pledged so far, and the goal"),
    (
        HttpMethod::Post,
        "/v1/runs/{run}/pledges",
        "An invoice for a pledge: {\"sponsor\": name, \"amount_sat\": number}",
    ),
    (HttpMethod::Get, "/v1/runs/{run}/pledges/{hash}", "How a pledge stands"),
    (HttpMethod::Get, "/v1/runs/{run}/pledges/{hash}/qr", "The pledge's invoice as a QR code (SVG)"),
    (
        HttpMethod::Post,
        "/v1/runs/{run}/refunds",
        "A pledge's part of what was not spent: {\"preimage\": hex, \"invoice\": BOLT 11}",
    ),
    (HttpMethod::Post, "/v1/payouts", "A validator's fees: {\"envelope\": base64} of a signed invoice"),
    (HttpMethod::Get, "/v1/blobs/{sha256}", "A blob; ranges are possible"),
    (HttpMethod::Put, "/v1/blobs/{sha256}", "Uploads a blob that the header `watershed-upload` announces"),
    (HttpMethod::Get, "/log/{path}", "The public log, as C2SP tlog-tiles has it: `checkpoint`, `tile/...`"),
    (HttpMethod::Get, "/metrics", "Numbers for Prometheus"),
    (
        HttpMethod::Get,
        "/healthz",
        "Whether database, wallet and blobs work: a line for each, and 503 if one does not",
    ),
];

fn describe() -> OpenApi {
    let mut paths = PathsBuilder::new();
    for (method, path, summary) in ROUTES {
        let refused = "Refused: {\"code\": for programs, never changes, \"message\": for people}";
        let mut operation = OperationBuilder::new()
            .summary(Some(*summary))
            .response("200", ResponseBuilder::new().description("What was asked for").build())
            .response("default", ResponseBuilder::new().description(refused).build());
        for name in path.split('/').filter_map(|p| p.strip_prefix('{')?.strip_suffix('}')) {
            operation = operation.parameter(
                ParameterBuilder::new()
                    .name(name)
                    .parameter_in(ParameterIn::Path)
                    .required(Required::True)
                    .build(),
            );
        }
        paths = paths.path(*path, PathItem::new(method.clone(), operation.build()));
    }
    let info = InfoBuilder::new().title("Watershed coordinator").version(env!("CARGO_PKG_VERSION")).build();
    OpenApiBuilder::new().info(info).paths(paths.build()).build()
}

pub(super) async fn document() -> Json<OpenApi> {
    Json(describe())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_described() {
        let document = serde_json::to_value(describe()).unwrap();
        for (_, path, _) in ROUTES {
            assert!(document["paths"][path].is_object(), "{path}");
        }
        assert!(document["paths"]["/v1/runs/{run}/pledges"]["post"].is_object());
        assert!(document["paths"]["/v1/runs/{run}/pledges"]["get"].is_object());
    }
}
