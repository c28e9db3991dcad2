//! What one client, and all together, may take.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use watershed_protocol::AssignmentId;

use super::answer::Refuse;
use super::listen::Peer;

/// How long an answer may take that is no transfer: more than a long poll waits.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long an upload waits for its turn.
const TURN: Duration = Duration::from_secs(30);

/// So many seconds' worth of requests may come at once.
const BURST: f64 = 10.0;

/// Addresses of which something is remembered.
const ADDRESSES: usize = 10_000;

/// Limits of a server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Requests that wait for news at once.
    pub waiting: usize,
    /// Event streams at once.
    pub streams: usize,
    /// Uploads at once.
    pub uploads: usize,
    /// Requests a second of one address, but for this machine's own; 0 for any number.
    pub rate: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 4096, waiting: 3072, streams: 256, uploads: 64, rate: 100 }
    }
}

/// Counts what is under way.
#[derive(Debug)]
pub struct Guard {
    limits: Limits,
    pub(super) connections: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
    addresses: Mutex<HashMap<IpAddr, (f64, Instant)>>,
    uploaded: Mutex<HashMap<AssignmentId, u64>>,
}

impl Guard {
    /// With these limits.
    pub fn new(limits: Limits) -> Arc<Self> {
        let semaphore = |n: usize| Arc::new(Semaphore::new(n.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self {
            limits,
            connections: semaphore(limits.connections),
            waiting: semaphore(limits.waiting),
            streams: semaphore(limits.streams),
            uploads: semaphore(limits.uploads),
            addresses: Mutex::default(),
            uploaded: Mutex::default(),
        })
    }

    /// Connections that are open.
    pub(super) fn open(&self) -> usize {
        self.limits.connections.saturating_sub(self.connections.available_permits())
    }

    /// Requests that wait for news.
    pub(super) fn waits(&self) -> usize {
        self.limits.waiting.saturating_sub(self.waiting.available_permits())
    }

    pub(super) fn waiting(&self) -> Result<OwnedSemaphorePermit, Refuse> {
        take(&self.waiting, "too many requests wait for news")
    }

    pub(super) fn streaming(&self) -> Result<OwnedSemaphorePermit, Refuse> {
        take(&self.streams, "too many watch")
    }

    /// A turn at uploading. Others' turns are waited for: a whole round shows its work at once, and nothing of a body is read
    /// meanwhile.
    pub(super) async fn uploading(&self) -> Result<OwnedSemaphorePermit, Refuse> {
        match tokio::time::timeout(TURN, Arc::clone(&self.uploads).acquire_owned()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(Refuse::of("busy", "too many uploads are under way; try again")),
        }
    }

    /// Whether an address may ask again now.
    fn admits(&self, address: IpAddr, now: Instant) -> bool {
        if self.limits.rate == 0 || address.is_loopback() {
            return true;
        }
        let (rate, most) = (f64::from(self.limits.rate), f64::from(self.limits.rate) * BURST);
        let left = |(left, at): &(f64, Instant)| {
            (left + now.saturating_duration_since(*at).as_secs_f64() * rate).min(most)
        };
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if addresses.len() >= ADDRESSES {
            addresses.retain(|_, known| left(known) < most);
        }
        let key = subscriber(address);
        if addresses.len() >= ADDRESSES && !addresses.contains_key(&key) {
            return false;
        }
        let known = addresses.entry(key).or_insert((most, now));
        let now_left = left(known);
        let admitted = now_left >= 1.0;
        *known = (if admitted { now_left - 1.0 } else { now_left }, now);
        admitted
    }

    /// Takes so many bytes out of what may be uploaded for a task; false if that is more than is left.
    pub(super) fn reserve(&self, assignment: AssignmentId, bytes: u64, most: u64) -> bool {
        let mut uploaded = self.uploaded.lock().unwrap_or_else(PoisonError::into_inner);
        let used = uploaded.get(&assignment).copied().unwrap_or(0);
        let fits = used.checked_add(bytes).filter(|sum| *sum <= most);
        if let Some(sum) = fits {
            uploaded.insert(assignment, sum);
        }
        fits.is_some()
    }

    /// Gives back what was reserved for an upload that was not stored.
    pub(super) fn give_back(&self, assignment: AssignmentId, bytes: u64) {
        let mut uploaded = self.uploaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(used) = uploaded.get_mut(&assignment) {
            *used = used.saturating_sub(bytes);
        }
    }

    /// Lets go of tasks that are over.
    pub(super) fn forget(&self, is_over: impl Fn(&AssignmentId) -> bool) {
        self.uploaded.lock().unwrap_or_else(PoisonError::into_inner).retain(|id, _| !is_over(id));
    }
}

fn take(from: &Arc<Semaphore>, what: &str) -> Result<OwnedSemaphorePermit, Refuse> {
    Arc::clone(from).try_acquire_owned().map_err(|_| Refuse::of("busy", format!("{what}; try again")))
}

/// Whoever has one address of version 6 has a whole network of them.
fn subscriber(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(six) => match six.to_ipv4_mapped() {
            Some(four) => IpAddr::V4(four),
            None => IpAddr::V6(Ipv6Addr::from_bits(six.to_bits() >> 64 << 64)),
        },
        four => four,
    }
}

