//! Kaniko's flags about registries.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::{KanikoArgs, usage};
use crate::cli::flags::registry::hosts;
use crate::error::Result;
use crate::oci::docker_hub;
use crate::registry::{MirrorRule, Mirrors};

/// How registries are spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registries {
    /// Hosts that may be spoken to without verification and without TLS.
    pub insecure: BTreeSet<String>,
    /// Whether that goes for every host that is pulled from.
    pub insecure_pull: bool,
    /// Certificates to trust, by host.
    pub certificates: BTreeMap<String, PathBuf>,
    /// Certificates to show, by host.
    pub client_certificates: BTreeMap<String, ClientCertificate>,
    /// Where else, or rather, images are pulled from.
    pub mirrors: Mirrors,
    /// How often a request is sent at most, unless it is as often as usual.
    pub attempts: Option<u32>,
}

/// A certificate that is shown to a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate's file.
    pub certificate: PathBuf,
    /// The file of its key.
    pub key: PathBuf,
}

/// Says what the flags ask for; `pushed` are the hosts that something is pushed to.
pub(super) fn translate(
    args: &KanikoArgs,
    variables: &BTreeMap<String, String>,
    pushed: &[&str],
) -> Result<Registries> {
    let mut insecure: BTreeSet<_> = hosts("--insecure-registry", &args.insecure_registry)?;
    insecure.extend(hosts::<BTreeSet<_>>(
        "--skip-tls-verify-registry",
        &args.skip_tls_verify_registry,
    )?);
    if args.insecure == Some(true) || args.skip_tls_verify == Some(true) {
        insecure.extend(pushed.iter().map(|&host| host.to_owned()));
    }
    // It has no effect, and is a number all the same.
    attempts("--image-fs-extract-retry", args.image_fs_extract_retry.as_deref())?;
    let attempts = attempts("--push-retry", args.push_retry.as_deref())?
        .max(attempts("--image-download-retry", args.image_download_retry.as_deref())?);
    Ok(Registries {
        insecure,
        insecure_pull: args.insecure_pull == Some(true) || args.skip_tls_verify_pull == Some(true),
        certificates: args
            .registry_certificate
            .iter()
            .map(|text| by_host(("--registry-certificate", "REGISTRY=FILE"), text))
            .map(|pair| pair.map(|(host, file)| (host, PathBuf::from(file))))
            .collect::<Result<_>>()?,
        client_certificates: args
            .registry_client_cert
            .iter()
            .map(|text| client_certificate(text))
            .collect::<Result<_>>()?,
        mirrors: mirrors(args, variables)?,
        attempts,
    })
}

/// Kaniko counts what comes after the first try.
fn attempts(flag: &str, text: Option<&str>) -> Result<Option<u32>> {
    let Some(text) = text else { return Ok(None) };
    let number: u32 = text.parse().map_err(|_| {
        usage(format!("use {flag} {}", text.escape_debug()), "expected a whole number")
    })?;
    Ok((number > 0).then(|| number.saturating_add(1)))
}

fn by_host((flag, grammar): (&str, &str), text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((host, value)) if !host.is_empty() && !value.is_empty() => {
            Ok((host.to_owned(), value.to_owned()))
        }
        _ => {
            Err(usage(format!("use {flag} {}", text.escape_debug()), format!("expected {grammar}")))
        }
    }
}

fn client_certificate(text: &str) -> Result<(String, ClientCertificate)> {
    const FLAG: (&str, &str) = ("--registry-client-cert", "REGISTRY=CERTIFICATE,KEY");
    let (host, files) = by_host(FLAG, text)?;
    let Some((certificate, key)) = files.split_once(',') else {
        let action = format!("use {} {}", FLAG.0, text.escape_debug());
        return Err(usage(action, format!("expected {}", FLAG.1)));
    };
    let (certificate, key) = (PathBuf::from(certificate), PathBuf::from(key));
    Ok((host, ClientCertificate { certificate, key }))
}

/// Rules for mirrors, `--registry-map` and `--registry-mirror` together.
fn mirrors(args: &KanikoArgs, variables: &BTreeMap<String, String>) -> Result<Mirrors> {
    let mut maps: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let variable = variables.get("KANIKO_REGISTRY_MAP");
    for text in args.registry_map.iter().chain(variable) {
        for pair in text.split(';').filter(|pair| !pair.is_empty()) {
            let (from, to) = by_host(("--registry-map", "REGISTRY=OTHER"), pair)?;
            maps.entry(docker_hub::canonical(from.trim_end_matches('/')).to_owned())
                .or_default()
                .push(to);
        }
    }
    let variable = variables.get("KANIKO_REGISTRY_MIRROR").filter(|value| !value.is_empty());
    for mirror in args.registry_mirror.iter().chain(variable) {
        maps.entry(docker_hub::NAME.to_owned()).or_default().push(mirror.clone());
    }
    // Nobody but the mirrors is asked where the last of them takes the registry's place.
    let alone = args.skip_default_registry_fallback == Some(true);
    let rule = |(from, mut to): (String, Vec<String>)| {
        let location = if alone { to.pop() } else { None };
        MirrorRule { location: location.unwrap_or_else(|| from.clone()), prefix: from, mirrors: to }
    };
    Mirrors::listed(maps.into_iter().map(rule))
}
