//! The market: making it, steering its processes, waiting for what should happen.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use watershed_commons::client::Client;
use watershed_payments::regtest::{Bitcoind, Guarded, free_port};
use watershed_protocol::market::view::RunView;
use watershed_protocol::{PublicKey, RunId};

use super::programs::{Failed, Programs};

/// A miner.
#[derive(Clone, Debug)]
pub struct MinerKind {
    /// Its name.
    pub name: String,
    /// What it does instead of the work, and after how many honest rounds.
    pub cheat: Option<(String, u32)>,
    /// Its device.
    pub device: String,
}

impl MinerKind {
    /// One that works.
    pub fn honest(name: &str, device: &str) -> Self {
        Self { name: name.to_owned(), cheat: None, device: device.to_owned() }
    }

    /// One that cheats.
    pub fn cheating(name: &str, cheat: &str, honest_rounds: u32) -> Self {
        Self {
            name: name.to_owned(),
            cheat: Some((cheat.to_owned(), honest_rounds)),
            device: "cpu".to_owned(),
        }
    }
}

/// A validator.
#[derive(Clone, Debug)]
pub struct ValidatorKind {
    /// Its name.
    pub name: String,
    /// What it does instead of its work.
    pub falsehood: Option<String>,
}

/// What kind of market.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where everything is kept.
    pub dir: PathBuf,
    /// Folders of text, each with its register.
    pub texts: Vec<(PathBuf, String)>,
    /// Miners.
    pub miners: Vec<MinerKind>,
    /// Validators.
    pub validators: Vec<ValidatorKind>,
    /// Rounds.
    pub rounds: u32,
    /// Inner steps.
    pub inner_steps: u32,
    /// Sequences of a step.
    pub batch: u32,
    /// Tokens of a sequence.
    pub sequence: u32,
    /// What an assignment pays, in sat.
    pub reward: u64,
    /// What is pledged, in sat; 0 if the operator pays.
    pub goal: u64,
    /// Numbers of the specification that have no flag of their own, [`stages`] among them.
    pub settings: Vec<(&'static str, u32)>,
    /// What the coordinator does that it must not.
    pub false_coordinator: Option<String>,
    /// A market whose text and miners' keys are taken, so that the same participants work on the same again.
    pub keys_of: Option<PathBuf>,
}

/// Seconds for locking, training, revealing and judging, as settings.
pub fn stages(seconds: [u32; 4]) -> Vec<(&'static str, u32)> {
    ["lock_seconds", "train_seconds", "reveal_seconds", "verdict_seconds"].into_iter().zip(seconds).collect()
}

/// The folders below a folder, each with the register that it is named for.
///
/// # Errors
/// [`Failed::Io`].
pub fn registers(folder: &Path) -> Result<Vec<(PathBuf, String)>, Failed> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Failed::io(folder.to_string_lossy()))? {
        let entry = entry.map_err(Failed::io(folder.to_string_lossy()))?;
        found.push((entry.path(), entry.file_name().to_string_lossy().into_owned()));
    }
    found.sort();
    Ok(found)
}

struct Process {
    program: String,
    arguments: Vec<String>,
    running: Option<Guarded>,
}

