//! Working for a run: its commands.

mod choice;
mod conduct;
mod decline;
mod doctor;
mod fee;
mod home;
mod keep;
mod patience;
mod report;
mod session;
mod task;
mod terms;
mod word;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use watershed_commons::client::Client;
use watershed_engine::device::{self, DeviceChoice, OpenDevice};
use watershed_engine::selftest;
use watershed_payments::cli::{SetupArgs, WalletCommand, listen_address};
use watershed_payments::wallet::ldk::ChainSource;
use watershed_payments::wallet::{Network, NodeAddress};
use watershed_protocol::{Msat, RunId, told};

use choice::{Class, Knows, choose};
pub(crate) use conduct::{Cheat, Conduct};
use fee::FeeFrom;
use home::Home;
pub(crate) use home::HomeArgs;
use keep::Keep;

/// What a command ends with.
type Outcome = Result<(), String>;

/// How `init` makes key and wallet.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct InitArgs {
    #[command(flatten)]
    home: HomeArgs,
    /// The coordinator to work for. Its channels are used before they confirm: until they do it could take back what it
    /// paid
    #[arg(long, env = "WATERSHED_COORDINATOR_URL", value_name = "URL")]
    coordinator: String,
    /// Where blocks come from: bitcoind://USER:PASSWORD@HOST:PORT, esplora+https://HOST/api, ssl://HOST:PORT or
    /// tcp://HOST:PORT of an Electrum server
    #[arg(long, env = "WATERSHED_CHAIN", hide_env_values = true)]
    chain: ChainSource,
    /// Where this node listens
    #[arg(long, default_value = "127.0.0.1:9736", value_name = "HOST:PORT", value_parser = listen_address)]
    listen: String,
    /// Where the coordinator reaches it, if that is elsewhere: what a router forwards to --listen
    #[arg(long, value_name = "HOST:PORT")]
    announce: Option<String>,
    /// Make the wallet although its chain source cannot be asked now; the first `run` needs its answer
    #[arg(long)]
    offline: bool,
}

/// What `doctor` looks at.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    home: HomeArgs,
    /// The coordinator [default: the one given to `init`]
    #[arg(long, env = "WATERSHED_COORDINATOR_URL", value_name = "URL")]
    coordinator: Option<String>,
    /// The device: auto, cpu, gpu or gpu:N
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
}

/// How `run` works.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    home: HomeArgs,
    /// The coordinator [default: the one given to `init`]
    #[arg(long, env = "WATERSHED_COORDINATOR_URL", value_name = "URL")]
    coordinator: Option<String>,
    /// The run to work for [default: one that closes with work of yours in it, else the best paid of those that have their
    /// money, and another one as soon as it is better]
    #[arg(long, value_name = "RUN")]
    run: Option<RunId>,
    /// The device: auto, cpu, gpu or gpu:N
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// Least pay for a million tokens, such as "500 sat"
    #[arg(long, default_value = "0 sat", value_name = "AMOUNT")]
    min_price: Msat,
    /// Who pays, if the run takes a fee for joining
    #[arg(long, value_enum, default_value = "invoice", value_name = "HOW")]
    joining_fee: FeeFrom,
    /// Disk for states between inner steps, in GiB; with less, more is computed again when a validator asks
    #[arg(long, default_value_t = 8, value_name = "GIB")]
    states: u64,
    /// Disk that is kept free for the wallet, in MiB: with less, fewer states are kept and no new work is taken
    #[arg(long, default_value_t = 256, value_name = "MIB")]
    keep_free: u64,
    /// Leave when the run is over, instead of waiting for the next one
    #[arg(long)]
    once: bool,
}

/// What is paid out.
#[derive(clap::Args)]
pub(crate) struct WithdrawArgs {
    #[command(flatten)]
    home: HomeArgs,
    /// The coordinator [default: the one given to `init`]
    #[arg(long, env = "WATERSHED_COORDINATOR_URL", value_name = "URL")]
    coordinator: Option<String>,
    /// BOLT 11, with an amount
    invoice: String,
}

/// The wallet's commands.
#[derive(clap::Args)]
pub(crate) struct WalletArgs {
    #[command(flatten)]
    home: HomeArgs,
    #[command(subcommand)]
    command: WalletCommand,
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|e| e.to_string())
}

