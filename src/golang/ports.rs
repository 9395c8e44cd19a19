//! Which platforms a Go compiles for.

use super::toolchain::Toolchain;
use crate::disk;
use crate::error::{Error, ErrorKind, Result};
use crate::oci::Platform;

/// Where an installation says it, from Go 1.21 on.
const LIST: &str = "src/internal/platform/zosarch.go";
/// The list is some kilobytes long.
const LARGEST: u64 = 1 << 20;
/// What every Go compiles for on Linux.
const USUAL: [&str; 13] = [
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64",
    "ppc64le", "riscv64", "s390x",
];

impl Toolchain {
    /// Refuses a platform that it does not compile for. Where the installation does not say, the go
    /// command does.
    pub(super) fn check_platform(&self, platform: &Platform) -> Result<()> {
        let Platform { os, architecture, .. } = platform;
        if os == "linux" && USUAL.contains(&architecture.as_str()) {
            return Ok(());
        }
        let Ok(text) = disk::read_text(&self.root().join(LIST), LARGEST) else { return Ok(()) };
        let ports = ports(&text);
        if ports.is_empty() || ports.contains(&(os, architecture)) {
            return Ok(());
        }
        let same = |(of, _): &&(&str, &str)| of == os;
        let names = ports.iter().filter(same).map(|(of, it)| format!("{of}/{it}"));
        let names: Vec<String> = names.collect();
        let error = Error::new(ErrorKind::Unsupported, format!("build for {platform}"))
            .because(format!("{} compiles for no such platform", self.version()));
        Err(match &names[..] {
            [] => error.hint("choose --platform linux/amd64 or another of linux"),
            names => error.hint(format!("choose --platform from {}", names.join(", "))),
        })
    }
}

/// The pairs of lines such as `{"linux", "amd64"},`.
fn ports(text: &str) -> Vec<(&str, &str)> {
    let pair = |line| {
        let line: &str = str::trim(line).strip_prefix("{\"")?.strip_suffix("\"},")?;
        line.split_once("\", \"")
    };
    text.lines().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_and_other_lines_are_not() {
        let text = "package platform\n\nvar List = []OSArch{\n\t{\"linux\", \"386\"},\n\
                    \t{\"js\", \"wasm\"},\n}\n\nvar x = map[OSArch]int{\n\t{\"aix\", \"ppc64\"}: 1,\n}\n";
        assert_eq!(ports(text), [("linux", "386"), ("js", "wasm")]);
    }
}
