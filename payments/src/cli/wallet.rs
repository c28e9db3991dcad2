//! `wallet`: shared by all programs that hold money.

use std::time::{Duration, Instant};

use clap::Subcommand;
use serde_json::json;
use watershed_protocol::{Msat, PaymentHash};

use super::{Outcome, Place, Session, args, with_session};
use crate::control::{Reply, Request};
use crate::ledger::Account;
use crate::wallet::ldk::words;
use crate::wallet::{Invoice, NodeAddress, NodeId, Withdraw};

/// Look at the wallet and use it.
#[derive(Subcommand, Clone, Debug)]
pub enum WalletCommand {
    /// Who the wallet is, and how it stands
    Show,
    /// Ask the chain source for news now, instead of within seconds
    Sync,
    /// A chain address to deposit to
    Address,
    /// What there is
    Balance,
    /// The open channels
    Channels {
        /// And those that were closed
        #[arg(long)]
        all: bool,
    },
    /// Connect to a node, and again whenever it is away
    Connect {
        /// As <66 hex digits>@host:port
        peer: NodeAddress,
    },
    /// Open a channel; it can be used once its transaction is confirmed, or at once if the peer trusts you
    Open {
        /// As <66 hex digits>@host:port
        peer: NodeAddress,
        /// Its size in sat, which come from the on-chain wallet
        sats: u64,
        /// Tell the whole network of it, so that both nodes are known; BOLT 12 offers need that. Both must listen
        #[arg(long)]
        public: bool,
    },
    /// Close all channels with a peer; what is yours goes on chain
    Close {
        /// Its 66 hex digits
        peer: NodeId,
        /// Without its agreement: takes days and costs more
        #[arg(long)]
        force: bool,
    },
    /// Pay an invoice
    Send {
        /// lnbc..., lntb... or lnbcrt...
        invoice: Invoice,
        /// Most that forwarding nodes may take [default: 1 % of the amount, at least 1 sat]
        #[arg(long)]
        max_fee: Option<Msat>,
        /// Whose money
        #[arg(long, default_value = "operator")]
        from: Account,
        /// Seconds to wait for the outcome
        #[arg(long, default_value_t = 60)]
        wait: u64,
    },
    /// Make an invoice
    Receive {
        /// As `1000 sat`
        amount: Msat,
        /// What for
        #[arg(long, default_value = "")]
        memo: String,
        /// Seconds that it can be paid
        #[arg(long, default_value_t = 3600)]
        expiry: u32,
        /// Whose money it will be
        #[arg(long, default_value = "operator")]
        to: Account,
    },
    /// Whether an invoice of this wallet was paid
    Received {
        /// Its payment hash
        hash: PaymentHash,
    },
    /// Send to a chain address
    Withdraw {
        /// Where to
        address: String,
        /// So many sat
        #[arg(long, conflicts_with = "all", required_unless_present = "all")]
        sats: Option<u64>,
        /// Everything that no channel needs
        #[arg(long)]
        all: bool,
    },
    /// Show the 24 words again, and what else a backup needs
    Backup,
}

/// Carries a wallet command out.
///
/// # Errors
/// What was refused, for people.
pub async fn wallet(place: &Place, command: WalletCommand) -> Outcome {
    let request = match command {
        WalletCommand::Backup => return backup(place),
        WalletCommand::Show => Request::Show,
        WalletCommand::Sync => Request::Sync,
        WalletCommand::Address => Request::Address,
        WalletCommand::Balance => Request::Balance,
        WalletCommand::Channels { all } => Request::Channels { all },
        WalletCommand::Connect { peer } => Request::Connect { peer },
        WalletCommand::Open { peer, sats, public } => Request::Open { peer, sats, public },
        WalletCommand::Close { peer, force } => Request::Close { peer, force },
        WalletCommand::Receive { amount, memo, expiry, to } => Request::Receive { amount, memo, expiry, to },
        WalletCommand::Received { hash } => Request::Received { hash },
        WalletCommand::Withdraw { address, sats, .. } => {
            Request::WithdrawOnChain { address, what: sats.map_or(Withdraw::All, Withdraw::Sats) }
        }
        WalletCommand::Send { invoice, max_fee, from, wait } => {
            let default = (invoice.amount().msat() / 100).max(1000);
            let max_fee = max_fee.unwrap_or(Msat::new(default));
            let request = Request::Send { invoice, max_fee, from };
            return with_session(place, async |session| send(place, session, &request, wait).await).await;
        }
    };
    with_session(place, async |session| place.print(session.ask(&request).await)).await
}

/// Pays, and waits for the outcome.
async fn send(place: &Place, session: &Session, request: &Request, wait: u64) -> Outcome {
    let end = Instant::now() + Duration::from_secs(wait);
    let mut reply = session.ask(request).await;
    while let Reply::Ok { value, .. } = &reply
        && args::is_moving(value)
        && Instant::now() < end
    {
        let Ok(hash) = serde_json::from_value(value["hash"].clone()) else { break };
        tokio::time::sleep(Duration::from_millis(50)).await;
        reply = session.ask(&Request::Sent { hash }).await;
    }
    let failed = matches!(&reply, Reply::Ok { value, .. } if value["state"] == "failed");
    let code = place.print(reply)?;
    Ok(if failed { std::process::ExitCode::FAILURE } else { code })
}

fn backup(place: &Place) -> Outcome {
    let folder = place.folder()?;
    let words = words(&folder)?.to_string();
    let lines = vec![
        words.clone(),
        String::new(),
        "With these words, `restore` brings back what is on chain.".to_owned(),
        format!(
            "Channels need {} as well. Copy it only while nothing runs, and never go back to an older copy: a channel \
             that is used from an old state can be taken by the peer.",
            folder.display()
        ),
    ];
    place.print(Reply::Ok { value: json!({ "words": words, "folder": folder }), lines })
}
