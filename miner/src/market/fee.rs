//! The fee that some runs take for joining: from the miner's own wallet, or by whoever pays the invoice that is shown.

use clap::ValueEnum;
use fast_qr::qr::QRBuilder;
use watershed_commons::client::{Challenge, ClientError, Joined};
use watershed_payments::ledger::Account;
use watershed_payments::treasury::PayoutState;
use watershed_payments::wallet::{Invoice, Wallet as _};
use watershed_protocol::Msat;
use watershed_protocol::market::Join;

use super::session::Context;

/// Who pays the joining fee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FeeFrom {
    /// You, with any Lightning wallet: the invoice is shown
    Invoice,
    /// The miner's wallet, from what it has earned; the invoice is shown if that does not reach
    Wallet,
}

/// Joining, with what was paid for it.
pub(super) struct Fee {
    from: FeeFrom,
    shown: Option<String>,
    credential: Option<(String, String)>,
}

impl Fee {
    pub(super) fn new(from: FeeFrom) -> Self {
        Self { from, shown: None, credential: None }
    }

    /// Joins; false while the fee is being waited for. To be called again every few seconds.
    pub(super) async fn join(&mut self, context: &Context, join: Join) -> Result<bool, ClientError> {
        let credential =
            self.credential.as_ref().map(|(token, preimage)| (token.as_str(), preimage.as_str()));
        match context.client.join(context.run, join, &context.key, credential).await? {
            Joined::Yes => {
                if self.shown.take().is_some() {
                    eprintln!("the joining fee is paid");
                }
                Ok(true)
            }
            Joined::Pay(challenge) => {
                self.pay(context, challenge).await?;
                Ok(false)
            }
        }
    }

    async fn pay(&mut self, context: &Context, challenge: Challenge) -> Result<(), ClientError> {
        let refused =
            |message: String| ClientError::Answer { url: context.client.url().to_owned(), reason: message };
        let invoice: Invoice =
            challenge.invoice.parse().map_err(|e| refused(format!("the joining fee's invoice: {e}")))?;
        let fee = context.spec.funding.joining_fee;
        if invoice.amount() != fee {
            let asked = invoice.amount();
            return Err(refused(format!("it asks {asked} for joining, its specification says {fee}")));
        }
        if self.from == FeeFrom::Wallet && self.by_own_wallet(context, &challenge, &invoice).await {
            return Ok(());
        }
        if self.shown.as_ref() != Some(&challenge.invoice) {
            show(fee, &challenge.invoice);
            self.shown = Some(challenge.invoice);
        }
        Ok(())
    }

    /// Whether the miner's own wallet has paid it or is about to.
    async fn by_own_wallet(&mut self, context: &Context, challenge: &Challenge, invoice: &Invoice) -> bool {
        let wallet = &context.wallet;
        // The node takes its time to find its peers after a start.
        let usable = wallet.wallet().channels().await.is_ok_and(|all| all.iter().any(|c| c.usable));
        if !usable {
            return false;
        }
        let most = Msat::new(invoice.amount().msat() / 100 + 5_000);
        match wallet.pay_out(invoice, most, Account::Operator).await.map(|p| p.state) {
            Ok(PayoutState::Paid { preimage, .. }) => {
                self.credential = Some((challenge.token.clone(), preimage.reveal()));
                true
            }
            Ok(PayoutState::Paying) => true,
            Ok(PayoutState::Failed { reason }) => self.fall_back(&reason),
            Err(e) => self.fall_back(&e.to_string()),
        }
    }

    fn fall_back(&self, reason: &str) -> bool {
        if self.shown.is_none() {
            eprintln!("the miner's wallet cannot pay the joining fee: {reason}");
        }
        false
    }
}

fn show(fee: Msat, invoice: &str) {
    eprintln!("\nThis run takes {fee} for joining. Pay this with any Lightning wallet; the miner waits:\n");
    // In capitals a QR code needs fewer modules.
    if let Ok(code) = QRBuilder::new(format!("LIGHTNING:{}", invoice.to_uppercase())).build() {
        eprintln!("{}", code.to_str());
    }
    eprintln!("\n{invoice}\n");
}
