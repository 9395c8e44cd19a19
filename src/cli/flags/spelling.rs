//! How flags are spelled, and after which a value stands.

use clap::{Arg, ArgAction};

/// Whether the word behind a flag is its value.
pub fn takes_value(flag: &Arg) -> bool {
    let takes = matches!(flag.get_action(), ArgAction::Set | ArgAction::Append);
    takes && !flag.is_positional() && !flag.is_require_equals_set()
}

/// A flag in all its spellings, with their dashes.
pub fn spellings(flag: &Arg) -> Vec<String> {
    let long = flag.get_long().into_iter().chain(flag.get_all_aliases().unwrap_or_default());
    let short =
        flag.get_short().into_iter().chain(flag.get_all_short_aliases().unwrap_or_default());
    long.map(|name| format!("--{name}")).chain(short.map(|letter| format!("-{letter}"))).collect()
}
