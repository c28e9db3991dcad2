//! Room on the disk. The wallet needs some whatever happens: without it the Lightning node ends in the middle of its work.

use std::path::Path;
use std::time::{Duration, Instant};

/// How long a measurement is believed.
const BELIEVED: Duration = Duration::from_secs(5);

/// Least room with which a wallet is started or kept running, whatever is to be kept free.
const LEAST: u64 = 32 << 20;

/// Free bytes where a folder is, or will be; none where the system does not say.
pub(crate) fn free(folder: &Path) -> Option<u64> {
    let folder = folder.ancestors().find(|f| f.exists())?;
    // The form that POSIX knows: blocks of 1024 bytes, one line for a file system.
    let output = std::process::Command::new("df").args(["-P", "-k"]).arg(folder).output().ok()?;
    available(&String::from_utf8(output.stdout).ok()?)
}

/// The column before the percentage: names of devices and folders may hold blanks.
fn available(table: &str) -> Option<u64> {
    let fields: Vec<_> = table.lines().nth(1)?.split_whitespace().collect();
    let percent = fields.iter().rposition(|field| field.ends_with('%'))?;
    fields.get(percent.checked_sub(1)?)?.parse::<u64>().ok()?.checked_mul(1024)
}

/// How much of the disk is free, as it is asked.
type Measure = Box<dyn Fn() -> Option<u64> + Send>;

/// What may be written without touching what is kept free.
pub(crate) struct Room {
    measure: Measure,
    /// Bytes that are kept free.
    floor: u64,
    /// When it was measured, and what is free by that and by what was taken since.
    known: Option<(Instant, u64)>,
}

impl Room {
    /// On the disk of `folder`, of which `floor` bytes are kept free.
    pub(crate) fn new(folder: &Path, floor: u64) -> Self {
        let folder = folder.to_owned();
        Self::measured(floor, Box::new(move || free(&folder)))
    }

    fn measured(floor: u64, measure: Measure) -> Self {
        Self { measure, floor, known: None }
    }

    fn look(&mut self, soon: u64) -> u64 {
        let old = self
            .known
            .filter(|(at, left)| at.elapsed() < BELIEVED && *left / 4 >= self.floor.saturating_add(soon));
        match old {
            Some((_, left)) => left,
            None => {
                // A system that does not say has room until a write fails.
                let left = (self.measure)().unwrap_or(u64::MAX);
                self.known = Some((Instant::now(), left));
                left
            }
        }
    }

    /// Whether there is room for `bytes`.
    pub(crate) fn has(&mut self, bytes: u64) -> bool {
        self.look(bytes) >= self.floor.saturating_add(bytes)
    }

    /// Takes room for `bytes`, if there is.
    pub(crate) fn take(&mut self, bytes: u64) -> bool {
        let has = self.has(bytes);
        if let (true, Some((_, left))) = (has, &mut self.known) {
            *left = left.saturating_sub(bytes);
        }
        has
    }

    /// How much may be written.
    pub(crate) fn spare(&mut self) -> u64 {
        self.look(u64::MAX / 2).saturating_sub(self.floor)
    }

    /// Whether so little is left that the wallet is in danger.
    pub(crate) fn is_out(&mut self) -> bool {
        self.look(0) < LEAST.min(self.floor)
    }

    /// How things stand, for people.
    pub(crate) fn told(&mut self) -> String {
        let mb = |bytes: u64| bytes as f64 / 1e6;
        format!(
            "{:.0} MB are free on the disk, and {:.0} MB are kept free for the wallet (--keep-free)",
            mb(self.look(0)),
            mb(self.floor)
        )
    }
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Room({} kept free)", self.floor)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Room on a disk that has as much free as the number says.
    pub(crate) fn room(floor: u64, free: u64) -> (Room, Arc<AtomicU64>) {
        let free = Arc::new(AtomicU64::new(free));
        let told = Arc::clone(&free);
        (Room::measured(floor, Box::new(move || Some(told.load(Ordering::SeqCst)))), free)
    }

    #[test]
    fn what_is_kept_free_is_never_taken() {
        let (mut small, free) = room(100, 150);
        assert!(small.take(30));
        free.store(120, Ordering::SeqCst);
        assert!(!small.take(30) && small.take(20), "measured again, as little is left");
        free.store(100, Ordering::SeqCst);
        assert!(!small.has(1) && small.has(0) && small.spare() == 0);
        free.store(99, Ordering::SeqCst);
        assert!(small.is_out(), "of a floor this small none is to be touched");

        let (mut large, free) = room(256 << 20, 40 << 20);
        assert!(!large.has(1) && !large.is_out(), "no new work, and the wallet still runs");
        free.store(31 << 20, Ordering::SeqCst);
        assert!(large.is_out());
        assert!(large.told().contains("--keep-free"));

        let mut silent = Room::measured(100, Box::new(|| None));
        assert!(silent.take(1 << 40) && !silent.is_out());
    }

    #[test]
    fn a_plenty_is_not_measured_at_every_step() {
        let (mut plenty, free) = room(100, 1 << 40);
        assert!(plenty.take(1 << 10));
        free.store(0, Ordering::SeqCst);
        assert!(plenty.take(1 << 10), "believed for some seconds");
    }

    #[test]
    fn the_system_says_how_much_is_free() {
        assert!(free(Path::new("/tmp/no/such/folder/yet")).unwrap() > 0);
        let table = "Filesystem 1024-blocks Used Available Capacity Mounted on\nmy disk 100 40 60 40% /a b\n";
        assert_eq!(available(table), Some(60 << 10));
        for table in ["", "x", "head\n", "head\n40%\n", "head\na b 7%\n"] {
            assert_eq!(available(table), None, "{table}");
        }
    }
}
