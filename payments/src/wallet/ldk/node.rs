//! [`Wallet`] by LDK Node.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ldk_node::bip39::Mnemonic;
use ldk_node::bitcoin::{Address, secp256k1};
use ldk_node::config::{
    AnchorChannelsConfig, BackgroundSyncConfig, ChannelConfig, Config, ElectrumSyncConfig, EsploraSyncConfig,
    MaxDustHTLCExposure,
};
use ldk_node::io::sqlite_store::SQLITE_DB_FILE_NAME;
use ldk_node::lightning::ln::channelmanager::PaymentId;
use ldk_node::lightning::ln::msgs::SocketAddress;
use ldk_node::lightning::routing::gossip::NodeAlias;
use ldk_node::lightning::routing::router::RouteParametersConfig;
use ldk_node::lightning_invoice::{Bolt11InvoiceDescription, Description};
use ldk_node::lightning_types::payment as ldk_payment;
use ldk_node::payment::{PaymentDetails, PaymentDirection, PaymentKind, PaymentStatus};
use ldk_node::{BuildError, Builder, Node, NodeError};
use watershed_protocol::{Envelope, Msat, PaymentHash, Preimage, Receipt, SecretKey};

use super::config::{ChainSource, WalletConfig};
use super::hold::LIMITS;
use super::view::{
    chain_payment, channel, closing_balance, event, htlc, lightning_payment, payment, preimage_of, sweep,
};
use super::{Rpc, SourceError, hold, offers, origin, seed, unfinished};
use crate::lock::{FolderLock, LockError};
use crate::wallet::{
    Balances, ChainPayment, ChainView, Channel, ChannelName, Event, HoldRequest, Incoming, Invoice, Known,
    LightningPayment, Limits, Network, NodeAddress, NodeId, Offer, OfferPayment, OpenChannel, Outgoing,
    PayLimits, Wallet, WalletError, Withdraw, listen,
};

/// What the network is told as a name, for nodes that have public channels: 32 bytes, filled up with zeros (BOLT 7).
const ALIAS: [u8; 32] = *b"watershed\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// How long [`Wallet::stop`] waits for claims to be signed off by the peer.
const CLAIMS: Duration = Duration::from_secs(3);

/// How long a bitcoind that is asked how far it is may take.
const BITCOIND: Duration = Duration::from_secs(5);

/// A running LDK Node. Dropping it without [`Wallet::stop`] is as if it were killed.
pub struct LdkWallet {
    node: Arc<Node>,
    payer: Option<NodeAddress>,
    key: secp256k1::SecretKey,
    receipts: SecretKey,
    // Asked beside the node, which does not say that it cannot follow.
    pub(super) bitcoind: Option<Rpc>,
    source: ChainSource,
    // When the node last heard of the chain before it was started, in seconds since 1970.
    pub(super) heard_before: Option<u64>,
    // The height at which the node was last seen, and when it was first seen there.
    pub(super) moved: Mutex<(u32, Instant)>,
    network: Network,
    // Held for as long as the node runs: two processes on one channel state lose money.
    _lock: FolderLock,
}

impl std::fmt::Debug for LdkWallet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LdkWallet({} on {})", self.node.node_id(), self.network)
    }
}

/// Takes the data directory for this process; the lock ends with the process, however it ends.
fn lock(data: &Path) -> Result<FolderLock, WalletError> {
    FolderLock::take(data, origin::LOCK).map_err(|e| match e {
        LockError::InUse { folder, holder } => WalletError::InUse { folder, holder },
        LockError::File { path, source } => WalletError::File { path, source },
    })
}

/// Whether the node was never started: what it finds at its first start decides where it looks for its coins.
fn is_new(data: &Path) -> Result<bool, WalletError> {
    let path = data.join("node").join(SQLITE_DB_FILE_NAME);
    path.try_exists().map(|there| !there).map_err(|source| WalletError::File { path, source })
}

