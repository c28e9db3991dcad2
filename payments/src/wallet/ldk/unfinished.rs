//! What LDK had not finished when the node was last stopped or killed.

use ldk_node::Node;
use ldk_node::lightning::ln::channelmanager::PaymentId;
use ldk_node::lightning_types::payment::PaymentHash as LdkHash;

use super::node::{describe, refused};
use crate::wallet::WalletError;

/// Of this nobody knows a preimage.
const NOTHING: [u8; 32] = [0; 32];

/// Has the channel monitor updates applied that LDK queued while it read its state; to be called before [`Node::start`].
///
/// They are applied by whichever call comes first, and a call that comes meanwhile on another thread does not wait for them
/// (`ChannelManager::process_background_events` of lightning 0.2.7). After a kill that closed a channel by force, claiming its
/// lots beside the start of the node gave "Attempted to apply ChannelMonitorUpdates out of order", a panic that leaves the process
/// without a node. So the first call is made here, while there is one thread: a payment that nobody can send is given back.
pub(super) fn finish(node: &Node) -> Result<(), WalletError> {
    let refused = refused("finish what was begun");
    let (id, hash) = (PaymentId(NOTHING), LdkHash(NOTHING));
    let payments = node.bolt11_payment();
    payments.receive_for_hash(1, &describe("nothing")?, 1, hash).map_err(&refused)?;
    payments.fail_for_hash(hash).map_err(&refused)?;
    node.remove_payment(&id).map_err(&refused)
}
