//! Whether a node follows the chain: one that does not misses payments that expire, and channels closed behind its back.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What a node has seen of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainView {
    /// The height that the node has seen.
    pub tip: u32,
    /// The height that its bitcoind has; none if that does not answer. None for other sources too: those are asked anew
    /// where each transaction is, and so cannot be ahead of the node for long.
    pub source: Option<u32>,
    /// When the source last answered, in seconds since 1970.
    pub heard: Option<u64>,
}

/// How long a node may go without news.
const PATIENCE: Duration = Duration::from_secs(180);

const ANSWER: &str =
    "see that the bitcoind, Esplora or Electrum server of wallet.toml runs and can be reached";

const FOLLOW: &str = "if that bitcoind is still catching up, wait; if it was set up anew, or has another chain, name the \
                      right one, or an Esplora or Electrum server, as `chain` in wallet.toml and start again";

/// Why the node does not see the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ChainTrouble {
    /// The source does not answer.
    #[error(
        "the chain source has not answered for {seconds} s, and whatever happens on the chain is not seen meanwhile"
    )]
    Silent {
        /// For how long.
        seconds: u64,
    },
    /// The source has another chain, or none of the blocks that the node knows.
    #[error(
        "the wallet is at block {tip} and does not follow its bitcoind, which is at block {bitcoind}: whatever happens on \
         the chain is not seen"
    )]
    Lost {
        /// Where the node is.
        tip: u32,
        /// Where its bitcoind is.
        bitcoind: u32,
    },
}

impl ChainTrouble {
    /// What to do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Silent { .. } => ANSWER,
            Self::Lost { .. } => FOLLOW,
        }
    }

    /// Both in one line.
    pub fn with_advice(self) -> String {
        format!("{self}; {}", self.advice())
    }
}

/// Watches one node.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChainWatch {
    looked: Option<Looked>,
    trouble: Option<ChainTrouble>,
}

#[derive(Clone, Copy, Debug)]
struct Looked {
    first: Duration,
    last: Duration,
    tip: u32,
    // When the node last moved or was where its source is.
    followed: Duration,
}

impl ChainWatch {
    /// What is wrong, as of the last look.
    pub fn trouble(&self) -> Option<ChainTrouble> {
        self.trouble
    }

    /// Looks at a node at `now`, in time since 1970. Says whether trouble began, ended, or changed its kind.
    pub fn look(&mut self, view: ChainView, now: Duration) -> bool {
        // A machine that slept begins anew: the node had no chance to hear anything.
        let before = self.looked.filter(|looked| now.saturating_sub(looked.last) < PATIENCE);
        let first = before.map_or(now, |looked| looked.first);
        let still =
            before.filter(|looked| view.source.is_some_and(|s| s != view.tip) && looked.tip == view.tip);
        let followed = still.map_or(now, |looked| looked.followed);
        self.looked = Some(Looked { first, last: now, tip: view.tip, followed });
        // A node remembers when it heard of the source before it was started.
        let heard = view.heard.map(Duration::from_secs).map_or(first, |heard| heard.max(first));
        let silent = now.saturating_sub(heard);
        let lost = now.saturating_sub(followed) >= PATIENCE;
        let trouble = match view.source {
            _ if silent >= PATIENCE => Some(ChainTrouble::Silent { seconds: silent.as_secs() }),
            Some(bitcoind) if lost => Some(ChainTrouble::Lost { tip: view.tip, bitcoind }),
            _ => None,
        };
        let kind = |t: &Option<ChainTrouble>| t.as_ref().map(std::mem::discriminant);
        let changed = kind(&trouble) != kind(&self.trouble);
        self.trouble = trouble;
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_800_000_000;

    /// Looks every ten seconds, as a wallet does; when trouble began or ended, and what it was then.
    fn looks(
        watch: &mut ChainWatch,
        seconds: std::ops::Range<u64>,
        view: impl Fn(u64) -> ChainView,
    ) -> Vec<(u64, Option<ChainTrouble>)> {
        let at = |second: u64| Duration::from_secs(START + second);
        let mut changes = Vec::new();
        for second in seconds.step_by(10) {
            if watch.look(view(second), at(second)) {
                changes.push((second, watch.trouble()));
            }
        }
        changes
    }

    fn view(tip: u64, source: u64, heard: u64) -> ChainView {
        ChainView { tip: tip as u32, source: Some(source as u32), heard: Some(START + heard) }
    }

    #[test]
    fn a_node_that_catches_up_or_waits_for_a_block_is_well() {
        let mut watch = ChainWatch::default();
        // A block in every minute, of many that are there already.
        assert_eq!(looks(&mut watch, 0..6000, |s| view(s / 60, 100, s)), []);
        // No block for a day, then a hundred that the node takes a moment later.
        assert_eq!(looks(&mut watch, 6000..86_400, |s| view(100, 100, s)), []);
        assert_eq!(looks(&mut watch, 86_400..86_500, |s| view(100, 200, s)), []);
        assert_eq!(looks(&mut watch, 86_500..90_000, |s| view(200, 200, s)), []);
        // Both slept for a night; when they wake there is news of which the node has not heard.
        assert_eq!(looks(&mut watch, 120_000..120_010, |_| view(200, 260, 90_000)), []);
        assert_eq!(looks(&mut watch, 120_010..121_000, |s| view(260, 260, s)), []);
    }

    #[test]
    fn a_node_that_stays_where_it_is_while_its_bitcoind_goes_on_is_lost() {
        let mut watch = ChainWatch::default();
        assert_eq!(looks(&mut watch, 0..600, |s| view(300, 300, s)), []);
        // bitcoind begins from nothing, and comes past the node.
        let lost = ChainTrouble::Lost { tip: 300, bitcoind: 175 };
        assert_eq!(looks(&mut watch, 600..1200, |s| view(300, s - 595, s)), [(770, Some(lost))]);
        assert_eq!(watch.trouble(), Some(ChainTrouble::Lost { tip: 300, bitcoind: 595 }), "as of now");
        assert_eq!(looks(&mut watch, 1200..1300, |s| view(600, 600, s)), [(1200, None)]);
        // One that has another chain from the start.
        let mut watch = ChainWatch::default();
        let lost = ChainTrouble::Lost { tip: 0, bitcoind: 7 };
        assert_eq!(looks(&mut watch, 0..600, |s| view(0, 7, s)), [(180, Some(lost))]);
    }

    #[test]
    fn a_source_is_silent_since_it_was_last_heard_or_the_node_started() {
        let silent = |seconds| Some(ChainTrouble::Silent { seconds });
        let unheard = |heard| move |_| ChainView { tip: 7, source: None, heard };
        // It answered a day ago, before this start; it answers again; it is gone.
        let mut watch = ChainWatch::default();
        assert_eq!(looks(&mut watch, 0..300, unheard(Some(START - 86_400))), [(180, silent(180))]);
        assert_eq!(
            looks(&mut watch, 300..600, |s| ChainView { source: None, ..view(7, 7, s) }),
            [(300, None)]
        );
        assert_eq!(looks(&mut watch, 600..900, unheard(Some(START + 595))), [(780, silent(185))]);
        // It never answered.
        let mut watch = ChainWatch::default();
        assert_eq!(looks(&mut watch, 0..300, unheard(None)), [(180, silent(180))]);
    }
}