/// What to do about a node whose files cannot be read.
fn read_failed(e: BuildError) -> Option<&'static str> {
    matches!(e, BuildError::ReadFailed).then_some(
        "Its files do not fit together, as when some of them are of an older copy: put back the newest copy of the whole folder; \
         node.log there says which of them it is",
    )
}

/// Makes the node's files for a wallet whose coins may be older than today: LDK Node starts a new wallet at the tip if it has a bitcoind,
/// and at the first block if it has not. The server that is named here is never asked.
pub(super) fn create_from_first_block(data: &Path) -> Result<(), WalletError> {
    let settings = WalletConfig::load(data)?;
    let config = Config {
        network: settings.network,
        storage_dir_path: data.join("node").to_string_lossy().into_owned(),
        ..Config::default()
    };
    let mut builder = Builder::from_config(config);
    builder.set_entropy_seed_bytes(seed::words(data)?.to_seed(""));
    builder.set_chain_source_esplora("http://127.0.0.1:1".into(), None);
    builder.set_filesystem_logger(Some(data.join("node.log").to_string_lossy().into_owned()), None);
    builder.build().map(drop).map_err(|e| WalletError::Start {
        reason: e.to_string(),
        advice: "See node.log in the data directory".to_owned(),
    })
}

fn socket(address: &str) -> Result<SocketAddress, WalletError> {
    SocketAddress::from_str(address).map_err(|_| WalletError::Address(address.to_owned()))
}

impl LdkWallet {
    /// Starts the node whose files are in `data`, after its chain source was asked whose chain it has. A node that was never
    /// started needs its answer; any other can wait for one that is away.
    ///
    /// # Errors
    /// [`WalletError`].
    pub async fn start(data: PathBuf) -> Result<Self, WalletError> {
        let settings = WalletConfig::load(&data)?;
        let words = seed::words(&data)?;
        let lock = lock(&data)?;
        let doubt = match settings.chain.check(settings.network).await {
            Ok(()) => None,
            Err(e) if e.is_passing() && !is_new(&data)? => Some(e),
            Err(e) => return Err(e.into()),
        };
        settings.check_addresses()?;
        origin::note_start(&data)?;
        blocking(move || Self::start_blocking(&data, settings, &words, lock, doubt)).await
    }