/// A market.
pub struct World {
    /// The programs.
    pub programs: Programs,
    /// The options it was made with.
    pub options: Options,
    /// The chain.
    pub bitcoind: Option<Bitcoind>,
    /// The coordinator's API.
    pub client: Client,
    /// The run.
    pub run: RunId,
    /// Where the API is.
    pub url: String,
    /// The pledge's payment hash.
    pub pledge: Option<String>,
    processes: BTreeMap<String, Process>,
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

impl World {
    /// Makes a market; `say` is told what is being done. It is ready when miners may join.
    ///
    /// # Errors
    /// [`Failed`].
    pub async fn start(options: Options, say: &dyn Fn(&str)) -> Result<Self, Failed> {
        let programs = Programs::here()?;
        let dir = options.dir.clone();
        std::fs::create_dir_all(dir.join("logs")).map_err(Failed::io(text(&dir)))?;
        let library = match &options.keys_of {
            Some(other) => text(&other.join("library")),
            None => {
                let library = text(&dir.join("library"));
                let count = options.texts.len();
                say(&format!(
                    "texts of {count} registers are deposited, signed, fixed in a snapshot and tokenised"
                ));
                for (folder, register) in &options.texts {
                    let folder = text(folder);
                    let about = ["--register", register.as_str(), "--license", "CC0-1.0", "--language", "en"];
                    let import = [&["--data", &library, "import", &folder][..], &about].concat();
                    programs.output("watershed-shards", &import).await?;
                }
                programs
                    .output("watershed-shards", &["--data", &library, "snapshot", "--held-out", "1500"])
                    .await?;
                library
            }
        };
        let built = programs.output("watershed-shards", &["--data", &library, "build"]).await?;
        let set = built.lines().find_map(|l| l.strip_prefix("shard set ")).map(str::to_owned);
        let set = set
            .ok_or_else(|| Failed::Answer(format!("watershed-shards build printed no shard set: {built}")))?;

        say(
            "a Bitcoin network of our own, a coordinator with a Lightning wallet, and a sponsor with another",
        );
        let bitcoind = Bitcoind::start(&dir.join("chain")).await?;
        let chain = String::from(bitcoind.source().clone());
        let api = format!("127.0.0.1:{}", free_port()?);
        let url = format!("http://{api}");
        let coordinator = text(&dir.join("coordinator"));
        let node = format!("127.0.0.1:{}", free_port()?);
        let network = ["--network", "regtest", "--chain", chain.as_str(), "--listen", node.as_str()];
        programs
            .output("watershed-coordinator", &[&["--data", &coordinator, "init"][..], &network].concat())
            .await?;
        let mut world = Self {
            client: Client::new(&url)?,
            programs,
            bitcoind: Some(bitcoind),
            run: RunId::from_bytes([0; 32]),
            url: url.clone(),
            pledge: None,
            processes: BTreeMap::new(),
            options,
        };
        let common = [
            "--http",
            &api,
            "--library",
            &library,
            "--device",
            "cpu",
            "--max-upload",
            "64",
            "--loopback-addresses",
        ];
        match world.options.false_coordinator.clone() {
            None => {
                let serve = [&["--data", &coordinator, "serve"][..], &common].concat();
                world.spawn("coordinator", "watershed-coordinator", &serve)?;
            }
            Some(falsehood) => {
                let serve = [&["--data", &coordinator, "--falsehood", &falsehood][..], &common].concat();
                world.spawn("coordinator", "watershed-false-coordinator", &serve)?;
            }
        }
        world.until("the coordinator answers", 60, async |w| Ok(w.client.info().await.ok())).await?;
        world.fund(&["watershed-coordinator", "--data", &coordinator, "wallet"]).await?;

        let mut members = Vec::new();
        for kind in world.options.validators.clone() {
            let data = text(&dir.join(&kind.name));
            let key = world.programs.output("watershed-validator", &["init", "--data", &data]).await?;
            let listen = format!("127.0.0.1:{}", free_port()?);
            members.push(format!("{}@http://{listen}", key.trim()));
            let mut arguments =
                vec!["run", "--data", &data, "--coordinator", &url, "--device", "cpu", "--listen", &listen];
            let program = match &kind.falsehood {
                Some(falsehood) => {
                    arguments.splice(0..1, ["--falsehood", falsehood]);
                    "watershed-false-validator"
                }
                None => "watershed-validator",
            };
            world.spawn(&kind.name, program, &arguments)?;
        }
        say("a run is specified, signed and opened");
        world.open(&coordinator, &library, &set, &members).await?;
        if world.options.goal > 0 {
            world.sponsor(&chain, say).await?;
        }
        for kind in world.options.miners.clone() {
            world.join(&kind, &chain).await?;
        }
        Ok(world)
    }

    async fn open(
        &mut self,
        coordinator: &str,
        library: &str,
        set: &str,
        members: &[String],
    ) -> Result<(), Failed> {
        let o = &self.options;
        let numbers = [
            ("--rounds", o.rounds.to_string()),
            ("--inner-steps", o.inner_steps.to_string()),
            ("--batch", o.batch.to_string()),
            ("--sequence", o.sequence.to_string()),
            ("--min-miners", o.miners.len().max(1).to_string()),
            ("--reward", format!("{} sat", o.reward)),
            ("--goal", format!("{} sat", o.goal)),
            // Newcomers' wallets are empty, and nobody is here to pay for them.
            ("--joining-fee", "0 sat".to_owned()),
            // Two markets of the same settings are compared bit by bit.
            ("--seed", "0".to_owned()),
        ];
        let mut arguments = vec![
            "--data",
            coordinator,
            "run",
            "new",
            "--set",
            set,
            "--library",
            library,
            "--title",
            "Seven registers of water",
        ];
        for member in members {
            arguments.extend(["--validator", member]);
        }
        for (name, value) in &numbers {
            arguments.extend([name, value.as_str()]);
        }
        let file = self.programs.output("watershed-coordinator", &arguments).await?;
        let line = |line: &str| {
            let is = |(name, _): &&(&str, u32)| line.split_once(" = ").is_some_and(|(key, _)| key == *name);
            // Rewards are paid as they are earned, unless a market is to show what happens otherwise.
            let set = o.settings.iter().find(is).or_else(|| [("held_back", 0)].iter().find(is));
            set.map_or_else(|| line.to_owned(), |(name, number)| format!("{name} = {number}"))
        };
        let file: Vec<String> = file.lines().map(line).collect();
        let path = o.dir.join("run.toml");
        std::fs::write(&path, file.join("\n")).map_err(Failed::io(text(&path)))?;
        let path = text(&path);
        let open = ["--data", coordinator, "--json", "run", "open", &path, "--coordinator", &self.url];
        let view = self.programs.json("watershed-coordinator", &open).await?;
        let run = view["run"].as_str().and_then(|r| r.parse().ok());
        self.run = run.ok_or_else(|| Failed::Answer(format!("no run was opened: {view}")))?;
        Ok(())
    }

