//! JSON-RPC of a bitcoind.

use base64::Engine as _;
use lightning_block_sync::http::{HttpEndpoint, JsonResponse};
use lightning_block_sync::rpc::{RpcClient, RpcError as Said};
use serde_json::Value;
use thiserror::Error;

use super::ChainSource;

/// What bitcoind answers to everything while it reads its chain (`RPC_IN_WARMUP`).
const WARMING_UP: i64 = -28;

/// What the library says of an answer without content, before it looks at the status: bitcoind refuses a wrong password, and
/// an address that it does not serve, without a word.
const EMPTY: &str = "invalid response length: 0 bytes";

/// Why a bitcoind did not do what it was asked.
#[derive(Debug, Error)]
pub enum RpcError {
    /// A wrong user or password, or an address that it does not serve.
    #[error("bitcoind refuses this user and password")]
    Login,
    /// It is not ready.
    #[error("bitcoind is still starting: {0}")]
    Starting(String),
    /// It cannot be talked to.
    #[error("bitcoind does not answer: {0}")]
    Unreachable(#[source] std::io::Error),
    /// It refused.
    #[error("bitcoind refused {method}: {reason}")]
    Refused {
        /// What was asked.
        method: String,
        /// In its words.
        reason: String,
    },
}

impl RpcError {
    fn of(method: &str, e: std::io::Error) -> Self {
        if let Some(said) = e.get_ref().and_then(|inner| inner.downcast_ref::<Said>()) {
            return match said.code {
                WARMING_UP => Self::Starting(said.message.clone()),
                _ => Self::Refused { method: method.to_owned(), reason: said.to_string() },
            };
        }
        // The library keeps its type for the status to itself.
        match e.to_string() {
            text if text.starts_with("status_code: 401") || text == EMPTY => Self::Login,
            text if text.starts_with("status_code: ") => {
                Self::Refused { method: method.to_owned(), reason: text }
            }
            _ => Self::Unreachable(e),
        }
    }
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
        answer.map(|json| json.0).map_err(|e| RpcError::of(method, e))
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