    fn start_blocking(
        data: &Path,
        settings: WalletConfig,
        words: &Mnemonic,
        lock: FolderLock,
        doubt: Option<SourceError>,
    ) -> Result<Self, WalletError> {
        let network = settings.network;
        let sockets = |all: &[String]| all.iter().map(|a| listen::address(a)).collect::<Result<Vec<_>, _>>();
        let (listening, announced) = (sockets(&settings.listen)?, sockets(&settings.announce)?);
        let config = Config {
            network,
            storage_dir_path: data.join("node").to_string_lossy().into_owned(),
            // A node that listens may have public channels; it has none unless one is opened as such.
            node_alias: (!listening.is_empty()).then_some(NodeAlias(ALIAS)),
            listening_addresses: (!listening.is_empty()).then_some(listening),
            announcement_addresses: (!announced.is_empty()).then_some(announced),
            trusted_peers_0conf: settings.payer.iter().map(|p| p.id).collect(),
            // No peer is exempt from the anchor reserve: a miner without on-chain funds is then given a channel whose
            // forced close needs none (static_remotekey), and can claim even while the payer is away.
            anchor_channels_config: Some(AnchorChannelsConfig::default()),
            ..Config::default()
        };
        let mut builder = Builder::from_config(config);
        builder.set_entropy_seed_bytes(words.to_seed(""));
        // A market that waits for the chain wants to hear of blocks soon.
        let often = BackgroundSyncConfig {
            onchain_wallet_sync_interval_secs: 20,
            lightning_wallet_sync_interval_secs: 20,
            fee_rate_cache_update_interval_secs: 600,
        };
        match &settings.chain {
            ChainSource::Bitcoind { host, port, user, password } => {
                builder.set_chain_source_bitcoind_rpc(host.clone(), *port, user.clone(), password.clone())
            }
            ChainSource::Esplora(url) => {
                let sync = EsploraSyncConfig { background_sync_config: Some(often) };
                builder.set_chain_source_esplora(url.clone(), Some(sync))
            }
            ChainSource::Electrum(url) => {
                let sync = ElectrumSyncConfig { background_sync_config: Some(often) };
                builder.set_chain_source_electrum(url.clone(), Some(sync))
            }
        };
        if let Some(payer) = &settings.payer {
            // Makes every channel from the payer accept its whole value in flight; there is no other setting for it.
            builder.set_liquidity_source_lsps2(payer.id, socket(&payer.address)?, None);
        }
        builder.set_filesystem_logger(
            Some(data.join("node.log").to_string_lossy().into_owned()),
            Some(ldk_node::logger::LogLevel::Info),
        );
        let start = |reason: String, known: Option<&'static str>| {
            let doubt = doubt.as_ref().map(ToString::to_string).or_else(|| known.map(str::to_owned));
            let advice = doubt.unwrap_or_else(|| "See node.log in the data directory".to_owned());
            WalletError::Start { reason, advice }
        };
        let node = builder.build().map_err(|e| start(e.to_string(), read_failed(e)))?;
        unfinished::finish(&node)?;
        let status = node.status();
        let heard_before = status.latest_lightning_wallet_sync_timestamp;
        let moved = Mutex::new((status.current_best_block.height, Instant::now()));
        node.start().map_err(|e| start(e.to_string(), None))?;
        let key = hold::node_key(network, words)?;
        let receipts =
            SecretKey::from_entropy(key.secret_bytes()).map_err(|e| WalletError::Signing(e.to_string()))?;
        let (payer, bitcoind, source) = (settings.payer, Rpc::of(&settings.chain), settings.chain);
        Ok(Self {
            node: Arc::new(node),
            payer,
            key,
            receipts,
            bitcoind,
            source,
            heard_before,
            moved,
            network,
            _lock: lock,
        })
    }

    /// What keeps the bitcoind from answering, if something does.
    pub(super) async fn source_trouble(&self) -> Option<SourceError> {
        let rpc = self.bitcoind.as_ref()?;
        let asked = tokio::time::timeout(BITCOIND, rpc.height()).await.ok()?;
        asked.err().map(|e| SourceError::of(&self.source, &e))
    }

    /// Runs a call of the node's on a thread that may block.
    pub(super) fn on_node<T: Send + 'static, F>(
        &self,
        call: F,
    ) -> impl Future<Output = Result<T, WalletError>> + Send + use<T, F>
    where
        F: FnOnce(&Node) -> Result<T, WalletError> + Send + 'static,
    {
        let node = Arc::clone(&self.node);
        blocking(move || call(&node))
    }
}

async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, WalletError> + Send + 'static,
) -> Result<T, WalletError> {
    tokio::task::spawn_blocking(call).await.map_err(|e| WalletError::Task(e.to_string()))?
}

pub(super) fn refused(action: &'static str) -> impl Fn(NodeError) -> WalletError {
    move |e| WalletError::Node { action, reason: e.to_string() }
}

fn not_itself(node: &Node, peer: NodeId) -> Result<(), WalletError> {
    if node.node_id() == peer { Err(WalletError::Itself) } else { Ok(()) }
}

pub(super) fn describe(text: &str) -> Result<Bolt11InvoiceDescription, WalletError> {
    let description = Description::new(text.to_owned())
        .map_err(|e| WalletError::Node { action: "make an invoice", reason: e.to_string() })?;
    Ok(Bolt11InvoiceDescription::Direct(description))
}

