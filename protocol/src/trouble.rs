//! What a person is told of an error: all of its causes, and what to do where the system stands in the way.
//!
//! A refusal of the system says nothing of what is in a file: a full disk, a file of another user and too many open files are
//! never told as damage. Every program prints its errors by [`told`].

use std::error::Error;
use std::io;

/// Why the system refused to read or write; none of them says anything of the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemTrouble {
    /// No space is left on the device.
    DiskFull,
    /// The user's share of the disk is used up.
    Quota,
    /// Another user's file, or a folder in which this user may not write.
    NotAllowed,
    /// A file system that is mounted for reading only.
    ReadOnly,
    /// The process, or the system, has as many files open as it may.
    TooManyFiles,
}

/// `ENFILE` and `EMFILE`, which have these numbers on Linux, macOS and the BSDs; the standard library has no kind for them.
const TOO_MANY: [i32; 2] = [23, 24];

/// What SQLite says instead of a number: the error of its binding has no source that would tell.
const SQLITE: [(&str, SystemTrouble); 2] = [
    ("database or disk is full", SystemTrouble::DiskFull),
    ("attempt to write a readonly database", SystemTrouble::NotAllowed),
];

/// Words of the network's errors, by any of the libraries in use, and what to do about each.
const NETWORK: [(&str, &str); 7] = [
    (
        "invalid peer certificate",
        "its certificate is not trusted here: see that the address and this machine's clock are right",
    ),
    ("InvalidContentType", "it does not speak TLS there: try http:// instead of https://"),
    ("invalid HTTP version", "it does not speak plain HTTP there: try https://"),
    (
        "failed to lookup address",
        "there is no such name: see that it is spelt right, and that this machine reaches a name server",
    ),
    ("Connection refused", "nothing listens there: see that host and port are right, and that it runs"),
    ("Network is unreachable", "this machine has no network that leads there"),
    ("No route to host", "this machine has no network that leads there"),
];

impl SystemTrouble {
    /// What an error of the system is, if it is one of these.
    pub fn of(e: &io::Error) -> Option<Self> {
        match e.kind() {
            io::ErrorKind::StorageFull => Some(Self::DiskFull),
            io::ErrorKind::QuotaExceeded => Some(Self::Quota),
            io::ErrorKind::PermissionDenied => Some(Self::NotAllowed),
            io::ErrorKind::ReadOnlyFilesystem => Some(Self::ReadOnly),
            _ if e.raw_os_error().is_some_and(|number| TOO_MANY.contains(&number)) => {
                Some(Self::TooManyFiles)
            }
            _ => None,
        }
    }

    /// The same for an error that has it somewhere among its causes.
    pub fn behind(e: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(e);
        while let Some(cause) = next {
            if let Some(io) = cause.downcast_ref::<io::Error>() {
                if let Some(found) = Self::of(io) {
                    return Some(found);
                }
                // What another library wrapped is no source of it.
                if let Some(found) = io.get_ref().and_then(|inner| Self::behind(inner)) {
                    return Some(found);
                }
            }
            next = cause.source();
        }
        Self::said(&causes(e))
    }

    /// The same for what an error said, where nothing else is left of it: the standard library ends its texts with the
    /// system's number.
    pub fn said(text: &str) -> Option<Self> {
        let number = |rest: &str| rest.split_once(')')?.0.parse().ok();
        let numbers = text.split("(os error ").skip(1).filter_map(number);
        let by_number = numbers.map(io::Error::from_raw_os_error).find_map(|e| Self::of(&e));
        by_number.or_else(|| SQLITE.iter().find(|(said, _)| text.contains(said)).map(|(_, trouble)| *trouble))
    }

    /// What it means and what to do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::DiskFull => {
                "the disk is full; nothing that was written before is lost. Make room, and go on"
            }
            Self::Quota => {
                "your share of the disk is used up; nothing that was written before is lost. Make room, and go on"
            }
            Self::NotAllowed => {
                "this user may not do that there; nothing is lost. See whose it is (ls -ld), or choose another folder"
            }
            Self::ReadOnly => {
                "this file system can only be read; nothing is lost. Choose a folder elsewhere, or have it mounted for writing"
            }
            Self::TooManyFiles => {
                "too many files are open; nothing is lost. Allow more (ulimit -n), or let fewer programs run, and go on"
            }
        }
    }
}

