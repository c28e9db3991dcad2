//! What the commands take, and the requests they become.

use std::error::Error;
use std::io::Read as _;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use serde::de::DeserializeOwned;
use serde_json::Value;
use watershed_protocol::{Msat, PaymentHash, Subject};

use crate::control::Request;
use crate::escrow::MAX_LOTS;
use crate::ledger::{Account, Name};
use crate::wallet::{Invoice, NodeAddress};

/// Largest input that is read: an escrow of 483 lots has 60 kB.
const MAX_INPUT: u64 = 1 << 20;

#[derive(clap::Args)]
pub(super) struct RunArgs {
    /// Serve campaigns, and a route that costs something, over HTTP on this address
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) http: Option<SocketAddr>,
    /// What the route /paid costs
    #[arg(long, value_name = "AMOUNT", default_value = "10 sat")]
    pub(super) price: Msat,
    /// How often a payment opens the route /paid [default: as often as fits in an hour]
    #[arg(long, value_name = "TIMES")]
    pub(super) uses: Option<NonZeroU32>,
}

#[derive(Subcommand)]
pub(super) enum EscrowCommand {
    /// Show how a reward is cut into lots
    Split {
        /// As `1000 sat` or `1000000 msat`
        #[arg(long)]
        reward: Msat,
        /// How many hold secrets
        #[arg(long, default_value_t = 1, value_parser = lots())]
        holders: u16,
        /// Tiers of each holder
        #[arg(long, default_value_t = 6)]
        tiers: u32,
    },
    /// Payer: see to it that a payee can hold so much, opening channels if needed
    Prepare {
        /// As <66 hex digits>@host:port
        payee: NodeAddress,
        /// All lots together, as `1000 sat`
        amount: Msat,
        /// How many
        #[arg(long, default_value_t = 6, value_parser = lots())]
        lots: u16,
    },
    /// Payer: write an escrow down, from JSON
    #[command(
        after_help = "{\"terms\": {\"subject\": HEX, \"window\": 144, \"lots\": [{\"hash\": HEX, \"amount\": MSAT}, \
                            ...]},\n \"payee\": NODE, \"budget\": \"operator\", \"earner\": \"miner/NAME\"}"
    )]
    Offer {
        /// A file, or - for standard input
        file: PathBuf,
    },
    /// Payee: make the invoices of an escrow, from JSON
    #[command(
        after_help = "{\"subject\": HEX, \"window\": 144, \"lots\": [{\"hash\": HEX, \"amount\": MSAT}, ...]}"
    )]
    Accept {
        /// A file, or - for standard input
        file: PathBuf,
    },
    /// Payer: check the payee's invoices and pay them
    Lock {
        /// Which escrow
        subject: Subject,
        /// One for each lot
        #[arg(required = true)]
        invoices: Vec<Invoice>,
    },
    /// Payer: take the payee's word that lots are locked
    Confirm {
        /// Which escrow
        subject: Subject,
        /// As HASH:DEADLINE
        #[arg(required = true, value_parser = lot)]
        lots: Vec<(PaymentHash, u32)>,
    },
    /// Payer: show the lots
    Status {
        /// Which escrow
        subject: Subject,
        /// Wait until none is under way, at most so many seconds
        #[arg(long, value_name = "SECONDS")]
        wait: Option<u64>,
    },
    /// Payer: withdraw the offer of lots that are not locked
    Withdraw {
        /// Which escrow
        subject: Subject,
    },
    /// Payee: show the lots
    Held {
        /// Which escrow
        subject: Subject,
        /// Wait until none is under way, at most so many seconds
        #[arg(long, value_name = "SECONDS")]
        wait: Option<u64>,
    },
    /// Payee: claim lots; the secrets are read from standard input
    Settle,
    /// Payee: give lots back
    GiveBack {
        /// Which escrow
        subject: Subject,
        /// Only these [default: all that are not settled]
        hashes: Vec<PaymentHash>,
        /// Why
        #[arg(long, default_value = "given back by hand")]
        reason: String,
    },
    /// Payee: signed receipts of what was settled
    Receipts {
        /// Which escrow
        subject: Subject,
    },
}

/// As many as an escrow has.
fn lots() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..=i64::try_from(MAX_LOTS).unwrap_or(i64::MAX))
}

fn lot(text: &str) -> Result<(PaymentHash, u32), String> {
    let (hash, deadline) = text.split_once(':').ok_or("a lot is given as HASH:DEADLINE")?;
    Ok((hash.parse().map_err(|e| format!("{e}"))?, deadline.parse().map_err(|e| format!("{e}"))?))
}

