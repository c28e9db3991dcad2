//! The client's downloads: what breaks off goes on, what is wrong is not kept.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::{StreamExt as _, stream};
use sha2::{Digest as _, Sha256};
use watershed_commons::client::{Client, ClientError};
use watershed_protocol::Digest;

use super::{Place, serve};

fn blob() -> Vec<u8> {
    let mut state = 1u64;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..3 << 20).map(next).collect()
}

fn hash(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// Serves a blob and breaks off after some of each answer; without ranges if `plain`.
struct Breaking {
    body: Vec<u8>,
    answers: AtomicUsize,
    each: usize,
    plain: bool,
}

async fn broken(State(server): State<Arc<Breaking>>, headers: HeaderMap) -> Response {
    server.answers.fetch_add(1, Ordering::SeqCst);
    let asked = headers
        .get("range")
        .and_then(|r| r.to_str().ok()?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let from = if server.plain { 0 } else { asked.unwrap_or(0usize) };
    let end = server.body.len().min(from + server.each);
    let part = Bytes::copy_from_slice(&server.body[from..end]);
    let whole = end == server.body.len();
    let rest = server.body.len() - from;
    // Some time later, so that what came before is on its way.
    let cut = stream::once(async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Err(std::io::Error::other("the cable"))
    });
    let parts = stream::iter([Ok(part)]);
    let body = if whole { Body::from_stream(parts) } else { Body::from_stream(parts.chain(cut)) };
    let status = if from > 0 { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let range = format!("bytes {from}-{}/{}", server.body.len() - 1, server.body.len());
    let length = rest.to_string();
    let headers = [("content-length", length), ("content-range", range)];
    (status, headers, body).into_response()
}

async fn server(each: usize, plain: bool) -> (Arc<Breaking>, Client) {
    let server = Arc::new(Breaking { body: blob(), answers: AtomicUsize::new(0), each, plain });
    let router = Router::new().route("/v1/blobs/{name}", get(broken)).with_state(Arc::clone(&server));
    let at = serve(router).await;
    (server, Client::new(&format!("http://{at}")).unwrap())
}

#[tokio::test]
async fn a_download_that_breaks_off_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (server, client) = server(1 << 20, false).await;
    let (name, path) = (hash(&server.body), folder.path().join("deep/file"));
    client.download_to(name, &path, 1 << 30).await.unwrap();
    assert!(std::fs::read(&path).unwrap() == server.body);
    assert_eq!(server.answers.load(Ordering::SeqCst), 3);
    assert!(!folder.path().join("deep/file.partial").exists());
    // What is there is not asked for again.
    client.download_to(name, &path, 1 << 30).await.unwrap();
    assert_eq!(server.answers.load(Ordering::SeqCst), 3);
    // In memory as well.
    assert!(client.download(name, 1 << 30).await.unwrap() == server.body);
}

#[tokio::test]
async fn what_was_received_before_a_kill_is_not_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::open().await;
    let body = blob();
    let name = place.shared.office.blobs.put(body.clone()).await.unwrap();
    let path = folder.path().join("file");
    let partial = folder.path().join("file.partial");
    for kept in [
        body[..1_000_000].to_vec(),
        body.clone(),
        b"something else".to_vec(),
        [body.as_slice(), b"!"].concat(),
    ] {
        std::fs::write(&partial, &kept).unwrap();
        place.client.download_to(name, &path, 1 << 30).await.unwrap();
        assert!(std::fs::read(&path).unwrap() == body);
        std::fs::remove_file(&path).unwrap();
    }
}

#[tokio::test]
async fn a_server_without_ranges_is_asked_from_the_beginning() {
    let (server, client) = server(usize::MAX / 2, true).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(folder.path().join("file.partial"), &server.body[..1000]).unwrap();
    client.download_to(hash(&server.body), &path, 1 << 30).await.unwrap();
    assert!(std::fs::read(&path).unwrap() == server.body);
}

#[tokio::test]
async fn what_is_too_long_or_something_else_is_not_kept() {
    let (server, client) = server(usize::MAX / 2, false).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let long = client.download_to(hash(&server.body), &path, 1000).await;
    assert!(matches!(long, Err(ClientError::TooLong { limit: 1000, .. })), "{long:?}");
    let other = client.download_to(hash(b"other"), &path, 1 << 30).await;
    assert!(matches!(other, Err(ClientError::Hash { .. })), "{other:?}");
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none());
    let other = client.download(hash(b"other"), 1 << 30).await;
    assert!(matches!(other, Err(ClientError::Hash { .. })), "{other:?}");
}

#[tokio::test]
async fn a_server_that_gives_nothing_is_given_up() {
    let router = Router::new().route(
        "/v1/blobs/{name}",
        get(async || {
            let nothing: Vec<Result<Bytes, std::io::Error>> = vec![Err(std::io::Error::other("the cable"))];
            Ok::<_, Infallible>(Body::from_stream(stream::iter(nothing)).into_response())
        }),
    );
    let client = Client::new(&format!("http://{}", serve(router).await)).unwrap();
    let gone = client.download(hash(b"x"), 100).await;
    assert!(matches!(gone, Err(ClientError::Unreachable { .. })), "{gone:?}");
}