pub(crate) fn init(args: &InitArgs) -> Outcome {
    let home = Home::new(&args.home)?;
    let info = runtime()?
        .block_on(async { Client::new(&args.coordinator)?.info().await })
        .map_err(|e| format!("{e}\nIs the coordinator's address right, and is it running?"))?;
    let network: Network =
        info.network.parse().map_err(|_| format!("the network {:?} is unknown", info.network))?;
    let payer: NodeAddress = info.node.parse().map_err(|e| format!("the coordinator's node: {e}"))?;
    let key = home.key()?;
    let setup = SetupArgs {
        network,
        chain: args.chain.clone(),
        listen: vec![args.listen.clone()],
        announce: args.announce.iter().cloned().collect(),
        offline: args.offline,
        payer: Some(payer),
    };
    let made = runtime()?.block_on(watershed_payments::cli::init(&home.place(), &setup));
    made.map_err(|e| told(&*e))?;
    home.remember_coordinator(&args.coordinator)?;
    if !args.home.json {
        println!(
            "\nYour key as a miner: {}\nnext: watershed-miner doctor, then watershed-miner run",
            key.public()
        );
    }
    Ok(())
}

pub(crate) fn doctor(args: &DoctorArgs) -> Outcome {
    let home = Home::new(&args.home)?;
    let url = home.coordinator(args.coordinator.as_deref());
    runtime()?.block_on(doctor::examine(&home, url.ok(), args.device))
}

pub(crate) fn wallet(args: &WalletArgs) -> Result<ExitCode, String> {
    let home = Home::new(&args.home)?;
    let outcome = runtime()?.block_on(watershed_payments::cli::wallet(&home.place(), args.command.clone()));
    outcome.map_err(|e| told(&*e))
}

pub(crate) fn withdraw(args: &WithdrawArgs) -> Outcome {
    let home = Home::new(&args.home)?;
    let (key, url) = (home.key()?, home.coordinator(args.coordinator.as_deref())?);
    let paid = runtime()?.block_on(async { Client::new(&url)?.payout(&args.invoice, &key).await });
    let paid = paid.map_err(|e| e.to_string())?;
    if args.home.json {
        println!("{paid}");
    } else {
        println!("paid {} msat", paid["paid"]);
    }
    Ok(())
}

pub(crate) fn status(args: &HomeArgs) -> Outcome {
    report::status(&Home::new(args)?)
}

pub(crate) fn earnings(args: &HomeArgs) -> Outcome {
    report::earnings(&Home::new(args)?)
}

/// For how long a run that gave nothing, or failed here, comes after others.
const PASSED: Duration = Duration::from_secs(1_800);

/// What `run` does next.
enum Next {
    /// Nothing: it was told to stop, or its run is over.
    Done,
    /// It looks again for something to work for, in a while.
    Wait,
    /// It looks again at once.
    Again,
    /// It works for this coordinator no more.
    Leave(String),
}

/// A miner between runs.
struct Mining {
    home: Home,
    url: String,
    client: Client,
    device: OpenDevice,
    conduct: Conduct,
    /// Whether the coordinator has answered and a run was begun.
    worked: bool,
    /// Runs that others come before, and since when.
    passed: BTreeMap<RunId, Instant>,
    /// Runs of which it was said that nobody can train them.
    refused: BTreeSet<RunId>,
    said: String,
}

impl Mining {
    /// Says something, unless it was the last that was said.
    fn say(&mut self, text: &str) {
        if self.said != text {
            eprintln!("{text}");
            text.clone_into(&mut self.said);
        }
    }