    /// A sponsor with a wallet, a channel, and a pledge that reaches the goal.
    async fn sponsor(&mut self, chain: &str, say: &dyn Fn(&str)) -> Result<(), Failed> {
        let data = text(&self.options.dir.join("sponsor"));
        let listen = format!("127.0.0.1:{}", free_port()?);
        let network = ["--network", "regtest", "--chain", chain, "--listen", &listen];
        self.programs
            .output("watershed-payments", &[&["--data", &data, "init"][..], &network].concat())
            .await?;
        self.spawn("sponsor", "watershed-payments", &["--data", &data, "run"])?;
        let running = async |w: &Self| Ok(w.said("sponsor").contains("running as").then_some(()));
        self.until("the sponsor's wallet runs", 60, running).await?;
        self.fund(&["watershed-payments", "--data", &data, "wallet"]).await?;
        let node = self.client.info().await?.node;
        // A node takes a tenth of a stranger's channel in flight.
        let sats = (self.options.goal * 12 + 100_000).to_string();
        self.programs
            .output("watershed-payments", &["--data", &data, "wallet", "open", &node, &sats])
            .await?;
        let usable = async |w: &Self| {
            w.mine(1).await?;
            tokio::time::sleep(Duration::from_millis(700)).await;
            let channels = w
                .programs
                .json("watershed-payments", &["--data", &data, "--json", "wallet", "channels"])
                .await?;
            let usable =
                channels["open"].as_array().is_some_and(|all| all.iter().any(|c| c["usable"] == true));
            Ok(usable.then_some(()))
        };
        self.until("the sponsor's channel is usable", 90, usable).await?;
        say(&format!("the sponsor pledges {} sat, which any Lightning wallet could", self.options.goal));
        let ready = async |w: &Self| Ok(w.client.pledge(w.run, "a-sponsor", w.options.goal, None).await.ok());
        let pledge = self.until("the run takes pledges", 30, ready).await?;
        let pledge = pledge.pledge;
        self.pledge = Some(pledge.hash.clone());
        let send = ["--data", &data, "wallet", "send", &pledge.invoice, "--wait", "60"];
        // A channel that was just confirmed is known to the node's router a moment later.
        let paid = async |w: &Self| Ok(w.programs.output("watershed-payments", &send).await.ok());
        self.until("the sponsor pays", 60, paid).await?;
        Ok(())
    }

    async fn join(&mut self, kind: &MinerKind, chain: &str) -> Result<(), Failed> {
        let data = text(&self.options.dir.join(&kind.name));
        let listen = format!("127.0.0.1:{}", free_port()?);
        let url = self.url.clone();
        if let Some(other) = &self.options.keys_of {
            let (from, to) = (other.join(&kind.name).join("miner.key"), self.options.dir.join(&kind.name));
            std::fs::create_dir_all(&to).map_err(Failed::io(text(&to)))?;
            std::fs::copy(&from, to.join("miner.key")).map_err(Failed::io(text(&from)))?;
        }
        let init = ["init", "--data", &data, "--coordinator", &url, "--chain", chain, "--listen", &listen];
        self.programs.output("watershed-miner", &init).await?;
        let run = ["--data", &data, "--device", &kind.device, "--states", "1", "--once"];
        match &kind.cheat {
            None => self.spawn(&kind.name, "watershed-miner", &[&["run"][..], &run].concat()),
            Some((cheat, honest)) => {
                let honest = honest.to_string();
                let cheating = ["--cheat", cheat, "--honest-rounds", &honest];
                self.spawn(&kind.name, "watershed-adversary", &[&cheating[..], &run].concat())
            }
        }
    }

