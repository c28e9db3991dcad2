//! Models of runs: the first checkpoint, outer steps, and which files a miner needs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use watershed_engine::device::OpenDevice;
use watershed_engine::outer::OuterState;
use watershed_protocol::market::view::FileView;
use watershed_protocol::market::{RunSpec, Stepped, TextSource};
use watershed_protocol::{AssignmentId, Digest, RoundNumber, RunId, SubmissionId};
use watershed_rounds::{OuterResult, Unfit, Workbench, faults_with_text, floats, floats_of};
use watershed_shards::consents;
use watershed_shards::library::Store;
use watershed_shards::shard::OpenSet;
use watershed_shards::transfer::{self, SetFile};

use super::falsehood::Falsehood;
use super::money::MoneyError;
use crate::blobs::Blobs;

type Benches = Mutex<HashMap<RunId, Arc<Mutex<Workbench>>>>;

/// Computes what runs need.
#[derive(Clone)]
pub struct Computer {
    store: Store,
    device: OpenDevice,
    benches: Arc<Benches>,
    files: Arc<Mutex<HashMap<RunId, Vec<FileView>>>>,
    falsehood: Option<Falsehood>,
}

impl std::fmt::Debug for Computer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Computer({})", self.device.name)
    }
}

fn other(e: impl std::fmt::Display) -> MoneyError {
    MoneyError::Other(e.to_string())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MoneyError> + Send + 'static,
) -> Result<T, MoneyError> {
    tokio::task::spawn_blocking(work).await.map_err(other)?
}

impl Computer {
    /// With the library that has the shard sets, on a device.
    pub fn new(store: Store, device: OpenDevice, falsehood: Option<Falsehood>) -> Self {
        Self { store, device, benches: Arc::default(), files: Arc::default(), falsehood }
    }

