//! Why a server was not reached, down to the last cause: what a library says first is often only that it failed.

use std::error::Error as _;

use watershed_protocol::{causes, told};

/// Environment variables that name a proxy, by the scheme of what is asked; both cases count.
const PROXIES: [(&str, [&str; 2]); 2] =
    [("https://", ["HTTPS_PROXY", "ALL_PROXY"]), ("http://", ["HTTP_PROXY", "ALL_PROXY"])];

/// The variable that names a proxy for this URL, and the proxy without a password.
fn proxy(url: &str, env: impl Fn(&str) -> Option<String>) -> Option<(String, String)> {
    let names = PROXIES.iter().find(|(scheme, _)| url.starts_with(scheme)).map(|(_, names)| names)?;
    let both = names.iter().flat_map(|name| [(*name).to_owned(), name.to_lowercase()]);
    let (name, value) = both
        .filter_map(|name| Some((env(&name)?, name)))
        .find(|(value, _)| !value.is_empty())
        .map(|(value, name)| (name, value))?;
    let place = value.rsplit_once('@').map_or(value.as_str(), |(_, place)| place);
    Some((name, place.chars().take(120).collect()))
}

/// What kept `url` from answering.
pub(super) fn why(url: &str, e: &reqwest::Error) -> String {
    // The first line repeats the address.
    let text = match e.source() {
        Some(cause) => told(cause),
        None => causes(e),
    };
    let env = |name: &str| std::env::var(name).ok();
    match proxy(url, env).filter(|_| e.is_connect()) {
        Some((name, place)) => format!(
            "{text}. It is asked through the proxy {place} that {name} names: see that this one runs, or name the host in NO_PROXY"
        ),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::client::{Client, ClientError};

    #[test]
    fn a_proxy_is_named_by_its_variable_and_without_its_password() {
        let env = |set: &'static str| {
            move |name: &str| (name == set).then(|| "http://u:secret@proxy:3128".to_owned())
        };
        for (url, set) in [
            ("http://a", "HTTP_PROXY"),
            ("http://a", "http_proxy"),
            ("https://a", "https_proxy"),
            ("https://a", "ALL_PROXY"),
        ] {
            let (name, place) = proxy(url, env(set)).unwrap();
            assert_eq!((name.as_str(), place.as_str()), (set, "proxy:3128"), "{url}");
        }
        assert_eq!(proxy("https://a", env("HTTP_PROXY")), None);
        assert_eq!(proxy("http://a", |_| Some(String::new())), None);
    }

    async fn said(url: &str) -> String {
        match Client::new(url) {
            Ok(client) => client.info().await.map(|_| ()).unwrap_err().to_string(),
            Err(e) => e.to_string(),
        }
    }

    #[tokio::test]
    async fn the_cause_stands_in_what_is_said() {
        for no_address in ["127.0.0.1:7700", "mempool.space", "ftp://h", "http://", ""] {
            let refused = Client::new(no_address).unwrap_err();
            assert!(matches!(refused, ClientError::Address(_)), "{no_address}: {refused}");
            assert!(refused.to_string().contains("http://HOST:PORT"), "{refused}");
        }
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let plain = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.unwrap();
                let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
                let _ = client.shutdown(std::net::Shutdown::Write);
                let _ = std::io::copy(&mut client, &mut std::io::sink());
            }
        });
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        for (url, cause) in [
            (format!("http://127.0.0.1:{free}"), "nothing listens there"),
            ("http://no-such-host.invalid".to_owned(), "there is no such name"),
            (format!("https://127.0.0.1:{plain}"), "try http://"),
        ] {
            let said = said(&url).await;
            assert!(said.contains(cause), "{url}: {said}");
            assert_eq!(said.matches(&url).count(), 1, "{said}");
        }
    }
}
