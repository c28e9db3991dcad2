//! A cashier without a node: real signed BOLT 11 invoices of a random key, and preimages that are known here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use lightning_invoice::{Bolt11Invoice, Currency, InvoiceBuilder, PaymentSecret};
use secp256k1::{SECP256K1, SecretKey};
use watershed_payments::l402::{Cashier, Issued};
use watershed_protocol::{Msat, Preimage};

/// Makes invoices and is told which are paid.
#[derive(Clone)]
pub struct Till(Arc<Inner>);

struct Inner {
    key: SecretKey,
    made: Mutex<HashMap<[u8; 32], Made>>,
    pub asked: AtomicU32,
    broken: AtomicBool,
    stuck: AtomicBool,
    busy: AtomicBool,
}

struct Made {
    preimage: Preimage,
    paid: bool,
}

impl Till {
    pub fn new() -> Self {
        let key = SecretKey::new(&mut secp256k1::rand::thread_rng());
        Self(Arc::new(Inner {
            key,
            made: Mutex::default(),
            asked: AtomicU32::new(0),
            broken: AtomicBool::new(false),
            stuck: AtomicBool::new(false),
            busy: AtomicBool::new(false),
        }))
    }

    /// Fails every call from now on.
    pub fn break_down(&self) {
        self.0.broken.store(true, Ordering::SeqCst);
    }

    /// Answers no call from now on.
    pub fn get_stuck(&self) {
        self.0.stuck.store(true, Ordering::SeqCst);
    }

    /// Has been asked for too much from now on.
    pub fn get_busy(&self) {
        self.0.busy.store(true, Ordering::SeqCst);
    }

    /// How many invoices were asked for.
    pub fn asked(&self) -> u32 {
        self.0.asked.load(Ordering::SeqCst)
    }

    /// The preimage of an invoice, which stays unpaid.
    pub fn preimage(&self, bolt11: &str) -> Option<Preimage> {
        let hash = payment_hash(bolt11)?;
        self.0.made.lock().unwrap().get(&hash).map(|made| made.preimage)
    }

    /// Pays an invoice that was made here: its preimage.
    pub fn pay(&self, bolt11: &str) -> Option<Preimage> {
        let hash = payment_hash(bolt11)?;
        let mut made = self.0.made.lock().unwrap();
        let made = made.get_mut(&hash)?;
        made.paid = true;
        Some(made.preimage)
    }

    async fn in_order(&self) -> Result<(), &'static str> {
        if self.0.stuck.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.0.broken.load(Ordering::SeqCst) { Err("the channel to secret-peer is gone") } else { Ok(()) }
    }
}

/// Of an invoice whose signature is good.
fn payment_hash(bolt11: &str) -> Option<[u8; 32]> {
    let invoice: Bolt11Invoice = bolt11.parse().ok()?;
    hex::decode(invoice.payment_hash().to_string()).ok()?.try_into().ok()
}

const BUSY: &str = "too many";

impl Cashier for Till {
    type Error = &'static str;

    fn retry_after(error: &&'static str) -> Option<u32> {
        (*error == BUSY).then_some(7)
    }

    async fn invoice(&self, amount: Msat, description: String, expiry_s: u32) -> Result<Issued, Self::Error> {
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        self.in_order().await?;
        if self.0.busy.load(Ordering::SeqCst) {
            return Err(BUSY);
        }
        let preimage = Preimage::from_bytes(secp256k1::rand::random());
        let hash = preimage.hash();
        let invoice = InvoiceBuilder::new(Currency::Regtest)
            .description(description)
            .amount_milli_satoshis(amount.msat())
            .payment_hash(hash.to_string().parse().unwrap())
            .payment_secret(PaymentSecret(secp256k1::rand::random()))
            .timestamp(SystemTime::now())
            .expiry_time(Duration::from_secs(expiry_s.into()))
            .min_final_cltv_expiry_delta(144)
            .build_signed(|message| SECP256K1.sign_ecdsa_recoverable(message, &self.0.key))
            .unwrap();
        self.0.made.lock().unwrap().insert(hash.to_bytes(), Made { preimage, paid: false });
        Ok(Issued { bolt11: invoice.to_string(), payment_hash: hash.to_bytes() })
    }

    async fn is_paid(&self, payment_hash: [u8; 32]) -> Result<bool, Self::Error> {
        self.in_order().await?;
        Ok(self.0.made.lock().unwrap().get(&payment_hash).is_some_and(|made| made.paid))
    }
}
