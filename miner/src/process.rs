//! What the system says of this process. Every answer is none where it does not say.

use std::fs::read_to_string;

/// Ticks of a second in `/proc`, which is 100 on every Linux whatever the kernel's own clock does.
const TICKS: f64 = 100.0;

/// Seconds since the process was started, to a hundredth.
pub(crate) fn age() -> Option<f64> {
    let started = seconds(&read_to_string("/proc/self/stat").ok()?, 21)?;
    let uptime: f64 = read_to_string("/proc/uptime").ok()?.split_whitespace().next()?.parse().ok()?;
    Some(uptime - started)
}

/// Seconds of processor time that all threads have taken, those of the system for them included, to a hundredth.
pub(crate) fn processor_time() -> Option<f64> {
    let stat = read_to_string("/proc/self/stat").ok()?;
    Some(seconds(&stat, 13)? + seconds(&stat, 14)?)
}

/// Field `field` (the first is 0) of the line that describes a process, a number of ticks.
fn seconds(stat: &str, field: usize) -> Option<f64> {
    // the second field is a name in parentheses, which may itself hold blanks and parentheses
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.split_whitespace().nth(field.checked_sub(2)?)?.parse::<f64>().ok()? / TICKS)
}

/// The most memory the process has had resident, in bytes.
pub(crate) fn peak_memory() -> Option<u64> {
    kibibytes(&read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// Memory that may be allocated before others have to give some back, in bytes.
pub(crate) fn free_memory() -> Option<u64> {
    kibibytes(&read_to_string("/proc/meminfo").ok()?, "MemAvailable:")
}

fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let fields = "S 3 4 5 6 7 8 9 10 11 12 1300 1400 15 16 17 18 19 20 12345 22";
        for name in ["a", "a b", "x) S 9 (y"] {
            let stat = format!("77 ({name}) {fields}");
            let found = [13, 14, 21, 23].map(|field| seconds(&stat, field));
            assert_eq!(found, [Some(13.0), Some(14.0), Some(123.45), None], "{name}");
        }
    }

    #[test]
    fn this_process_has_an_age_and_memory() {
        let (age, peak) = (age().unwrap(), peak_memory().unwrap());
        assert!((-0.05..3600.0).contains(&age), "{age}");
        assert!(peak > 1 << 20 && peak < 1 << 40);
        let block = std::hint::black_box(vec![1u8; 64 << 20]);
        assert!(peak_memory().unwrap() >= (64 << 20) && block[5] == 1);
        assert!(free_memory().unwrap() > 0);
        let before = processor_time().unwrap();
        let work = std::time::Instant::now();
        while work.elapsed().as_millis() < 100 {}
        assert!((before..before + 60.0).contains(&processor_time().unwrap()));
    }
}
