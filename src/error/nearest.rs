//! What a mistyped word was meant to be.

/// The candidate that a mistyped word was probably meant to be.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let distance = |candidate: &str| strsim::damerau_levenshtein(&word, &candidate.to_lowercase());
    let scored = candidates.into_iter().map(|candidate| (distance(candidate), candidate));
    let (distance, best) = scored.min_by_key(|(distance, _)| *distance)?;
    (distance <= (best.len() / 3).max(1)).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_one_typing_error_away() {
        let words = ["FROM", "COPY", "HEALTHCHECK", "ENV"];
        let cases = [
            ("copyy", Some("COPY")),
            ("FORM", Some("FROM")),
            ("HELTHCHEK", Some("HEALTHCHECK")),
            ("FOO", None),
            ("", None),
        ];
        for (word, expected) in cases {
            assert_eq!(nearest(word, words), expected, "{word}");
        }
    }
}