/// Refuses an address that asks too often.
pub(super) async fn rate(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().map(|p| p.0);
    if peer.is_some_and(|peer| !guard.admits(peer, Instant::now())) {
        let message = "too many requests from one address; slow down";
        return Refuse::of("too-many", message).into_response();
    }
    next.run(request).await
}

/// Gives up on a request that is not whole in time.
pub(super) async fn patience(request: Request, next: Next) -> Response {
    // Transfers take as long as they have bytes.
    if request.uri().path().starts_with("/v1/blobs/") {
        return next.run(request).await;
    }
    match tokio::time::timeout(PATIENCE, next.run(request)).await {
        Ok(answer) => answer,
        Err(_) => {
            let message = "the request did not come in time, or its answer was not ready";
            Refuse::of("too-slow", message).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;

    #[test]
    fn an_address_has_a_burst_and_then_its_rate() {
        let guard = Guard::new(Limits { rate: 10, ..Limits::default() });
        let (now, one) = (Instant::now(), "192.0.2.1".parse().unwrap());
        assert_eq!((0..200).filter(|_| guard.admits(one, now)).count(), 100);
        let later = now + Duration::from_secs(1);
        assert_eq!((0..200).filter(|_| guard.admits(one, later)).count(), 10);
        // Others are not touched by that, but one network of version 6 is one.
        assert!(guard.admits("192.0.2.2".parse().unwrap(), later));
        let six = (0..200).filter(|n| guard.admits(format!("2001:db8::{n}").parse().unwrap(), now)).count();
        assert_eq!(six, 100);
        assert!((0..1000).all(|_| guard.admits("127.0.0.1".parse().unwrap(), now)));
        let free = Guard::new(Limits { rate: 0, ..Limits::default() });
        assert!((0..1000).all(|_| free.admits(one, now)));
    }

    #[test]
    fn more_addresses_than_can_be_remembered_are_refused_until_others_are_forgotten() {
        let guard = Guard::new(Limits { rate: 10, ..Limits::default() });
        let (now, address) = (Instant::now(), |n: u32| IpAddr::V4(n.into()));
        let admitted = (1..=20_000).filter(|n| guard.admits(address(*n), now)).count();
        assert_eq!(admitted, ADDRESSES);
        assert!(guard.admits(address(30_000), now + Duration::from_secs(1)));
    }

    #[test]
    fn a_task_has_its_quota() {
        let guard = Guard::new(Limits::default());
        let task = AssignmentId::from_bytes([1; 32]);
        assert!(guard.reserve(task, 60, 100) && guard.reserve(task, 40, 100) && !guard.reserve(task, 1, 100));
        assert!(!guard.reserve(task, u64::MAX, u64::MAX));
        guard.give_back(task, 50);
        assert!(guard.reserve(task, 50, 100) && !guard.reserve(task, 1, 100));
        assert!(guard.reserve(AssignmentId::from_bytes([2; 32]), 100, 100));
        guard.forget(|id| *id == task);
        assert!(guard.reserve(task, 100, 100));
    }

    #[test]
    fn only_so_many_wait() {
        let guard = Guard::new(Limits { waiting: 2, ..Limits::default() });
        let held = (guard.waiting().unwrap(), guard.waiting().unwrap());
        let refused = guard.waiting().unwrap_err();
        assert_eq!((refused.0, refused.1.code.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "busy"));
        assert!(refused.into_response().headers().contains_key("retry-after"));
        assert_eq!(guard.waits(), 2);
        drop(held);
        assert!(guard.waiting().is_ok());
    }
}
