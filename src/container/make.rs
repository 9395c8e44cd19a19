//! Makes a container of a plan and a root file system.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use super::config::Config;
use super::entry::{LockedContainer, NewContainer};
use super::plan::{NetworkChoice, Options, Plan};
use super::volumes::Volume;
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::oci::Digest;
use crate::sandbox::{Access, Isolation, Mount, Network, Root, Spec};

/// What a container is made of, beside its plan.
#[derive(Clone, Debug)]
pub struct Origin {
    /// What the image was called, or where it was.
    pub image: String,
    /// The image's manifest; a plain folder has none.
    pub digest: Option<Digest>,
    /// Its root file system.
    pub root: Root,
    /// How its processes are isolated.
    pub isolation: Isolation,
    /// What time it is.
    pub now: Timestamp,
}

/// Makes a folder with what the image has at a path; answers whether it has a folder there.
pub type CopyUp<'a> = &'a dyn Fn(&str, &Path) -> Result<bool>;

impl NewContainer {
    /// Makes it a container that can be run. `copy_up` fills the folders of its own.
    pub fn make(
        self,
        origin: Origin,
        plan: &Plan,
        options: &Options,
        copy_up: CopyUp<'_>,
    ) -> Result<LockedContainer> {
        check(plan, origin.isolation)?;
        let mut spec = Spec::new(origin.root, plan.argv.iter().cloned());
        spec.root_access = plan.access;
        spec.env.clone_from(&plan.env);
        spec.cwd.clone_from(&plan.cwd);
        spec.user.clone_from(&plan.user);
        spec.mounts = self.mounts(&plan.volumes, origin.isolation, copy_up)?;
        spec.network = match plan.network {
            NetworkChoice::Host => Network::Host,
            NetworkChoice::None | NetworkChoice::Published => Network::None,
            NetworkChoice::Private => Network::Private,
        };
        let short = || self.container().id().short().to_owned();
        spec.hostname = options.hostname.clone().unwrap_or_else(short);
        // As in docker's containers; steps of builds have none.
        spec.env.entry("HOSTNAME".to_owned()).or_insert_with(|| spec.hostname.clone());
        spec.extra_hosts.clone_from(&options.hosts);
        spec.timeout = options.timeout.filter(|timeout| *timeout > Duration::ZERO);
        spec.processes = options.processes;
        spec.limits.clone_from(&options.limits);
        // As for docker, none is the usual size.
        spec.shared_memory_bytes = options.shared_memory_bytes.filter(|bytes| *bytes > 0);
        spec.name_servers.clone_from(&options.name_servers);
        spec.control = Some(self.container().control_path());
        let config = Config {
            image: origin.image,
            digest: origin.digest,
            created: origin.now,
            isolation: origin.isolation,
            spec,
            network: plan.network,
            ports: plan.ports.clone(),
            exposed: plan.exposed.clone(),
            stop_signal: plan.stop_signal,
            stop_timeout: plan.stop_timeout,
            input: options.input,
            terminal: options.terminal,
            remove: options.remove,
            labels: options.labels.clone(),
        };
        self.complete(&config)
    }

    fn mounts(
        &self,
        volumes: &[Volume],
        isolation: Isolation,
        copy_up: CopyUp<'_>,
    ) -> Result<Vec<Mount>> {
        let mut mounts = Vec::new();
        for (number, volume) in volumes.iter().enumerate() {
            mounts.push(match volume.clone() {
                Volume::Host { source, target, .. } if isolation == Isolation::InContainer => {
                    let action = format!("mount {} at {target}", source.display());
                    return Err(Error::new(ErrorKind::Unsupported, action)
                        .because(format!("nothing can be mounted in the sandbox {isolation}"))
                        .hint("run \"gondola doctor\": it says what the others lack"));
                }
                Volume::Host { source, target, access, make } => {
                    if make && !source.exists() {
                        let made = fs_err::create_dir_all(&source);
                        made.cannot(|| format!("mount {} at {target}", source.display()))?;
                    }
                    Mount::Bind { source, subpath: None, target, access }
                }
                // Its root file system is the container's own, too, and cannot be mounted into.
                Volume::Own { .. } if isolation == Isolation::InContainer => continue,
                Volume::Own { target } => {
                    let source = self.make_folder("volumes")?.join(number.to_string());
                    if !copy_up(&target, &source)? {
                        fs_err::create_dir(&source).cannot(|| format!("mount at {target}"))?;
                    }
                    Mount::Bind { source, subpath: None, target, access: Access::ReadWrite }
                }
                Volume::Tmpfs { target, size_bytes, mode } => {
                    Mount::Tmpfs { target, size_bytes, mode }
                }
            });
        }
        Ok(mounts)
    }
}

/// Refuses what only namespaces can give, where there are none.
fn check(plan: &Plan, isolation: Isolation) -> Result<()> {
    let refuse = |action: &str, reason: &str, hint: &str| {
        Err(Error::new(ErrorKind::Unsupported, action)
            .because(format!("the sandbox {isolation} has no {reason} of its own"))
            .hint(hint))
    };
    if isolation.has_namespaces() {
        return Ok(());
    }
    if plan.network == NetworkChoice::Published {
        let hint = "leave -p out: the program's own ports are the host's";
        return refuse("publish ports", "network", hint);
    }
    if plan.network == NetworkChoice::Private {
        return refuse("use --network private", "network", "see gondola doctor");
    }
    if plan.access == Access::ReadOnly {
        return refuse("forbid writing", "mounts", "leave --read-only out, or see gondola doctor");
    }
    Ok(())
}
