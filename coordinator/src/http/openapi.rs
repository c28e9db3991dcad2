//! The API's description, made of the table of its operations.

use axum::Json;
use utoipa::openapi::path::{OperationBuilder, Parameter, ParameterBuilder, ParameterIn, Paths};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{
    Content, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Required, Response, ResponseBuilder,
};

use super::codes::{self, CODES};
use super::routes::{About, Gives, Operation, operations};
use super::schema;
use crate::office::Money;

fn text() -> RefOr<Schema> {
    RefOr::T(Schema::Object(ObjectBuilder::new().schema_type(SchemaType::new(Type::String)).build()))
}

fn named(schema: &str) -> RefOr<Schema> {
    RefOr::Ref(Ref::from_schema_name(schema))
}

fn content(schema: RefOr<Schema>) -> Content {
    Content::new(Some(schema))
}

fn given(gives: Gives) -> (&'static str, RefOr<Schema>) {
    match gives {
        Gives::One(schema) => ("application/json", named(schema)),
        Gives::List(schema) => {
            ("application/json", RefOr::T(Schema::Array(ArrayBuilder::new().items(named(schema)).build())))
        }
        Gives::Events(schema) => ("text/event-stream", named(schema)),
        Gives::Raw(kind) => (kind, text()),
    }
}

fn of(
    schema: RefOr<Schema>,
    name: &str,
    place: ParameterIn,
    required: bool,
    meaning: Option<&str>,
) -> Parameter {
    let required = if required { Required::True } else { Required::False };
    let builder = ParameterBuilder::new().name(name).parameter_in(place).required(required);
    builder.description(meaning).schema(Some(schema)).build()
}

fn parameter(name: &str, place: ParameterIn, required: bool, meaning: Option<&str>) -> Parameter {
    of(text(), name, place, required, meaning)
}

fn id(name: &str, place: ParameterIn, required: bool, meaning: Option<&str>) -> Parameter {
    of(schema::name(), name, place, required, meaning)
}

fn whole(name: &str, place: ParameterIn, meaning: Option<&str>) -> Parameter {
    of(schema::whole(), name, place, false, meaning)
}

fn refusal(codes: &[(&str, &str)]) -> Response {
    let said: Vec<String> = codes.iter().map(|(code, meaning)| format!("`{code}`: {meaning}")).collect();
    ResponseBuilder::new()
        .description(said.join("; "))
        .content("application/json", content(named("Refused")))
        .build()
}

fn operation(about: &About) -> OperationBuilder {
    let (kind, schema) = given(about.gives);
    let good =
        ResponseBuilder::new().description("What was asked for").content(kind, content(schema)).build();
    let mut operation = OperationBuilder::new()
        .operation_id(Some(about.id))
        .summary(Some(about.summary))
        .response("200", good);
    for (status, meaning) in &about.also {
        operation = operation.response(status.to_string(), Response::new(*meaning));
    }
    let mut statuses: Vec<u16> = about.codes.iter().map(|code| codes::status(code).as_u16()).collect();
    statuses.sort_unstable();
    statuses.dedup();
    for status in statuses {
        let of = CODES.iter().filter(|(code, s, _)| *s == status && about.codes.contains(code));
        let of: Vec<(&str, &str)> = of.map(|(code, _, meaning)| (*code, *meaning)).collect();
        operation = operation.response(status.to_string(), refusal(&of));
    }
    for name in about.path.split('/').filter_map(|p| p.strip_prefix('{')?.strip_suffix('}')) {
        operation = operation.parameter(match name.strip_prefix('*') {
            Some(rest) => parameter(rest, ParameterIn::Path, true, None),
            // Runs, assignments, keys, payments and blobs: all are named by 32 bytes.
            None => id(name, ParameterIn::Path, true, None),
        });
    }
    for (name, meaning) in &about.queries {
        operation = operation.parameter(match *name {
            "before" => id(name, ParameterIn::Query, false, Some(meaning)),
            _ => whole(name, ParameterIn::Query, Some(meaning)),
        });
    }
    for (name, meaning, required) in &about.headers {
        operation = operation.parameter(parameter(name, ParameterIn::Header, *required, Some(meaning)));
    }
    let body = match (about.takes, about.uploads) {
        (Some(schema), _) => Some(("application/json", named(schema))),
        (None, true) => Some(("application/octet-stream", text())),
        (None, false) => None,
    };
    let body = body.map(|(kind, schema)| {
        RequestBodyBuilder::new().required(Some(Required::True)).content(kind, content(schema)).build()
    });
    operation.request_body(body)
}

/// The whole document.
pub(super) fn describe<M: Money>() -> OpenApi {
    let mut paths = Paths::new();
    for Operation { about, .. } in operations::<M>() {
        // In OpenAPI a path has no wildcards.
        let path = about.path.replace("{*", "{");
        paths.add_path_operation(path, vec![about.method.clone()], operation(&about).build());
    }
    let info = InfoBuilder::new().title("Watershed coordinator").version(env!("CARGO_PKG_VERSION")).build();
    OpenApiBuilder::new().info(info).paths(paths).components(Some(schema::components())).build()
}

pub(super) async fn document<M: Money>() -> Json<OpenApi> {
    Json(describe::<M>())
}