type Made<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn input(file: &Path) -> Made<String> {
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().take(MAX_INPUT).read_to_string(&mut text)?;
    } else {
        let opened = std::fs::File::open(file).map_err(|e| format!("{}: {e}", file.display()))?;
        opened.take(MAX_INPUT).read_to_string(&mut text)?;
    }
    Ok(text)
}

fn json<T: DeserializeOwned>(file: &Path) -> Made<T> {
    serde_json::from_str(&input(file)?).map_err(|e| format!("{}: {e}", file.display()).into())
}

impl EscrowCommand {
    pub(super) fn wait(&self) -> Option<Duration> {
        match self {
            Self::Status { wait, .. } | Self::Held { wait, .. } => wait.map(Duration::from_secs),
            _ => None,
        }
    }

    pub(super) fn request(self) -> Made<Request> {
        Ok(match self {
            Self::Split { .. } => return Err("split needs no wallet".into()),
            Self::Prepare { payee, amount, lots } => {
                Request::Ensure { peer: payee, amount, htlcs: lots.into() }
            }
            Self::Offer { file } => Request::Offer(json(&file)?),
            Self::Accept { file } => Request::Accept(json(&file)?),
            Self::Lock { subject, invoices } => Request::Lock { subject, invoices },
            Self::Confirm { subject, lots } => Request::Confirm { subject, lots },
            Self::Status { subject, .. } => Request::Escrow { subject },
            Self::Withdraw { subject } => Request::WithdrawOffer { subject },
            Self::Held { subject, .. } => Request::Held { subject },
            Self::Settle => Request::Settle { preimages: super::preimages(&input(Path::new("-"))?)? },
            Self::GiveBack { subject, hashes, reason } => Request::GiveBack { subject, hashes, reason },
            Self::Receipts { subject } => Request::Receipts { subject },
        })
    }
}

/// Whether a list of lots or holds, or a payment, is on its way from one state of rest to another.
pub(super) fn is_moving(value: &Value) -> bool {
    let moving = |v: &Value| matches!(v["state"].as_str(), Some("paying" | "claiming"));
    value.as_array().map_or_else(|| moving(value), |all| all.iter().any(moving))
}

#[derive(Subcommand)]
pub(super) enum CampaignCommand {
    /// Start a campaign
    Start {
        /// Its name
        name: Name,
        /// The sum that has to be pledged at the same time
        #[arg(long)]
        goal: Msat,
        /// Blocks for which a pledge waits at least
        #[arg(long, default_value_t = 1008)]
        window: u32,
        /// Seconds since 1970 at which it ends without success
        #[arg(long)]
        ends: Option<u64>,
    },
    /// Show a campaign and its pledges
    Show {
        /// Its name
        name: Name,
    },
    /// Make the invoice of a pledge, payable by any Lightning wallet
    Pledge {
        /// For which campaign
        name: Name,
        /// Who pledges
        sponsor: Name,
        /// How much, as `1000 sat`
        amount: Msat,
    },
    /// End a campaign; everything goes back
    Cancel {
        /// Its name
        name: Name,
        /// Told to nobody but the log
        #[arg(long, default_value = "cancelled by hand")]
        reason: String,
    },
}

impl CampaignCommand {
    pub(super) fn request(self) -> Request {
        match self {
            Self::Start { name, goal, window, ends } => Request::StartCampaign { name, goal, window, ends },
            Self::Show { name } => Request::Campaign { name },
            Self::Pledge { name, sponsor, amount } => Request::Pledge { name, sponsor, amount },
            Self::Cancel { name, reason } => Request::CancelCampaign { name, reason },
        }
    }
}

#[derive(Subcommand)]
pub(super) enum LedgerCommand {
    /// All accounts and what they have
    Accounts,
    /// The entries
    Entries {
        /// Of one account only
        #[arg(long)]
        account: Option<Account>,
        /// After this number
        #[arg(long, default_value_t = 0)]
        after: u64,
        /// At most so many
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Move a claim from one account to another
    Transfer {
        /// Names the transfer: with the same key it happens once
        #[arg(long)]
        key: String,
        /// From whom
        from: Account,
        /// To whom
        to: Account,
        /// How much, as `1000 sat`
        amount: Msat,
    },
    /// Compare the ledger with the node, to the msat
    Reconcile,
}

impl LedgerCommand {
    pub(super) fn request(self) -> Request {
        match self {
            Self::Accounts => Request::Accounts,
            Self::Entries { account, after, limit } => Request::Entries { account, after, limit },
            Self::Transfer { key, from, to, amount } => Request::Transfer { key, from, to, amount },
            Self::Reconcile => Request::Reconcile,
        }
    }
}
