//! Files of a run: what a miner carries from round to round, and the task under way. A file has its name only when it is
//! whole, so a kill at any moment leaves either the old or the new.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use watershed_engine::train::State;
use watershed_protocol::market::{Assignment, Commitment, Reveal, StepClaim};
use watershed_protocol::{AssignmentId, Digest, Envelope, Wire, decode, encode, told};
use watershed_rounds::{Carried, floats, floats_of};

/// Folder of a run.
#[derive(Clone, Debug)]
pub(super) struct Keep {
    folder: PathBuf,
}

/// A finished task.
#[derive(Clone, Debug)]
pub(super) struct Finished {
    pub(super) commitment: Commitment,
    pub(super) reveal: Reveal,
}

fn text(path: &Path) -> impl Fn(std::io::Error) -> String {
    let path = path.display().to_string();
    move |e| format!("{path}: {}", told(&e))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    put(path, bytes, true)
}

fn put(path: &Path, bytes: &[u8], sync: bool) -> Result<(), String> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(text(folder))?;
    }
    let partial = path.with_extension("partial");
    let written = (|| {
        let mut file = fs::File::create(&partial)?;
        file.write_all(bytes)?;
        if sync { file.sync_all() } else { Ok(()) }
    })();
    if let Err(e) = written {
        // Half a file only takes room.
        let _ = fs::remove_file(&partial);
        return Err(text(&partial)(e));
    }
    fs::rename(&partial, path).map_err(text(path))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, String> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(text(path)(e)),
    }
}

fn message<T: Wire>(path: &Path) -> Result<Option<T>, String> {
    // What cannot be read is made again.
    Ok(read(path)?.and_then(|bytes| decode(&bytes).ok()))
}

impl Keep {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub(super) fn library(&self) -> PathBuf {
        self.folder.join("library")
    }

    fn work(&self, id: AssignmentId) -> PathBuf {
        self.folder.join("work").join(id.to_string())
    }

    /// Parameters of a checkpoint, if they are here.
    pub(super) fn checkpoint(&self, digest: Digest) -> Result<Option<Vec<u8>>, String> {
        read(&self.folder.join("checkpoints").join(digest.to_string()))
    }

    /// Where what the coordinator signed when it took a message is kept, if it is.
    pub(super) fn promise(&self, id: AssignmentId, kind: &str) -> PathBuf {
        self.folder.join("promises").join(format!("{id}.{kind}"))
    }

    /// Keeps why this run's coordinator is not trusted any more, so that it is not worked for after a restart either.
    pub(super) fn note_distrust(&self, why: &str) {
        if let Err(e) = write(&self.folder.join("distrusted"), why.as_bytes()) {
            eprintln!("that the coordinator is not trusted is not kept: {e}");
        }
    }

