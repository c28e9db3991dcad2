//! Joining a run that takes a fee: an L402 challenge, and the credential that answers it.

use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use watershed_protocol::market::view::Signed;
use watershed_protocol::market::{Join, Message};
use watershed_protocol::{Envelope, RunId, SecretKey};

use super::{Client, ClientError, PATIENCE, to_text};

/// What is to be paid, and the token that is good once it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The macaroon.
    pub token: String,
    /// BOLT 11.
    pub invoice: String,
}

/// How joining went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Joined {
    /// The miner is in.
    Yes,
    /// It has to pay first.
    Pay(Challenge),
}

/// `name="value"` out of a challenge.
fn value<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = header.split_once(&format!("{name}=\""))?;
    rest.split_once('"').map(|(value, _)| value)
}

impl Challenge {
    fn read(header: &str) -> Option<Self> {
        let rest = header.strip_prefix("L402 ")?;
        Some(Self { token: value(rest, "macaroon")?.to_owned(), invoice: value(rest, "invoice")?.to_owned() })
    }
}

impl Client {
    /// Signs and sends a join message, with the token and the preimage that paid for it, if there are.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn join(
        &self,
        run: RunId,
        join: Join,
        key: &SecretKey,
        credential: Option<(&str, &str)>,
    ) -> Result<Joined, ClientError> {
        let url = format!("{}/v1/runs/{run}/messages", self.base);
        let envelope = to_text(&Envelope::sign(&Message::Join(join), key)?)?;
        let mut request = self.http.post(&url).json(&Signed { envelope }).timeout(PATIENCE);
        if let Some((token, preimage)) = credential {
            request = request.header(AUTHORIZATION, format!("L402 {token}:{preimage}"));
        }
        let sent = request.send().await;
        let answer = sent.map_err(|source| ClientError::Unreachable { url: url.clone(), source })?;
        let challenge = answer.headers().get(WWW_AUTHENTICATE).and_then(|h| h.to_str().ok());
        if answer.status() == StatusCode::PAYMENT_REQUIRED
            && let Some(challenge) = challenge.and_then(Challenge::read)
        {
            return Ok(Joined::Pay(challenge));
        }
        self.checked(&url, answer).await.map(|_| Joined::Yes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_read() {
        let header = r#"L402 macaroon="AgE=", invoice="lnbcrt1x", version="0", token="AgE=""#;
        let read = Challenge::read(header).unwrap();
        assert_eq!((read.token.as_str(), read.invoice.as_str()), ("AgE=", "lnbcrt1x"));
        for other in ["", "Basic realm=\"x\"", "L402 macaroon=\"AgE=\"", "L402 invoice=\"x", "L402"] {
            assert_eq!(Challenge::read(other), None, "{other}");
        }
    }
}