    fn bench(&self, run: RunId, spec: &RunSpec) -> Result<Arc<Mutex<Workbench>>, MoneyError> {
        let mut benches = self.benches.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bench) = benches.get(&run) {
            return Ok(Arc::clone(bench));
        }
        let bench = Workbench::new(spec, &self.store, &self.device).map_err(other)?;
        let bench = Arc::new(Mutex::new(bench));
        benches.insert(run, Arc::clone(&bench));
        Ok(bench)
    }

    pub(super) async fn with<T: Send + 'static>(
        &self,
        run: RunId,
        spec: &RunSpec,
        work: impl FnOnce(&mut Workbench) -> Result<T, MoneyError> + Send + 'static,
    ) -> Result<T, MoneyError> {
        let (computer, spec) = (self.clone(), spec.clone());
        blocking(move || {
            let bench = computer.bench(run, &spec)?;
            let mut bench = bench.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut bench)
        })
        .await
    }

    /// What keeps a specification from being trained, its text included.
    ///
    /// # Errors
    /// If it cannot be told.
    pub async fn faults(&self, spec: &RunSpec) -> Result<Vec<Unfit>, MoneyError> {
        let (store, spec) = (self.store.clone(), spec.clone());
        blocking(move || {
            let set = OpenSet::open(&store, spec.data.shards).map_err(|e| {
                other(format!(
                    "{e}\nThis coordinator looks in {}; `serve --library` names another place",
                    store.root().display()
                ))
            })?;
            Ok(faults_with_text(&spec, &set))
        })
        .await
    }

    /// The first checkpoint.
    pub(super) async fn prepare(
        &self,
        run: RunId,
        spec: &RunSpec,
        blobs: &Blobs,
    ) -> Result<(TextSource, Stepped), MoneyError> {
        let text = self.text(run, spec, blobs).await?;
        let result = self
            .with(run, spec, |bench| {
                let state = OuterState { parameters: bench.initial(), velocity: Vec::new() };
                bench.measured(state).map_err(other)
            })
            .await?;
        Ok((text, keep(run, 0, result, Vec::new(), blobs).await?))
    }

    /// What a run trains on, with everything that shows it among the blobs.
    async fn text(&self, run: RunId, spec: &RunSpec, blobs: &Blobs) -> Result<TextSource, MoneyError> {
        let files = self.files(run, spec, blobs).await?;
        let set = files.iter().find(|f| f.role == "set").map(|f| f.sha256);
        let (store, id) = (self.store.clone(), spec.data.shards);
        let (described, consents) = blocking(move || {
            let set = OpenSet::open(&store, id).map_err(other)?;
            Ok((set.set().clone(), consents::collect(&store, &set).map_err(other)?))
        })
        .await?;
        let consents = match consents {
            Some(bytes) => Some(blobs.put(bytes).await?),
            None => None,
        };
        Ok(TextSource {
            run,
            shards: id,
            set: set.ok_or_else(|| other("the shard set has no description"))?,
            snapshot: described.snapshot,
            tokenizer: described.tokenizer,
            index: described.index,
            consents,
        })
    }

    /// The checkpoint after a round.
    #[allow(clippy::too_many_arguments)] // all of them are inputs of the step
    pub(super) async fn step(
        &self,
        run: RunId,
        spec: &RunSpec,
        round: u32,
        from: &Stepped,
        accepted: &[AssignmentId],
        submissions: &[(SubmissionId, f32, Digest)],
        blobs: &Blobs,
    ) -> Result<Stepped, MoneyError> {
        let checkpoint = blobs.get(from.blob).await?;
        let velocity = match from.velocity {
            Some(velocity) => blobs.get(velocity).await?,
            None => Vec::new(),
        };
        let mut encoded = Vec::with_capacity(submissions.len());
        for (id, gain, blob) in submissions {
            encoded.push((*id, *gain, blobs.get(*blob).await?));
        }
        let swap = self.falsehood == Some(Falsehood::SwapCheckpoint);
        let result = self
            .with(run, spec, move |bench| {
                let n = bench.settings().parameters();
                let one = |bytes: &[u8], what| {
                    Ok::<_, MoneyError>(
                        floats_of(bytes, what, 1, n).map_err(other)?.pop().unwrap_or_default(),
                    )
                };
                let velocity = if velocity.is_empty() { Vec::new() } else { one(&velocity, "the velocity")? };
                let state = OuterState { parameters: one(&checkpoint, "the checkpoint")?, velocity };
                let mut result = bench.outer(&state, &encoded).map_err(other)?;
                if let (true, Some(first)) = (swap, result.state.parameters.first_mut()) {
                    *first += 0.01;
                    result = bench.measured(result.state).map_err(other)?;
                }
                Ok(result)
            })
            .await?;
        keep(run, round + 1, result, accepted.to_vec(), blobs).await
    }

    /// The files of the run's shard set, which are put among the blobs the first time.
    ///
    /// # Errors
    /// A set that is not in the library, or blobs that cannot be stored.
    pub async fn files(
        &self,
        run: RunId,
        spec: &RunSpec,
        blobs: &Blobs,
    ) -> Result<Vec<FileView>, MoneyError> {
        let known = self.files.lock().unwrap_or_else(PoisonError::into_inner).get(&run).cloned();
        if let Some(files) = known {
            return Ok(files);
        }
        let (store, id) = (self.store.clone(), spec.data.shards);
        let paths = blocking(move || transfer::files(&store, id).map_err(other)).await?;
        let mut views = Vec::with_capacity(paths.len());
        for (file, path) in paths {
            let bytes =
                tokio::fs::read(&path).await.map_err(|e| other(format!("{}: {e}", path.display())))?;
            let length = bytes.len() as u64;
            let role = match file {
                SetFile::Set => "set",
                SetFile::Index => "index",
                SetFile::Shard(_) => "shard",
            };
            let sha256 = blobs.put(bytes).await?;
            views.push(FileView { role: role.to_owned(), sha256, bytes: length });
        }
        self.files.lock().unwrap_or_else(PoisonError::into_inner).insert(run, views.clone());
        Ok(views)
    }
}

async fn keep(
    run: RunId,
    round: u32,
    result: OuterResult,
    accepted: Vec<AssignmentId>,
    blobs: &Blobs,
) -> Result<Stepped, MoneyError> {
    let OuterResult { state, checkpoint, loss } = result;
    let velocity = match state.velocity.as_slice() {
        [] => None,
        velocity => Some(blobs.put(floats(&[velocity])).await?),
    };
    let blob = blobs.put(floats(&[&state.parameters])).await?;
    Ok(Stepped { run, round: RoundNumber(round), checkpoint, blob, velocity, accepted, loss: loss.to_bits() })
}
