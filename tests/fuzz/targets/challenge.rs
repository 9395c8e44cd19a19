//! Challenges of registries: whatever a header says, the password goes to no place that the
//! registry may not name.

#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use reqwest::Url;

// Private to the program, and nobody's business but for this.
#[expect(dead_code, reason = "the fields are for the client")]
#[path = "../../../src/registry/challenge.rs"]
mod challenge;

use challenge::{Challenge, RawChallenge, choose, parse};

fuzz_target!(|text: &str| {
    for header in text.lines() {
        let found = parse(header);
        assert_eq!(parse(&written(&found)), found, "written out and read again");
        for challenge in &found {
            assert!(!challenge.scheme.is_empty());
            let names = challenge.parameters.keys().chain([&challenge.scheme]);
            for name in names {
                assert_eq!(name, &name.to_ascii_lowercase());
            }
        }
    }
    for registry in ["https://registry.example/v2/", "http://10.0.0.1:5000/", "https://[fd00::1]/"]
    {
        let registry = Url::parse(registry).expect("an address");
        if let Ok(Challenge::Bearer { realm, .. }) = choose(&registry, text.lines()) {
            judge(&registry, &realm);
        }
    }
});

/// A realm by other words than the program's own.
fn judge(registry: &Url, realm: &Url) {
    assert!(matches!(realm.scheme(), "https" | "http"), "{realm}");
    assert!(realm.scheme() == "https" || registry.scheme() == "http", "in the clear: {realm}");
    let host = realm.host_str().unwrap_or_default();
    if Some(host) == registry.host_str() {
        return;
    }
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let link_local = match address {
        Ok(IpAddr::V4(v4)) => v4.octets()[..2] == [169, 254],
        Ok(IpAddr::V6(v6)) => {
            v6.segments()[0] & 0xffc0 == 0xfe80
                || v6.to_ipv4_mapped().is_some_and(|v4| v4.octets()[..2] == [169, 254])
        }
        Err(_) => false,
    };
    assert!(!link_local, "a machine's own metadata: {realm}");
    if registry.host_str() == Some("registry.example") {
        assert!(host != "localhost" && !host.ends_with(".localhost"), "{realm}");
        if let Ok(address) = address {
            assert!(!address.to_canonical().is_loopback(), "{realm}");
        }
    }
}

/// Challenges in the strictest form.
fn written(challenges: &[RawChallenge]) -> String {
    let one = |challenge: &RawChallenge| {
        let parameters = challenge.parameters.iter().map(|(name, value)| {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
            format!("{name}=\"{escaped}\"")
        });
        format!("{} {}", challenge.scheme, parameters.collect::<Vec<_>>().join(", "))
    };
    challenges.iter().map(one).collect::<Vec<_>>().join(", ")
}
