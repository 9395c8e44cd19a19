//! Writes the maps of ids of a user namespace, from outside of it.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Pid;

use super::error::{At as _, Attempt, Fault, Stage};
use super::identity::{IdMap, Range, map_arguments};

/// Maps the ids of a process that is in a new user namespace.
pub(super) fn write_id_map(pid: Pid, map: &IdMap) -> Attempt<()> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    match map {
        IdMap::None | IdMap::Inherited => Ok(()),
        IdMap::Single => {
            write_single_map(&format!("/proc/{}", pid.as_raw_nonzero()), (0, uid), (0, gid))
        }
        IdMap::Ranges { newuidmap, newgidmap, uids, gids } => {
            // Side by side: each takes about a millisecond.
            let users = start_map_program(newuidmap, pid, uid, uids)?;
            let groups = start_map_program(newgidmap, pid, gid, gids)?;
            finish_map_program(newuidmap, users)?;
            finish_map_program(newgidmap, groups)
        }
    }
}

/// Maps one id, `(inside, outside)`, for the process whose folder in `/proc` is given.
pub(super) fn write_single_map(process: &str, uid: (u32, u32), gid: (u32, u32)) -> Attempt<()> {
    let write = |file: &str, text: String| {
        let path = format!("{process}/{file}");
        // One write: the kernel takes a map whole or not at all.
        let written =
            File::options().write(true).open(&path).and_then(|mut f| f.write_all(text.as_bytes()));
        written.at(Stage::IdMap, || format!("write {path}"))
    };
    // A process without rights may map its group only where it cannot drop groups.
    write("setgroups", "deny".to_owned())?;
    write("gid_map", format!("{} {} 1\n", gid.0, gid.1))?;
    write("uid_map", format!("{} {} 1\n", uid.0, uid.1))
}

fn start_map_program(
    program: &Path,
    pid: Pid,
    own: u32,
    ranges: &[Range],
) -> Attempt<std::process::Child> {
    Command::new(program)
        .arg(pid.as_raw_nonzero().to_string())
        .args(map_arguments(own, ranges))
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .at(Stage::IdMap, || format!("run {}", program.display()))
}

fn finish_map_program(program: &Path, child: std::process::Child) -> Attempt<()> {
    let action = || format!("run {}", program.display());
    let output = child.wait_with_output().at(Stage::IdMap, action)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or("it failed without a word");
    Err(Fault::new(Stage::IdMap, action(), said))
}