    /// One more miner, which chooses by itself what to work for.
    ///
    /// # Errors
    /// [`Failed`].
    pub async fn add(&mut self, kind: &MinerKind) -> Result<(), Failed> {
        let chain = self.bitcoind.as_ref().map(|b| String::from(b.source().clone())).unwrap_or_default();
        self.join(kind, &chain).await
    }

    /// One more miner, for a run of its own and with further arguments.
    ///
    /// # Errors
    /// [`Failed`].
    pub async fn join_as(&mut self, name: &str, run: RunId, more: &[&str]) -> Result<(), Failed> {
        let chain = self.bitcoind.as_ref().map(|b| String::from(b.source().clone())).unwrap_or_default();
        let data = text(&self.options.dir.join(name));
        let listen = format!("127.0.0.1:{}", free_port()?);
        let url = self.url.clone();
        let init = ["init", "--data", &data, "--coordinator", &url, "--chain", &chain, "--listen", &listen];
        self.programs.output("watershed-miner", &init).await?;
        self.work_for(name, run, more)
    }

    /// A miner that is there, for another run and with further arguments.
    ///
    /// # Errors
    /// [`Failed::Regtest`].
    pub fn work_for(&mut self, name: &str, run: RunId, more: &[&str]) -> Result<(), Failed> {
        let (data, run) = (text(&self.options.dir.join(name)), run.to_string());
        let work = ["run", "--data", &data, "--device", "cpu", "--states", "1", "--once", "--run", &run];
        self.spawn(name, "watershed-miner", &[&work[..], more].concat())
    }

    /// Mines blocks.
    ///
    /// # Errors
    /// [`Failed::Regtest`].
    pub async fn mine(&self, blocks: u32) -> Result<(), Failed> {
        if let Some(bitcoind) = &self.bitcoind {
            bitcoind.rpc().mine(blocks).await?;
        }
        Ok(())
    }

    /// Gives a wallet coins.
    async fn fund(&self, wallet: &[&str]) -> Result<(), Failed> {
        let (program, arguments) = (wallet[0], &wallet[1..]);
        let address = self.programs.output(program, &[arguments, &["address"]].concat()).await?;
        if let Some(bitcoind) = &self.bitcoind {
            bitcoind.rpc().fund(address.trim()).await?;
        }
        let seen = async |w: &Self| {
            w.programs.output(program, &[arguments, &["sync"]].concat()).await?;
            let (first, rest) = arguments.split_last().unwrap_or((&"", &[]));
            let balance = w.programs.json(program, &[rest, &["--json", first, "balance"]].concat()).await?;
            // What was mined is there at once, and can be spent a hundred blocks later.
            Ok(balance["on_chain_spendable_sat"].as_u64().filter(|s| *s > 0))
        };
        self.until("a wallet sees its coins", 60, seen).await?;
        Ok(())
    }

