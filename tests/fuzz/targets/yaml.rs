//! gondola.yaml: read strictly, and every error says where.

#![no_main]

use gondola::config::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match parse(text, "gondola.yaml") {
        Ok(read) => {
            let again = parse(text, "gondola.yaml").expect("it was read once");
            assert_eq!(read, again);
            // A line behind it that says nothing changes nothing.
            if !text.contains(['|', '>']) && text.ends_with('\n') {
                let longer = format!("{text}# a comment\n");
                if let Ok(longer) = parse(&longer, "gondola.yaml") {
                    assert_eq!(read, longer);
                }
            }
        }
        Err(error) => {
            let shown = error.to_string();
            assert!(shown.contains("gondola.yaml"), "{shown}");
            assert!(shown.len() < 4096 + 2 * text.len(), "an error longer than the file");
        }
    }
});
