//! The closed lists that texts are sorted by. Their order is part of every format: append, never reorder.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A name that is in none of a list's entries.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{found:?} is no {list}; there are {known}")]
pub struct UnknownName {
    /// What the list holds.
    pub list: &'static str,
    /// What was given.
    pub found: String,
    /// Every name there is.
    pub known: String,
}

macro_rules! names {
    ($(#[$doc:meta])* $name:ident, $list:literal { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $text)] $variant,)*
        }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }

            /// Its number, from 0.
            pub fn number(self) -> u8 {
                self as u8
            }

            /// The one with this number.
            pub fn from_number(number: u8) -> Option<Self> {
                Self::ALL.get(usize::from(number)).copied()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl std::str::FromStr for $name {
            type Err = UnknownName;
            fn from_str(text: &str) -> Result<Self, UnknownName> {
                Self::ALL.iter().find(|v| v.name() == text).copied().ok_or_else(|| UnknownName {
                    list: $list,
                    found: text.chars().take(40).collect(),
                    known: Self::ALL.iter().map(|v| v.name()).collect::<Vec<_>>().join(", "),
                })
            }
        }
    };
}

pub(super) use names;

names! {
    /// The kind of speech or writing that a text is. Mixtures are made of registers.
    Register, "register" {
        /// Stories.
        Narrative = "narrative",
        /// People talking with each other.
        Conversational = "conversational",
        /// Explanations of how things work or are made.
        Technical = "technical",
        /// Scripture, prayer, liturgy.
        Sacred = "sacred",
        /// Speech to an audience, and what is handed down by telling.
        Oral = "oral",
        /// Teaching.
        Pedagogical = "pedagogical",
        /// Poems, songs, verse drama.
        Lyric = "lyric",
    }
}

names! {
    /// Whether a text is trained on or only measured with.
    Split, "split" {
        /// Trained on.
        Train = "train",
        /// Kept for evaluation.
        HeldOut = "held-out",
    }
}

names! {
    /// A code of the Corpus of Online Registers of English (Egbert, Biber and Davies 2015), in the short form that annotated
    /// corpora use: main categories in capitals, their subcategories in small letters.
    CoreCode, "CORE code" {
        /// Machine-translated or generated.
        MachineTranslated = "MT",
        /// Lyrical.
        Lyrical = "LY",
        /// Spoken.
        Spoken = "SP",
        /// Interview.
        Interview = "it",
        /// Interactive discussion.
        InteractiveDiscussion = "ID",
        /// Narrative.
        Narrative = "NA",
        /// News report.
        NewsReport = "ne",
        /// Sports report.
        SportsReport = "sr",
        /// Narrative blog.
        NarrativeBlog = "nb",
        /// How-to or instructions.
        HowTo = "HI",
        /// Recipe.
        Recipe = "re",
        /// Informational description.
        Informational = "IN",
        /// Encyclopedia article.
        Encyclopedia = "en",
        /// Research article.
        Research = "ra",
        /// Description of a thing or person.
        Description = "dtp",
        /// Frequently asked questions.
        Faq = "fi",
        /// Legal terms and conditions.
        Legal = "lt",
        /// Opinion.
        Opinion = "OP",
        /// Review.
        Review = "rv",
        /// Opinion blog.
        OpinionBlog = "ob",
        /// Denominational religious blog or sermon.
        Sermon = "rs",
        /// Advice.
        Advice = "av",
        /// Informational persuasion.
        Persuasion = "IP",
        /// Description with intent to sell.
        Sale = "ds",
        /// News and opinion blog or editorial.
        Editorial = "ed",
    }
}

/// On what terms a text may be used, apart from the consent tier.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum License {
    /// An SPDX licence expression.
    Spdx(String),
    /// The contributor's own words.
    Words(String),
}

impl License {
    /// What was written.
    pub fn text(&self) -> &str {
        match self {
            Self::Spdx(text) | Self::Words(text) => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_read_back_and_unknown_ones_list_the_known() {
        for (number, register) in (0u8..).zip(Register::ALL) {
            assert_eq!(register.number(), number);
            assert_eq!(Register::from_number(number), Some(*register));
            assert_eq!(register.name().parse(), Ok(*register));
            assert_eq!(serde_json::to_string(register).unwrap(), format!("\"{register}\""));
        }
        assert_eq!(Register::from_number(7), None);
        let refused = "poetry".parse::<Register>().unwrap_err().to_string();
        assert!(refused.contains("lyric"), "{refused}");
        assert_eq!("dtp".parse(), Ok(CoreCode::Description));
    }
}