fn invoice_of(made: ldk_node::lightning_invoice::Bolt11Invoice) -> Result<Invoice, WalletError> {
    Invoice::from_bolt11(made)
        .map_err(|e| WalletError::Node { action: "make an invoice", reason: e.to_string() })
}

fn is_on_chain(payment: &PaymentDetails) -> bool {
    matches!(payment.kind, PaymentKind::Onchain { .. })
}

fn seconds(expiry: Duration) -> u32 {
    u32::try_from(expiry.as_secs()).unwrap_or(u32::MAX)
}

impl Wallet for LdkWallet {
    fn node_id(&self) -> NodeId {
        self.node.node_id()
    }

    fn network(&self) -> Network {
        self.network
    }

    fn limits(&self) -> Limits {
        LIMITS
    }

    fn sign_receipt(&self, receipt: &Receipt) -> Result<Envelope, WalletError> {
        Envelope::sign(receipt, &self.receipts).map_err(|e| WalletError::Signing(e.to_string()))
    }

    async fn hold_invoice(&self, request: HoldRequest) -> Result<Invoice, WalletError> {
        let (network, key) = (self.network, self.key);
        self.on_node(move |node| {
            let HoldRequest { hash, amount, description, expiry, final_cltv } = request;
            if amount == Msat::ZERO {
                return Err(WalletError::Amount(amount));
            }
            let made = node
                .bolt11_payment()
                .receive_for_hash(
                    amount.msat(),
                    &describe(&description)?,
                    seconds(expiry),
                    ldk_payment::PaymentHash(hash.to_bytes()),
                )
                .map_err(refused("make a hold invoice"))?;
            hold::with_final_cltv(&made, network, final_cltv, &key)
        })
        .await
    }

    async fn invoice(
        &self,
        amount: Msat,
        description: String,
        expiry: Duration,
    ) -> Result<Invoice, WalletError> {
        self.on_node(move |node| {
            if amount == Msat::ZERO {
                return Err(WalletError::Amount(amount));
            }
            let made = node
                .bolt11_payment()
                .receive(amount.msat(), &describe(&description)?, seconds(expiry))
                .map_err(refused("make an invoice"))?;
            invoice_of(made)
        })
        .await
    }

    async fn pay(&self, invoice: &Invoice, limits: PayLimits) -> Result<(), WalletError> {
        let invoice = invoice.clone();
        self.on_node(move |node| {
            let limits = RouteParametersConfig {
                max_total_routing_fee_msat: Some(limits.max_fee.msat()),
                max_total_cltv_expiry_delta: limits.max_cltv,
                ..RouteParametersConfig::default()
            };
            match node.bolt11_payment().send(invoice.bolt11(), Some(limits)) {
                Ok(_) => Ok(()),
                Err(NodeError::DuplicatePayment) => Err(WalletError::AlreadyPaying),
                Err(NodeError::PaymentSendingFailed) => Err(WalletError::NotSent(
                    "no usable channel has the funds and a free HTLC slot, or the peer is not connected",
                )),
                Err(NodeError::InvalidInvoice) => {
                    Err(WalletError::NotSent("the node does not take this invoice"))
                }
                Err(NodeError::NotRunning) => Err(WalletError::NotSent("the node is stopped")),
                // Most of all: the node could not write down what it had sent.
                Err(e) => Err(refused("pay")(e)),
            }
        })
        .await
    }

    async fn pay_offer(
        &self,
        offer: &Offer,
        amount: Msat,
        note: String,
        limits: PayLimits,
    ) -> Result<(), WalletError> {
        let offer = offer.clone();
        self.on_node(move |node| offers::pay(node, &offer, amount, note, limits)).await
    }

    async fn offer_payment(&self, note: String) -> Result<Option<OfferPayment>, WalletError> {
        self.on_node(move |node| Ok(offers::find(node, &note))).await
    }