/// An error with all of its causes, `a: b: c`. What one says already is not said again.
pub fn causes(e: &(dyn Error + 'static)) -> String {
    let mut text = e.to_string();
    let mut next = e.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    text
}

/// As [`causes`], and behind it what to do, where the system or the network is in the way.
pub fn told(e: &(dyn Error + 'static)) -> String {
    let text = causes(e);
    let of_network = || NETWORK.iter().find(|(said, _)| text.contains(said)).map(|(_, advice)| *advice);
    let advice = SystemTrouble::behind(e).map(SystemTrouble::advice).or_else(of_network);
    match advice {
        Some(advice) if !text.contains(advice) => format!("{text}; {advice}"),
        _ => text,
    }
}

/// A text for somebody else than the owner of this machine: names of its files are left out.
pub fn without_paths(text: &str) -> String {
    let is_path = |word: &str| word.starts_with('/') && word.len() > 1 && !word.starts_with("//");
    let word = |word: &str| {
        let bare = word.trim_start_matches(['(', '"', '\'', '`', '[']);
        if !is_path(bare) {
            return word.to_owned();
        }
        let before = &word[..word.len() - bare.len()];
        let after = &bare[bare.trim_end_matches([':', ';', ',', '.', ')', '"', '\'', '`', ']']).len()..];
        format!("{before}a file{after}")
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use thiserror::Error;

    use super::*;

    #[derive(Debug, Error)]
    enum Wrapped {
        #[error("cannot read it: {0}")]
        Said(#[source] io::Error),
        #[error("no answer")]
        Silent(#[source] Box<Wrapped>),
        #[error("the store: {0}")]
        Text(String),
    }

    fn os(number: i32) -> io::Error {
        io::Error::from_raw_os_error(number)
    }

    #[test]
    fn causes_are_a_chain_in_which_nothing_is_said_twice() {
        let inner = Wrapped::Said(io::Error::other("gone"));
        assert_eq!(causes(&inner), "cannot read it: gone");
        let outer = Wrapped::Silent(Box::new(Wrapped::Silent(Box::new(inner))));
        assert_eq!(causes(&outer), "no answer: cannot read it: gone");
    }

    #[test]
    fn a_refusal_of_the_system_is_told_apart_and_says_that_nothing_is_lost() {
        use SystemTrouble::{DiskFull, NotAllowed, Quota, ReadOnly, TooManyFiles};
        let known = [
            (28, DiskFull),
            (122, Quota),
            (13, NotAllowed),
            (1, NotAllowed),
            (30, ReadOnly),
            (24, TooManyFiles),
        ];
        for (number, trouble) in known.into_iter().chain([(23, TooManyFiles)]) {
            assert_eq!(SystemTrouble::of(&os(number)), Some(trouble), "{number}");
            let deep = Wrapped::Silent(Box::new(Wrapped::Said(os(number))));
            assert!(
                told(&deep).contains(trouble.advice()) && told(&deep).contains("lost"),
                "{}",
                told(&deep)
            );
            // As some libraries wrap it.
            let hidden = io::Error::other(Wrapped::Said(os(number)));
            assert_eq!(SystemTrouble::behind(&hidden), Some(trouble), "{number}");
        }
        for (number, trouble) in known {
            assert_eq!(SystemTrouble::said(&format!("a: {} b", os(number))), Some(trouble), "{number}");
        }
        for text in ["", "(os error ", "(os error x)", "(os error 2)", "No space left"] {
            assert_eq!(SystemTrouble::said(text), None, "{text}");
        }
        for other in
            [io::Error::other("x"), io::ErrorKind::NotFound.into(), io::ErrorKind::InvalidData.into()]
        {
            assert_eq!(SystemTrouble::of(&other), None);
        }
        assert_eq!(told(&Wrapped::Said(io::Error::other("x"))), "cannot read it: x");
    }

    #[test]
    fn the_network_s_words_are_explained_once() {
        for (said, advice) in NETWORK {
            let text = told(&Wrapped::Silent(Box::new(Wrapped::Text(format!("({said})")))));
            assert!(text.starts_with("no answer: ") && text.ends_with(advice), "{text}");
            assert_eq!(told(&Wrapped::Text(text.clone())).matches(advice).count(), 1);
        }
    }

    #[test]
    fn names_of_files_are_for_the_owner_of_the_machine() {
        for (text, told) in [
            ("/home/ada/miner/runs/x: No space left", "a file: No space left"),
            ("the store (/var/lib/blobs/ab): x; \"/etc/x\", y", "the store (a file): x; \"a file\", y"),
            (
                "https://host/v1/runs answers 5 / 7, and/or // no",
                "https://host/v1/runs answers 5 / 7, and/or // no",
            ),
            ("", ""),
        ] {
            assert_eq!(without_paths(text), told);
        }
    }

    #[test]
    fn what_sqlite_says_is_understood() {
        let full = Wrapped::Text("database or disk is full".into());
        assert_eq!(SystemTrouble::behind(&full), Some(SystemTrouble::DiskFull));
        let damaged = Wrapped::Text("database disk image is malformed".into());
        assert_eq!(SystemTrouble::behind(&damaged), None);
    }
}