    /// Why this run's coordinator is not trusted any more.
    pub(super) fn distrust(&self) -> Result<Option<String>, String> {
        let bytes = read(&self.folder.join("distrusted"))?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Keeps what the coordinator signed when it took a message: with it `watershed-validator audit --promise` proves that a
    /// record lacks what was promised. Nothing depends on it, so that it cannot be kept is no reason to stop.
    pub(super) fn keep_promise(&self, id: AssignmentId, kind: &str, promise: &Envelope) {
        let path = self.promise(id, kind);
        let kept = encode(promise).map_err(|e| e.to_string()).and_then(|bytes| write(&path, &bytes));
        if let Err(e) = kept {
            eprintln!("the coordinator's promise is not kept: {e}");
        }
    }

    /// Where a download goes until it is whole; what is there of it is not asked for again.
    pub(super) fn incoming(&self, blob: Digest) -> PathBuf {
        self.folder.join("incoming").join(blob.to_string())
    }

    /// Keeps a checkpoint, and the one before it.
    pub(super) fn keep_checkpoint(&self, digest: Digest, bytes: &[u8]) -> Result<(), String> {
        let folder = self.folder.join("checkpoints");
        write(&folder.join(digest.to_string()), bytes)?;
        let mut files: Vec<(std::time::SystemTime, PathBuf)> = fs::read_dir(&folder)
            .map_err(text(&folder))?
            .filter_map(|entry| {
                let entry = entry.ok()?;
                Some((entry.metadata().ok()?.modified().ok()?, entry.path()))
            })
            .collect();
        files.sort();
        for (_, path) in files.iter().rev().skip(3) {
            let _ = fs::remove_file(path);
        }
        Ok(())
    }

    fn carried_path(&self, id: AssignmentId) -> PathBuf {
        self.folder.join("carried").join(id.to_string())
    }

    /// What was carried out of an assignment; none if it is not here or damaged.
    pub(super) fn carried(&self, id: AssignmentId, parameters: usize) -> Result<Option<Carried>, String> {
        let Some(bytes) = read(&self.carried_path(id))? else { return Ok(None) };
        let Some((updates, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
        let Some((feedback, moments)) = rest.split_at_checked(4 * parameters) else { return Ok(None) };
        let feedback =
            floats_of(feedback, "the error feedback", 1, parameters).ok().and_then(|mut v| v.pop());
        Ok(feedback.map(|feedback| Carried {
            feedback,
            moments: moments.to_vec(),
            updates: u32::from_le_bytes(*updates),
        }))
    }

    pub(super) fn keep_carried(&self, id: AssignmentId, carried: &Carried) -> Result<(), String> {
        let mut bytes = carried.updates.to_le_bytes().to_vec();
        bytes.extend(floats(&[&carried.feedback]));
        bytes.extend_from_slice(&carried.moments);
        write(&self.carried_path(id), &bytes)
    }

    /// Begins a task, or finds it begun.
    pub(super) fn begin(&self, id: AssignmentId, assignment: &Assignment) -> Result<(), String> {
        let path = self.work(id).join("assignment");
        if path.exists() {
            return Ok(());
        }
        write(&path, &encode(assignment).map_err(|e| e.to_string())?)
    }

    /// A state between two steps.
    pub(super) fn state(
        &self,
        id: AssignmentId,
        step: u32,
        parameters: usize,
    ) -> Result<Option<Vec<u8>>, String> {
        let bytes = read(&self.work(id).join(format!("state-{step}")))?;
        Ok(bytes.filter(|b| b.len() == 12 * parameters))
    }

    /// Not forced to the disk: its digest is known, so one that a power failure damaged is not used but computed again.
    pub(super) fn keep_state(&self, id: AssignmentId, step: u32, state: &State) -> Result<(), String> {
        let bytes = floats(&[&state.parameters, &state.first, &state.second]);
        put(&self.work(id).join(format!("state-{step}")), &bytes, false)
    }

    pub(super) fn drop_state(&self, id: AssignmentId, step: u32) {
        let _ = fs::remove_file(self.work(id).join(format!("state-{step}")));
    }

    /// Lets go of all states of a task but the newest, or of that one too: they are computed again when a validator asks.
    pub(super) fn thin(&self, id: AssignmentId, newest_too: bool) {
        let folder = self.work(id);
        let step = |entry: std::io::Result<fs::DirEntry>| {
            entry.ok()?.file_name().to_str()?.strip_prefix("state-")?.parse::<u32>().ok()
        };
        let mut steps: Vec<u32> = fs::read_dir(&folder).into_iter().flatten().filter_map(step).collect();
        steps.sort_unstable();
        if !newest_too {
            steps.pop();
        }
        for step in steps {
            self.drop_state(id, step);
        }
    }

    /// The steps that were taken.
    pub(super) fn steps(&self, id: AssignmentId) -> Result<Vec<StepClaim>, String> {
        let bytes = read(&self.work(id).join("steps"))?.unwrap_or_default();
        Ok(serde_json::from_slice(&bytes).unwrap_or_default())
    }

    pub(super) fn keep_steps(&self, id: AssignmentId, steps: &[StepClaim]) -> Result<(), String> {
        write(&self.work(id).join("steps"), &serde_json::to_vec(steps).map_err(|e| e.to_string())?)
    }

    /// A finished task.
    pub(super) fn finished(&self, id: AssignmentId) -> Result<Option<Finished>, String> {
        let folder = self.work(id);
        let commitment = message::<watershed_protocol::market::Message>(&folder.join("commitment"))?;
        let reveal = message::<watershed_protocol::market::Message>(&folder.join("reveal"))?;
        use watershed_protocol::market::Message::{Commit, Reveal as Show};
        Ok(match (commitment, reveal) {
            (Some(Commit(commitment)), Some(Show(reveal))) => Some(Finished { commitment, reveal }),
            _ => None,
        })
    }

    /// Keeps what will be handed in; the commitment last, since it says that all is there.
    pub(super) fn finish(&self, id: AssignmentId, finished: &Finished, encoded: &[u8]) -> Result<(), String> {
        use watershed_protocol::market::Message::{Commit, Reveal as Show};
        let folder = self.work(id);
        let bytes = |m| encode(&m).map_err(|e: watershed_protocol::EncodeError| e.to_string());
        write(&folder.join("submission"), encoded)?;
        write(&folder.join("reveal"), &bytes(Show(finished.reveal.clone()))?)?;
        write(&folder.join("commitment"), &bytes(Commit(finished.commitment.clone()))?)
    }

    pub(super) fn submission(&self, id: AssignmentId) -> Result<Option<Vec<u8>>, String> {
        read(&self.work(id).join("submission"))
    }

    /// Keeps when a task's work was shown, in seconds since 1970; the first time counts.
    pub(super) fn note_shown(&self, id: AssignmentId, now: u64) -> Result<(), String> {
        if self.shown(id)?.is_some() {
            return Ok(());
        }
        write(&self.work(id).join("shown"), &now.to_le_bytes())
    }

    /// When a task's work was shown.
    pub(super) fn shown(&self, id: AssignmentId) -> Result<Option<u64>, String> {
        let bytes = read(&self.work(id).join("shown"))?;
        Ok(bytes.and_then(|b| <[u8; 8]>::try_from(b).ok()).map(u64::from_le_bytes))
    }

    /// Whether assignments are kept that were not seen to be over.
    pub(super) fn has_work(&self) -> bool {
        fs::read_dir(self.folder.join("work")).is_ok_and(|mut found| found.next().is_some())
    }

    /// Removes tasks that are over, and what was carried out of those that nobody continues.
    pub(super) fn clean(&self, works: &[AssignmentId], carried: &[AssignmentId]) {
        let sweep = |folder: PathBuf, kept: &[AssignmentId], whole: bool| {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                // What is being written has its name in a moment.
                let being_written = name.ends_with(".partial");
                let keep = being_written || name.parse::<AssignmentId>().is_ok_and(|id| kept.contains(&id));
                if !keep {
                    let _ =
                        if whole { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
                }
            }
        };
        sweep(self.folder.join("work"), works, true);
        sweep(self.folder.join("carried"), carried, false);
    }
}

#[cfg(test)]
mod tests {
    use watershed_protocol::SystemTrouble;

    use super::*;

    fn id() -> AssignmentId {
        AssignmentId::from_bytes([1; 32])
    }

    fn state(n: usize) -> State {
        State { parameters: vec![1.0; n], first: vec![0.0; n], second: vec![0.0; n], updates: 0 }
    }

    #[test]
    fn a_full_disk_is_told_as_such_and_leaves_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let keep = Keep::new(dir.path().to_owned());
        keep.keep_steps(id(), &[]).unwrap();
        std::os::unix::fs::symlink("/dev/full", keep.work(id()).join("steps.partial")).unwrap();
        let claim = StepClaim { state: Digest([0; 32]), loss: 0 };
        let said = keep.keep_steps(id(), &[claim]).unwrap_err();
        assert_eq!(SystemTrouble::said(&said), Some(SystemTrouble::DiskFull), "{said}");
        assert!(said.contains("nothing that was written before is lost"), "{said}");
        assert!(keep.steps(id()).unwrap().is_empty(), "the file before is whole");
        keep.keep_steps(id(), &[claim]).unwrap();
        assert_eq!(keep.steps(id()).unwrap().len(), 1, "and with room it goes on");
    }

    #[test]
    fn states_are_let_go_of_but_for_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let keep = Keep::new(dir.path().to_owned());
        for step in [2, 10, 9] {
            keep.keep_state(id(), step, &state(4)).unwrap();
        }
        keep.keep_steps(id(), &[]).unwrap();
        keep.thin(id(), false);
        let there = |step| keep.state(id(), step, 4).unwrap().is_some();
        assert_eq!([there(2), there(9), there(10)], [false, false, true]);
        keep.thin(id(), true);
        assert!(!there(10) && keep.work(id()).join("steps").exists());
    }
}