    /// Asks until there is an answer.
    ///
    /// # Errors
    /// [`Failed::Late`]; those of asking.
    pub async fn until<T>(
        &self,
        what: &str,
        seconds: u64,
        ask: impl AsyncFn(&Self) -> Result<Option<T>, Failed>,
    ) -> Result<T, Failed> {
        let end = Instant::now() + Duration::from_secs(seconds);
        loop {
            if let Some(value) = ask(self).await? {
                return Ok(value);
            }
            if Instant::now() > end {
                return Err(self.late(what, seconds));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    fn late(&self, what: &str, seconds: u64) -> Failed {
        Failed::Late { what: what.to_owned(), seconds, logs: self.options.dir.join("logs") }
    }

    /// What a process has printed.
    pub fn said(&self, name: &str) -> String {
        std::fs::read_to_string(self.log(name)).unwrap_or_default()
    }

    fn log(&self, name: &str) -> PathBuf {
        self.options.dir.join("logs").join(format!("{name}.log"))
    }

    fn spawn(&mut self, name: &str, program: &str, arguments: &[&str]) -> Result<(), Failed> {
        let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        let process = Process { program: program.to_owned(), arguments, running: None };
        self.processes.insert(name.to_owned(), process);
        self.revive(name)
    }

    /// Starts a process again.
    ///
    /// # Errors
    /// [`Failed::Regtest`].
    pub fn revive(&mut self, name: &str) -> Result<(), Failed> {
        let log = self.log(name);
        if let Some(process) = self.processes.get_mut(name) {
            let program = self.programs.path(&process.program);
            process.running = Some(Guarded::spawn(program, &process.arguments, &log)?);
        }
        Ok(())
    }

    /// Ends a process with a signal.
    ///
    /// # Errors
    /// [`Failed::Regtest`].
    pub fn end(&mut self, name: &str, signal: &str) -> Result<(), Failed> {
        if let Some(running) = self.processes.get_mut(name).and_then(|p| p.running.as_mut()) {
            running.end(signal)?;
        }
        Ok(())
    }

    /// Whether a process runs.
    ///
    /// # Errors
    /// [`Failed::Regtest`].
    pub fn is_running(&mut self, name: &str) -> Result<bool, Failed> {
        match self.processes.get_mut(name).and_then(|p| p.running.as_mut()) {
            Some(running) => Ok(running.is_running()?),
            None => Ok(false),
        }
    }

    /// Names of all processes.
    pub fn names(&self) -> Vec<String> {
        self.processes.keys().cloned().collect()
    }

    /// Waits for the end of the run; `told` sees every view of it. Blocks are mined meanwhile, faster when only escrows are
    /// waited for.
    ///
    /// # Errors
    /// [`Failed::Late`].
    pub async fn follow(&self, limit: Duration, told: &mut dyn FnMut(&RunView)) -> Result<RunView, Failed> {
        let (began, mut mined, mut closing) = (Instant::now(), Instant::now(), None);
        loop {
            // A coordinator that was killed is away for a while.
            if let Ok(view) = self.view().await {
                told(&view);
                if view.phase == "ended" {
                    return Ok(view);
                }
                if view.phase == "closing" {
                    closing.get_or_insert_with(Instant::now);
                }
            }
            let waiting = closing.is_some_and(|at| at.elapsed() > Duration::from_secs(20));
            if mined.elapsed() > Duration::from_secs(if waiting { 1 } else { 5 }) {
                let _ = self.mine(if waiting { 10 } else { 1 }).await;
                mined = Instant::now();
            }
            if began.elapsed() > limit {
                return Err(self.late("the end of the run", limit.as_secs()));
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    /// Waits until all miners and validators have left by themselves. Blocks are mined meanwhile.
    ///
    /// # Errors
    /// [`Failed::Late`] and [`Failed::Regtest`].
    pub async fn follow_out(&mut self, limit: Duration) -> Result<(), Failed> {
        let began = Instant::now();
        let Options { miners, validators, .. } = &self.options;
        let names = miners.iter().map(|m| &m.name).chain(validators.iter().map(|v| &v.name));
        for name in names.cloned().collect::<Vec<_>>() {
            self.leaves(&name, limit.saturating_sub(began.elapsed())).await?;
        }
        Ok(())
    }

    /// Waits until one has left by itself. Blocks are mined meanwhile.
    ///
    /// # Errors
    /// [`Failed::Late`] and [`Failed::Regtest`].
    pub async fn leaves(&mut self, name: &str, limit: Duration) -> Result<(), Failed> {
        let began = Instant::now();
        while self.is_running(name)? {
            if began.elapsed() > limit {
                return Err(self.late(&format!("{name} leaves"), limit.as_secs()));
            }
            let _ = self.mine(1).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        Ok(())
    }

    /// A miner's or validator's key, as its program wrote it down.
    ///
    /// # Errors
    /// [`Failed::Io`] and [`Failed::Answer`].
    pub fn key_of(&self, name: &str, file: &str) -> Result<PublicKey, Failed> {
        let path = self.options.dir.join(name).join(file);
        let text_of = std::fs::read_to_string(&path).map_err(Failed::io(text(&path)))?;
        let key = text_of.lines().find_map(|l| l.strip_prefix("# Public key: ")?.parse().ok());
        key.ok_or_else(|| Failed::Answer(format!("{} names no key", path.display())))
    }

    /// How the run stands.
    ///
    /// # Errors
    /// [`Failed::Client`].
    pub async fn view(&self) -> Result<RunView, Failed> {
        Ok(self.client.run(self.run).await?)
    }

    /// Ends all processes in order.
    ///
    /// # Errors
    /// [`Failed::Regtest`].
    pub fn stop(mut self) -> Result<(), Failed> {
        for name in self.names() {
            if name != "coordinator" {
                self.end(&name, "TERM")?;
            }
        }
        self.end("coordinator", "TERM")?;
        if let Some(bitcoind) = self.bitcoind.take() {
            bitcoind.stop()?;
        }
        Ok(())
    }
}