    async fn claim(&self, hash: PaymentHash, amount: Msat, preimage: Preimage) -> Result<(), WalletError> {
        self.on_node(move |node| {
            let (hash, preimage) = (
                ldk_payment::PaymentHash(hash.to_bytes()),
                ldk_payment::PaymentPreimage(preimage.to_bytes()),
            );
            node.bolt11_payment().claim_for_hash(hash, amount.msat(), preimage).map_err(refused("claim"))
        })
        .await
    }

    async fn fail(&self, hash: PaymentHash) -> Result<(), WalletError> {
        self.on_node(move |node| {
            let hash = ldk_payment::PaymentHash(hash.to_bytes());
            node.bolt11_payment().fail_for_hash(hash).map_err(refused("fail a payment back"))
        })
        .await
    }

    async fn outgoing(&self, hash: PaymentHash) -> Result<Option<Outgoing>, WalletError> {
        self.on_node(move |node| {
            let Some(found) = payment(node, hash, PaymentDirection::Outbound) else { return Ok(None) };
            Ok(Some(match (found.status, preimage_of(&found)) {
                (PaymentStatus::Succeeded, Some(preimage)) => {
                    Outgoing::Succeeded { preimage, fee: Msat::new(found.fee_paid_msat.unwrap_or(0)) }
                }
                (PaymentStatus::Failed, _) => Outgoing::Failed,
                // Without the preimage the event that brings it is still to come.
                _ => Outgoing::Pending,
            }))
        })
        .await
    }

    async fn forget(&self, hashes: Vec<PaymentHash>) -> Result<Vec<PaymentHash>, WalletError> {
        self.on_node(move |node| {
            let in_flight: BTreeSet<_> =
                node.list_balances().lightning_balances.iter().filter_map(htlc).collect();
            let free: Vec<_> = hashes.into_iter().filter(|hash| !in_flight.contains(hash)).collect();
            for hash in &free {
                node.remove_payment(&PaymentId(hash.to_bytes())).map_err(refused("forget a payment"))?;
            }
            Ok(free)
        })
        .await
    }

    async fn incoming(&self, hash: PaymentHash) -> Result<Option<Incoming>, WalletError> {
        self.on_node(move |node| {
            Ok(payment(node, hash, PaymentDirection::Inbound).map(|found| match found.status {
                PaymentStatus::Pending => Incoming::Pending,
                PaymentStatus::Succeeded => Incoming::Succeeded,
                PaymentStatus::Failed => Incoming::Failed,
            }))
        })
        .await
    }

    async fn lightning_payments(&self) -> Result<Vec<LightningPayment>, WalletError> {
        self.on_node(|node| {
            let found = node.list_payments_with_filter(|p| !is_on_chain(p));
            Ok(found.iter().filter_map(lightning_payment).collect())
        })
        .await
    }

    async fn in_flight(&self) -> Result<Msat, WalletError> {
        self.on_node(|node| {
            let pending = node.list_payments_with_filter(|p| {
                !is_on_chain(p)
                    && p.direction == PaymentDirection::Outbound
                    && p.status == PaymentStatus::Pending
            });
            let amounts = pending.iter().map(|p| p.amount_msat.unwrap_or(0));
            Ok(Msat::new(amounts.fold(0, u64::saturating_add)))
        })
        .await
    }

    async fn chain_payments(&self, known: Known) -> Result<Vec<ChainPayment>, WalletError> {
        self.on_node(move |node| {
            let found = node.list_payments_with_filter(|p| match &p.kind {
                PaymentKind::Onchain { txid, .. } => !known(&txid.to_string()),
                _ => false,
            });
            Ok(found.iter().filter_map(chain_payment).collect())
        })
        .await
    }

    async fn tip(&self) -> Result<u32, WalletError> {
        self.on_node(|node| Ok(node.status().current_best_block.height)).await
    }

