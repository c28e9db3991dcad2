//! Addresses of a node: where it listens, and where others are told that it is. Both are read by one function, so that what
//! `init` takes is what every start can use.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};

use ldk_node::lightning::ln::msgs::SocketAddress;
use thiserror::Error;

use super::WalletError;

/// What is wrong with an address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ListenTrouble {
    /// It begins like a URL.
    #[error("leave out the part up to `//`; an address has the form HOST:PORT")]
    Scheme,
    /// No port.
    #[error("it has no port; an address has the form HOST:PORT, such as 127.0.0.1:9735")]
    NoPort,
    /// No host.
    #[error(
        "it has no host; an address has the form HOST:PORT, with 127.0.0.1 for this machine only and 0.0.0.0 for all of its \
         addresses"
    )]
    NoHost,
    /// Not a port.
    #[error("{0:?} is no port, which is a number from 1 to 65535")]
    Port(String),
    /// Not a host.
    #[error("{0:?} is no host: it is a name, an IPv4 address, or an IPv6 address in brackets")]
    Host(String),
    /// A name that leads nowhere.
    #[error("its name is not known: {0}")]
    Unknown(String),
    /// Others listen there.
    #[error("another program listens there already: stop that one, or choose another port")]
    InUse,
    /// Not of this machine.
    #[error(
        "this machine has no such address. Behind a router it has one of its own: --listen 0.0.0.0:PORT listens on that, and \
         --announce HOST:PORT tells others where the router forwards to it"
    )]
    NotHere,
    /// A low port.
    #[error("this user may not listen on that port: choose one above 1023")]
    NotAllowed,
    /// No address that could be told to others.
    #[error(
        "that is every address of this machine, which nobody can call: say where others reach it with --announce HOST:PORT"
    )]
    Everywhere,
    /// Anything else.
    #[error("it cannot be listened on: {0}")]
    Other(String),
}

impl ListenTrouble {
    /// What an error in binding a socket means.
    pub fn of(e: &io::Error) -> Self {
        match e.kind() {
            io::ErrorKind::AddrInUse => Self::InUse,
            io::ErrorKind::AddrNotAvailable => Self::NotHere,
            io::ErrorKind::PermissionDenied => Self::NotAllowed,
            _ => Self::Other(watershed_protocol::told(e)),
        }
    }
}

/// An address that cannot be used, with what is wrong with it, for any program that listens.
pub fn cannot_listen(address: &SocketAddr, e: &io::Error) -> WalletError {
    WalletError::Listen { address: address.to_string(), why: ListenTrouble::of(e) }
}

/// Host and port of an address, by its form alone.
fn parts(text: &str) -> Result<(&str, u16), ListenTrouble> {
    if text.contains("//") {
        return Err(ListenTrouble::Scheme);
    }
    // An IPv6 address has colons of its own.
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => return Err(ListenTrouble::NoPort),
    };
    if host.is_empty() {
        return Err(ListenTrouble::NoHost);
    }
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let fine = match bare {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')),
    };
    if !fine {
        return Err(ListenTrouble::Host(host.to_owned()));
    }
    match port.parse::<u16>() {
        Ok(number) if number > 0 && port.bytes().all(|b| b.is_ascii_digit()) => Ok((host, number)),
        _ if port.is_empty() => Err(ListenTrouble::NoPort),
        _ => Err(ListenTrouble::Port(port.to_owned())),
    }
}

/// Reads an address.
///
/// # Errors
/// [`WalletError::Listen`].
pub(super) fn address(text: &str) -> Result<SocketAddress, WalletError> {
    let wrong = |why| WalletError::Listen { address: text.chars().take(120).collect(), why };
    let (host, _) = parts(text).map_err(wrong)?;
    text.parse().map_err(|_| wrong(ListenTrouble::Host(host.to_owned())))
}

/// Whether a text has the form of an address.
///
/// # Errors
/// What is wrong with it.
pub fn check_address(text: &str) -> Result<(), ListenTrouble> {
    parts(text).map(drop)
}

/// Whether a node can listen on all of `listen` and be called at one of them or of `announce`. Every address is tried.
///
/// # Errors
/// [`WalletError::Listen`]: the first that cannot be used.
pub(super) fn check(listen: &[String], announce: &[String]) -> Result<(), WalletError> {
    for text in announce {
        address(text)?;
    }
    for text in listen {
        let wrong = |why| WalletError::Listen { address: text.clone(), why };
        address(text)?;
        let (host, port) = parts(text).map_err(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let found: Vec<SocketAddr> = (host, port)
            .to_socket_addrs()
            .map_err(|e| wrong(ListenTrouble::Unknown(e.to_string())))?
            .collect();
        if found.is_empty() {
            return Err(wrong(ListenTrouble::Unknown("it has no address".to_owned())));
        }
        for at in found {
            if at.ip().is_unspecified() && announce.is_empty() {
                return Err(wrong(ListenTrouble::Everywhere));
            }
            TcpListener::bind(at).map_err(|e| wrong(ListenTrouble::of(&e)))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(listen: &str, announce: &[&str]) -> Option<ListenTrouble> {
        let announce: Vec<_> = announce.iter().map(|a| (*a).to_owned()).collect();
        match check(&[listen.to_owned()], &announce) {
            Ok(()) => None,
            Err(WalletError::Listen { why, .. }) => Some(why),
            Err(e) => unreachable!("{e}"),
        }
    }

    #[test]
    fn what_cannot_be_listened_on_is_told_by_its_own_name() {
        for (text, why) in [
            ("localhost", ListenTrouble::NoPort),
            ("::1", ListenTrouble::Host(":".into())),
            ("[::1]", ListenTrouble::NoPort),
            ("127.0.0.1:", ListenTrouble::NoPort),
            (":9812", ListenTrouble::NoHost),
            ("http://127.0.0.1:9735", ListenTrouble::Scheme),
            ("127.0.0.1:99999", ListenTrouble::Port("99999".into())),
            ("127.0.0.1:0", ListenTrouble::Port("0".into())),
            ("127.0.0.1:+80", ListenTrouble::Port("+80".into())),
            ("127.0.0.1:x", ListenTrouble::Port("x".into())),
            ("a b:1", ListenTrouble::Host("a b".into())),
            ("u@h:1", ListenTrouble::Host("u@h".into())),
            // Of a network that is kept for documentation (RFC 5737): no machine has it.
            ("192.0.2.7:9735", ListenTrouble::NotHere),
            ("0.0.0.0:9735", ListenTrouble::Everywhere),
            ("[::]:9735", ListenTrouble::Everywhere),
        ] {
            assert_eq!(trouble(text, &[]), Some(why), "{text}");
        }
        assert!(matches!(trouble("no-such-host.invalid:9735", &[]), Some(ListenTrouble::Unknown(_))));
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = taken.local_addr().unwrap().to_string();
        assert_eq!(trouble(&at, &[]), Some(ListenTrouble::InUse));
        drop(taken);
        let port = at.rsplit_once(':').unwrap().1;
        assert_eq!(trouble(&at, &[]), None);
        assert_eq!(trouble(&format!("localhost:{port}"), &[]), None);
        // Bound here and announced there, as behind a router.
        assert_eq!(trouble(&format!("0.0.0.0:{port}"), &["192.0.2.7:9735"]), None);
        assert_eq!(trouble(&format!("0.0.0.0:{port}"), &["192.0.2.7"]), Some(ListenTrouble::NoPort));
    }
}
