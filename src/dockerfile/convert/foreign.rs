//! Steps for another processor than this machine's.

use std::path::Path;

use super::platform::PlatformBuild;
use crate::dockerfile::instruction::Kind;
use crate::oci::Platform;

/// Where the kernel lists what it starts by an interpreter of its own, where it shows that.
const INTERPRETERS: &str = "/proc/sys/fs/binfmt_misc";

impl PlatformBuild<'_> {
    /// Says which step is the first that this machine's processor cannot execute by itself, unless an
    /// emulator is registered. Whether it can be executed even so is known when that is tried: in containers
    /// nobody sees what is registered, and the step's program may be one of this machine.
    pub(super) fn foreign_step(&self) -> Option<String> {
        let (host, source) = (self.common.tools.host(), self.common.source());
        let foreign = |stage: &&usize| !runs_natively(&self.platform_of(**stage), host);
        let (stage, step) = self.needed().iter().filter(foreign).find_map(|&stage| {
            let mut steps = self.common.file.stages[stage].instructions.iter();
            Some((stage, steps.find(|step| matches!(step.kind, Kind::Run(_)))?))
        })?;
        if has_interpreters(Path::new(INTERPRETERS)) {
            return None;
        }
        let line = source.position(step.span.start).line;
        let platform = self.platform_of(stage);
        Some(format!(
            "{}:{line}: what this step executes is for {platform}, and this machine is {host}: it needs an \
             emulator, registered with binfmt_misc; FROM --platform=$BUILDPLATFORM compiles natively",
            source.name()
        ))
    }
}

/// Whether a machine starts programs of a platform without help.
fn runs_natively(platform: &Platform, host: &Platform) -> bool {
    // Processors of the second kind run the programs of the first.
    let is_older = |(older, newer)| platform.architecture == older && host.architecture == newer;
    let older = [("386", "amd64"), ("arm", "arm64")];
    platform.satisfies(host) || platform.os == host.os && older.into_iter().any(is_older)
}

/// Whether an interpreter is registered, and in use.
fn has_interpreters(folder: &Path) -> bool {
    let entries = fs_err::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let is_entry = |name: &std::ffi::OsStr| name != "register" && name != "status";
    let mut entries = entries.filter(|entry| is_entry(&entry.file_name()));
    entries.any(|entry| {
        fs_err::read_to_string(entry.path()).is_ok_and(|text| text.starts_with("enabled"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_runs_its_own_and_older_programs() {
        for (platform, host, expected) in [
            ("linux/amd64", "linux/amd64", true),
            ("linux/386", "linux/amd64", true),
            ("linux/arm/v7", "linux/arm64", true),
            ("linux/arm64", "linux/amd64", false),
            ("linux/amd64", "linux/386", false),
            ("windows/amd64", "linux/amd64", false),
            ("windows/386", "linux/amd64", false),
        ] {
            let found = runs_natively(&platform.parse().unwrap(), &host.parse().unwrap());
            assert_eq!(found, expected, "{platform} on {host}");
        }
    }

    #[test]
    fn interpreters_count_that_are_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs_err::write(folder.path().join(name), text).unwrap();
        let found = || has_interpreters(folder.path());
        assert!(!found() && !has_interpreters(Path::new("/nonexistent")));
        write("status", "enabled\n");
        write("register", "enabled\n");
        write("qemu-arm", "disabled\ninterpreter /usr/bin/qemu-arm\n");
        assert!(!found());
        write("qemu-aarch64", "enabled\ninterpreter /usr/bin/qemu-aarch64\n");
        assert!(found());
    }
}