    async fn chain(&self) -> Result<ChainView, WalletError> {
        let source = match &self.bitcoind {
            // One that does not answer is found silent by when the node last heard of it.
            Some(rpc) => tokio::time::timeout(BITCOIND, rpc.height()).await.ok().and_then(Result::ok),
            None => None,
        };
        let (tip, heard) = self
            .on_node(|node| {
                let status = node.status();
                Ok((status.current_best_block.height, status.latest_lightning_wallet_sync_timestamp))
            })
            .await?;
        Ok(ChainView { tip, source, heard })
    }

    async fn balances(&self) -> Result<Balances, WalletError> {
        self.on_node(|node| {
            let found = node.list_balances();
            let open: BTreeSet<_> = node.list_channels().iter().map(|c| c.channel_id.to_string()).collect();
            let closing = found.lightning_balances.iter().filter_map(|b| closing_balance(b, &open));
            let sweeping = found.pending_balances_from_channel_closures.iter().map(sweep);
            Ok(Balances {
                on_chain_sats: found.total_onchain_balance_sats,
                on_chain_spendable_sats: found.spendable_onchain_balance_sats,
                anchor_reserve_sats: found.total_anchor_channels_reserve_sats,
                closing: closing.chain(sweeping).collect(),
            })
        })
        .await
    }

    async fn channels(&self) -> Result<Vec<Channel>, WalletError> {
        self.on_node(|node| {
            let on_close = node.list_balances().lightning_balances;
            Ok(node.list_channels().iter().map(|c| channel(c, &on_close)).collect())
        })
        .await
    }

    async fn is_connected(&self, peer: NodeId) -> Result<bool, WalletError> {
        self.on_node(move |node| Ok(node.list_peers().iter().any(|p| p.node_id == peer && p.is_connected)))
            .await
    }

    async fn connect(&self, peer: NodeAddress) -> Result<(), WalletError> {
        self.on_node(move |node| {
            not_itself(node, peer.id)?;
            let address = socket(&peer.address)?;
            node.connect(peer.id, address, true).map_err(|_| WalletError::Connection(peer.to_string()))
        })
        .await
    }

    async fn reconnect(&self) -> Result<(), WalletError> {
        let payer = self.payer.clone();
        self.on_node(move |node| {
            let known = node.list_peers();
            let away = known.iter().filter(|p| p.is_persisted && !p.is_connected);
            let mut away: Vec<_> = away.map(|p| (p.node_id, p.address.clone())).collect();
            if let Some(payer) = payer
                && !known.iter().any(|p| p.node_id == payer.id)
            {
                away.push((payer.id, socket(&payer.address)?));
            }
            for (id, address) in away {
                // Whoever is not there is tried again the next time.
                let _ = node.connect(id, address, true);
            }
            Ok(())
        })
        .await
    }

    async fn open_channel(&self, open: OpenChannel) -> Result<ChannelName, WalletError> {
        self.on_node(move |node| {
            let OpenChannel { peer, sats, public } = open;
            not_itself(node, peer.id)?;
            let config = ChannelConfig {
                max_dust_htlc_exposure: MaxDustHTLCExposure::FixedLimit {
                    limit_msat: LIMITS.max_dust.msat(),
                },
                ..ChannelConfig::default()
            };
            let address = socket(&peer.address)?;
            let opened = if public {
                node.open_announced_channel(peer.id, address, sats, None, Some(config))
            } else {
                node.open_channel(peer.id, address, sats, None, Some(config))
            };
            match opened {
                Ok(name) => Ok(name.0.to_string()),
                Err(NodeError::ConnectionFailed) => Err(WalletError::Connection(peer.to_string())),
                Err(NodeError::InsufficientFunds) => {
                    let spendable = node.list_balances().spendable_onchain_balance_sats;
                    Err(WalletError::Funds { sats, spendable })
                }
                Err(e) => Err(refused("open a channel")(e)),
            }
        })
        .await
    }

