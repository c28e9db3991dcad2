//! Child processes that end when this one does, however it ends.

use std::ffi::OsStr;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use super::RegtestError;

/// A shell that starts a program, waits until its input ends, and then ends the program. Its input is a pipe from this
/// process, and the kernel closes that pipe even if this process is killed. The inner `wait` notices a program that ends
/// by itself. Descriptor 4 is the pipe, because
/// a shell takes the input of commands in the background away.
const GUARD: &str = r#"
exec 4<&0
"$@" </dev/null 4<&- & program=$!
( while read -r signal <&4; do kill -s "$signal" "$program"; done; kill -s TERM "$program" ) 2>/dev/null & reader=$!
wait "$program"; status=$?
kill "$reader" 2>/dev/null
exit "$status"
"#;

/// A running program that does not outlive this process.
#[derive(Debug)]
pub struct Guarded {
    shell: Child,
    orders: Option<ChildStdin>,
}

impl Guarded {
    /// Starts a program with its output going to `log`.
    ///
    /// # Errors
    /// [`RegtestError::Io`].
    pub fn spawn<A: AsRef<OsStr>>(
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = A>,
        log: &Path,
    ) -> Result<Self, RegtestError> {
        let name = program.as_ref().to_string_lossy().into_owned();
        let out = std::fs::File::options()
            .create(true)
            .append(true)
            .open(log)
            .map_err(RegtestError::io(log.display().to_string()))?;
        let err = out.try_clone().map_err(RegtestError::io(log.display().to_string()))?;
        let mut shell = Command::new("bash")
            .args(["-c", GUARD, "guard"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(out)
            .stderr(err)
            // A group of its own: Ctrl-C is for this process, which ends the others in order.
            .process_group(0)
            .spawn()
            .map_err(RegtestError::io(format!("starting {name}")))?;
        let orders = shell.stdin.take();
        Ok(Self { shell, orders })
    }

    /// Sends a signal by name, as `KILL` or `TERM`, and waits for the end.
    ///
    /// # Errors
    /// [`RegtestError::Io`].
    pub fn end(&mut self, signal: &str) -> Result<(), RegtestError> {
        if let Some(orders) = &mut self.orders {
            // A program that has ended already is ended well enough.
            let _ = writeln!(orders, "{signal}").and_then(|()| orders.flush());
        }
        self.shell.wait().map_err(RegtestError::io("waiting for a program to end"))?;
        Ok(())
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// [`RegtestError::Io`].
    pub fn is_running(&mut self) -> Result<bool, RegtestError> {
        Ok(self.shell.try_wait().map_err(RegtestError::io("asking after a program"))?.is_none())
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.shell.wait();
    }
}

/// A TCP port that was free a moment ago.
///
/// # Errors
/// [`RegtestError::Io`].
pub fn free_port() -> Result<u16, RegtestError> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(RegtestError::io("finding a free port"))?;
    Ok(listener.local_addr().map_err(RegtestError::io("finding a free port"))?.port())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn alive(pid: &str) -> bool {
        Path::new("/proc").join(pid).exists()
    }

    fn wait_until(what: impl Fn() -> bool) -> bool {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(5) {
            if what() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    fn sleeper(dir: &Path) -> (Guarded, String) {
        let pid = dir.join("pid");
        let script = format!("echo $$ > {}; exec sleep 60", pid.display());
        let guarded = Guarded::spawn("sh", ["-c", &script], &dir.join("log")).unwrap();
        assert!(wait_until(|| std::fs::read_to_string(&pid).is_ok_and(|p| p.ends_with('\n'))));
        (guarded, std::fs::read_to_string(&pid).unwrap().trim().to_owned())
    }

    #[test]
    fn a_program_ends_by_signal_by_drop_and_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let (mut guarded, pid) = sleeper(dir.path());
        assert!(guarded.is_running().unwrap() && alive(&pid));
        let start = Instant::now();
        guarded.end("KILL").unwrap();
        assert!(wait_until(|| !alive(&pid)) && start.elapsed() < Duration::from_secs(5));

        let dir = tempfile::tempdir().unwrap();
        let (guarded, pid) = sleeper(dir.path());
        drop(guarded);
        assert!(wait_until(|| !alive(&pid)));

        let mut short = Guarded::spawn("true", [""; 0], &dir.path().join("log")).unwrap();
        assert!(wait_until(|| std::fs::read(dir.path().join("log")).is_ok()));
        short.shell.wait().unwrap();
    }
}