    /// Works for a run, if there is one.
    async fn once(&mut self, args: &RunArgs) -> Result<Next, String> {
        let runs = match self.client.runs().await {
            Ok(runs) => runs,
            Err(e) if e.is_passing() => {
                self.say(&format!("{e}; trying again"));
                return Ok(Next::Wait);
            }
            Err(e) => return Err(e.to_string()),
        };
        for (run, fault) in choice::untrainable(&runs) {
            if self.refused.insert(run) {
                eprintln!("run {run} is left out, because nobody can train it: {fault}");
            }
        }
        self.passed.retain(|_, since| since.elapsed() < PASSED);
        let passed = self.passed.keys().copied().collect();
        let unfinished = |run| Keep::new(self.home.run(run)).has_work();
        let knows =
            Knows { named: args.run, min_price: args.min_price, unfinished: &unfinished, passed: &passed };
        let Some((run, _)) = choose(&runs, &knows) else {
            if args.run.is_some() {
                return Err("the coordinator has no such run".to_owned());
            }
            let text = format!("waiting for a run at {}", self.url);
            self.say(&text);
            report::note(&self.home, &text);
            return Ok(Next::Wait);
        };
        self.said.clear();
        let with = session::With {
            home: &self.home,
            client: &self.client,
            args,
            device: &self.device,
            conduct: self.conduct,
            passed: &passed,
        };
        let mut began = false;
        let ended = session::work(&with, run, &mut began).await;
        self.worked |= began;
        match ended {
            Ok(session::Left::Distrusted(why)) => Ok(Next::Leave(why)),
            Ok(session::Left::Over) if !args.once && args.run.is_none() => Ok(Next::Wait),
            Ok(session::Left::Over | session::Left::Stopped) => Ok(Next::Done),
            Ok(session::Left::Better) => Ok(Next::Again),
            Ok(session::Left::Passed) => {
                eprintln!("nothing came of run {} for long; another one comes first for a while", run.run);
                self.passed.insert(run.run, Instant::now());
                Ok(Next::Again)
            }
            Err(e) => {
                // What is wrong with one run is no reason to leave another.
                let failed = passed.iter().copied().chain([run.run]).collect();
                let others = choose(&runs, &Knows { passed: &failed, ..knows });
                if others.is_none_or(|(_, class)| class > Class::Trains) {
                    return Err(e);
                }
                eprintln!("{e}\nanother run comes first for a while");
                self.passed.insert(run.run, Instant::now());
                Ok(Next::Again)
            }
        }
    }
}

pub(crate) fn run(args: &RunArgs, conduct: Conduct) -> Outcome {
    let home = Home::new(&args.home)?;
    // Held until the process ends, whatever ends it.
    let _alone = home.alone()?;
    let _running = home.claim()?;
    report::note(&home, "starting");
    let outcome = mine(args, conduct, home.clone());
    report::note(&home, "stopped");
    outcome
}

fn mine(args: &RunArgs, conduct: Conduct, home: Home) -> Outcome {
    let url = home.coordinator(args.coordinator.as_deref())?;
    let opened = device::open(args.device).map_err(|e| e.to_string())?;
    selftest::check(&opened.device).map_err(|e| {
        format!("{}: {e}\nThis device may not do exact work; try another with --device", opened.name)
    })?;
    eprintln!("device {} computes every operation to the bit", opened.name);
    runtime()?.block_on(async {
        let client = Client::new(&url).map_err(|e| e.to_string())?;
        let mut mining = Mining {
            home,
            url,
            client,
            device: opened,
            conduct,
            worked: false,
            passed: BTreeMap::new(),
            refused: BTreeSet::new(),
            said: String::new(),
        };
        let mut again = Duration::from_secs(2);
        loop {
            match mining.once(args).await {
                Ok(Next::Done) => return Ok(()),
                Ok(Next::Leave(why)) => return Err(why),
                Ok(Next::Wait) => again = Duration::from_secs(2),
                Ok(Next::Again) => again = Duration::ZERO,
                // What never worked is for its owner to put right; what did comes back.
                Err(e) if !mining.worked => return Err(e),
                Err(e) => {
                    mining.say(&format!("{e}\ntrying again, in a minute at most"));
                    again = (again * 2).clamp(Duration::from_secs(2), Duration::from_secs(60));
                }
            }
            tokio::select! {
                () = tokio::time::sleep(again) => {}
                () = watershed_payments::cli::stop_signal() => return Ok(()),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use watershed_protocol::RunId;
    use watershed_protocol::market::RunSpec;
    use watershed_protocol::market::view::RunView;

    pub(super) fn view(byte: u8, phase: &str) -> RunView {
        RunView {
            run: RunId::from_bytes([byte; 32]),
            title: String::new(),
            phase: phase.to_owned(),
            end: String::new(),
            paused: false,
            trouble: String::new(),
            waits_for: Vec::new(),
            opened: 0,
            idle_at: None,
            rounds_done: 0,
            rounds: 1,
            round: None,
            miners: 0,
            sums: Default::default(),
            checkpoints: Vec::new(),
            spec: RunSpec::smallest([]),
            signed: String::new(),
        }
    }
}