    async fn close_channel(&self, channel: &Channel, force: bool) -> Result<(), WalletError> {
        let (name, peer) = (channel.name.clone(), channel.peer);
        if !force && !self.is_connected(peer).await? {
            return Err(WalletError::PeerAway(peer));
        }
        self.on_node(move |node| {
            let id = name
                .parse()
                .map(ldk_node::UserChannelId)
                .map_err(|_| WalletError::NoChannel(name.clone()))?;
            let closed =
                if force { node.force_close_channel(&id, peer, None) } else { node.close_channel(&id, peer) };
            closed.map_err(refused("close the channel"))
        })
        .await
    }

    async fn address(&self) -> Result<String, WalletError> {
        self.on_node(|node| {
            Ok(node.onchain_payment().new_address().map_err(refused("make an address"))?.to_string())
        })
        .await
    }

    async fn withdraw(&self, address: String, what: Withdraw) -> Result<String, WalletError> {
        let network = self.network;
        self.on_node(move |node| {
            let bad = || WalletError::ChainAddress { address: address.clone(), network: network.to_string() };
            let to = Address::from_str(&address)
                .map_err(|_| bad())?
                .require_network(network)
                .map_err(|_| bad())?;
            let sent = match what {
                Withdraw::Sats(sats) => node.onchain_payment().send_to_address(&to, sats, None),
                Withdraw::All => node.onchain_payment().send_all_to_address(&to, true, None),
            };
            Ok(sent.map_err(refused("withdraw"))?.to_string())
        })
        .await
    }

    async fn next_event(&self) -> Event {
        let found = event(self.node.next_event_async().await);
        if let Event::ChannelReady { channel, peer } = &found
            && peer.is_some()
            && *peer == self.payer.as_ref().map(|p| p.id)
        {
            let channel = channel.clone();
            // A channel that keeps LDK's default takes fewer small lots and says so when they are sent.
            let _ = self.on_node(move |node| allow_dust(node, &channel)).await;
        }
        found
    }

    async fn event_handled(&self) -> Result<(), WalletError> {
        self.on_node(|node| node.event_handled().map_err(refused("acknowledge an event"))).await
    }

    async fn sync(&self) -> Result<(), WalletError> {
        self.first_look().await?;
        self.on_node(|node| node.sync_wallets().map_err(refused("read the chain"))).await
    }

    async fn stop(&self) -> Result<(), WalletError> {
        self.on_node(|node| {
            finish_claims(node);
            match node.stop() {
                Ok(()) | Err(NodeError::NotRunning) => Ok(()),
                Err(e) => Err(refused("stop")(e)),
            }
        })
        .await
    }
}

/// Both sides of a channel bound what may be lost to fees by a forced close; whoever opens one sets its own bound, and this
/// sets ours for channels from the payer, so that the small tiers of an escrow fit.
fn allow_dust(node: &Node, name: &str) -> Result<(), WalletError> {
    let open = node.list_channels();
    let Some(channel) = open.iter().find(|c| c.user_channel_id.0.to_string() == name) else { return Ok(()) };
    let limit_msat = LIMITS.max_dust.msat();
    let config = ChannelConfig {
        max_dust_htlc_exposure: MaxDustHTLCExposure::FixedLimit { limit_msat },
        ..channel.config
    };
    node.update_channel_config(&channel.user_channel_id, channel.counterparty_node_id, config)
        .map_err(refused("configure the channel"))
}

/// Waits a moment for claims that the peer has not yet signed off: if we stayed away longer than the HTLC lasts, such a
/// channel would go to the chain.
fn finish_claims(node: &Node) {
    let end = Instant::now() + CLAIMS;
    let unfinished = |node: &Node| {
        let on_close = node.list_balances().lightning_balances;
        node.list_channels().iter().map(|c| channel(c, &on_close)).any(|c| c.usable && c.is_claiming())
    };
    while unfinished(node) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
}
