//! Connections: how many, how long one may take to say what it wants, and whose they are.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt as _;

use super::guard::Guard;

/// How long a request's head may take, and how long a connection may do nothing.
const HEAD: Duration = Duration::from_secs(30);

/// Wait after a connection could not be taken: there are no file descriptors left.
const AGAIN: Duration = Duration::from_millis(200);

/// From where a request came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

/// Serves until the future is dropped. Beyond the most connections at once, others wait to be taken.
pub async fn serve(listener: TcpListener, app: Router, guard: Arc<Guard>) {
    loop {
        let Ok(permit) = Arc::clone(&guard.connections).acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(taken) => taken,
            Err(e) => {
                eprintln!("a connection could not be taken: {e}");
                tokio::time::sleep(AGAIN).await;
                continue;
            }
        };
        let app = app.clone();
        tokio::spawn(async move {
            connection(stream, peer, app).await;
            drop(permit);
        });
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, app: Router) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request: Request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer.ip()));
        app.clone().oneshot(request)
    });
    // An error is the other side's going away, or its being too slow.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}
