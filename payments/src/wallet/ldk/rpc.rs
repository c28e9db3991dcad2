//! JSON-RPC of a bitcoind.

use base64::Engine as _;
use lightning_block_sync::http::{HttpEndpoint, JsonResponse};
use lightning_block_sync::rpc::RpcClient;
use serde_json::Value;
use thiserror::Error;

use super::ChainSource;

/// bitcoind refused a call, or does not answer.
#[derive(Debug, Error)]
#[error("bitcoind refused {method}: {reason}")]
pub struct RpcError {
    method: String,
    reason: String,
}

/// JSON-RPC of a bitcoind.
pub struct Rpc(RpcClient);

impl std::fmt::Debug for Rpc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rpc")
    }
}

impl Rpc {
    /// The RPC that a chain source names; none if it is no bitcoind.
    pub fn of(source: &ChainSource) -> Option<Self> {
        let ChainSource::Bitcoind { host, port, user, password } = source else { return None };
        let login = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        Some(Self(RpcClient::new(&login, HttpEndpoint::for_host(host.clone()).with_port(*port))))
    }

    /// Calls a method.
    ///
    /// # Errors
    /// [`RpcError`].
    pub async fn call(&self, method: &str, parameters: &[Value]) -> Result<Value, RpcError> {
        let answer = self.0.call_method::<Json>(method, parameters).await;
        answer.map(|json| json.0).map_err(|e| RpcError { method: method.to_owned(), reason: e.to_string() })
    }

    /// The height of the chain.
    ///
    /// # Errors
    /// [`RpcError`].
    pub async fn height(&self) -> Result<u32, RpcError> {
        let height = self.call("getblockcount", &[]).await?;
        Ok(height.as_u64().and_then(|h| u32::try_from(h).ok()).unwrap_or(0))
    }
}

/// The answer as it is.
struct Json(Value);

impl TryInto<Json> for JsonResponse {
    type Error = std::io::Error;
    fn try_into(self) -> std::io::Result<Json> {
        Ok(Json(self.0))
    }
}
