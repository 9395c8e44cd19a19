//! Which system calls a sandboxed process may make.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};

use super::error::{Attempt, Fault, Stage};
use super::spec::Access;
use super::syscalls::{EVERYWHERE, HERE, HERE_RECENT, LAST_KNOWN, RECENT};

/// Every `CLONE_NEW*` flag: a sandboxed process makes no namespaces.
const NAMESPACES: u64 = 0x7e02_0000;

/// Execution domains: Linux, and Linux with what `uname26`, `linux32` and a question add.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Socket families that Docker refuses: the kernel's cryptography, and virtual machines.
const REFUSED_SOCKETS: [u64; 2] = [libc::AF_ALG as u64, libc::AF_VSOCK as u64];

/// Which sockets may be made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sockets {
    /// Those that Docker allows: a network namespace or Landlock does the rest.
    Docker,
    /// Those of the internet, and what name look-ups ask the kernel. None of this machine's: Landlock
    /// knows no rule for those that have a path, and whoever reaches docker's is root.
    Internet,
    /// None at all.
    None,
}

/// The calls that change who may do what with a file, for which Landlock knows no rule.
const OF_ATTRIBUTES: &[i64] = &[
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    452, // fchmodat2
    463, // setxattrat
    466, // removexattrat
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
];

/// Installs the filters on this thread for good. Needs `no_new_privs`.
pub(super) fn install(sockets: Sockets, attributes: Access) -> Attempt<()> {
    for program in [allowed(sockets, attributes)?, unknown()?] {
        seccompiler::apply_filter(&program).map_err(|error| fault(error.to_string()))?;
    }
    Ok(())
}

/// The allow list: whatever is not on it fails with EPERM.
fn allowed(sockets: Sockets, attributes: Access) -> Attempt<BpfProgram> {
    let lists = [EVERYWHERE, RECENT, HERE, HERE_RECENT];
    let plain = lists.into_iter().flatten().map(|number| (*number, Vec::new()));
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = plain.collect();
    if attributes == Access::ReadOnly {
        rules.retain(|call, _| !OF_ATTRIBUTES.contains(call));
    }
    // Allowed here so that the second filter's answer, ENOSYS, is the one that counts.
    rules.insert(libc::SYS_clone3, Vec::new());
    let masked = SeccompCmpOp::MaskedEq(NAMESPACES);
    rules.insert(libc::SYS_clone, vec![rule(vec![argument(masked, 0)?])?]);
    let personalities = PERSONALITIES.iter().map(|value| rule(vec![equal(*value)?]));
    rules.insert(libc::SYS_personality, personalities.collect::<Attempt<_>>()?);
    if let Some(socket_rules) = socket_rules(sockets)? {
        rules.insert(libc::SYS_socket, socket_rules);
    }
    if sockets != Sockets::Docker {
        // One of a pair for datagrams sends to whatever has a path, too; a connected one stays connected.
        let connected = [libc::SOCK_STREAM, libc::SOCK_SEQPACKET].into_iter();
        let pairs = connected.map(|kind| rule(vec![is_socket_type(kind.cast_unsigned())?]));
        rules.insert(libc::SYS_socketpair, pairs.collect::<Attempt<_>>()?);
    }
    let refuse = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let filter = SeccompFilter::new(rules, refuse, SeccompAction::Allow, architecture()?);
    BpfProgram::try_from(filter.map_err(backend)?).map_err(backend)
}

fn socket_rules(sockets: Sockets) -> Attempt<Option<Vec<SeccompRule>>> {
    match sockets {
        Sockets::Docker => {
            let refused = REFUSED_SOCKETS.iter();
            let conditions = refused.map(|family| argument(SeccompCmpOp::Ne, *family));
            Ok(Some(vec![rule(conditions.collect::<Attempt<_>>()?)?]))
        }
        Sockets::Internet => {
            let families = [libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
            let families = families.into_iter().map(|family| u64::from(family.cast_unsigned()));
            families.map(|family| rule(vec![equal(family)?])).collect::<Attempt<_>>().map(Some)
        }
        Sockets::None => Ok(None),
    }
}

/// `clone3`, whose flags a filter cannot see, and every call newer than the list do not exist.
fn unknown() -> Attempt<BpfProgram> {
    let load_number = op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0);
    let clone3 = u32::try_from(libc::SYS_clone3).expect("the number is small");
    let missing = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();
    // The architecture needs no check: the first filter kills on a foreign one.
    Ok(vec![
        load_number?,
        op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, 0, clone3)?,
        op(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, 0, 1, LAST_KNOWN)?,
        op(libc::BPF_RET | libc::BPF_K, 0, 0, missing)?,
        op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW)?,
    ])
}

/// For which arguments a call waits for the fakeroot.
#[derive(Clone, Copy)]
pub(super) enum Waiting {
    /// For all.
    Always,
    /// Where the mode, the argument of this number, says that a device is to be made.
    ForDevice { mode: u32 },
    /// Where the flags, the argument of this number, say that a missing file is to be made.
    ForNewFile { flags: u32 },
}

/// Has some calls wait for an answer, and allows all others.
pub(super) fn waiting(calls: impl Iterator<Item = (i64, Waiting)>) -> Attempt<BpfProgram> {
    let load = |offset| op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset);
    let equal = |yes, no, value| op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, yes, no, value);
    let end = |action| op(libc::BPF_RET | libc::BPF_K, 0, 0, action);
    // Offsets in `struct seccomp_data`.
    let (number, first_argument) = (0, 16);
    let mut program = vec![load(number)?];
    for (call, waiting) in calls {
        let call = u32::try_from(call).map_err(|_| fault("a call's number is out of range"))?;
        match waiting {
            Waiting::Always => program.push(equal(0, 1, call)?),
            Waiting::ForNewFile { flags } => program.extend([
                equal(0, 4, call)?,
                load(first_argument + 8 * flags)?,
                op(
                    libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K,
                    1,
                    0,
                    libc::O_CREAT.cast_unsigned(),
                )?,
                end(libc::SECCOMP_RET_ALLOW)?,
            ]),
            Waiting::ForDevice { mode } => program.extend([
                equal(0, 6, call)?,
                load(first_argument + 8 * mode)?,
                op(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, libc::S_IFMT)?,
                equal(2, 0, libc::S_IFCHR)?,
                equal(1, 0, libc::S_IFBLK)?,
                end(libc::SECCOMP_RET_ALLOW)?,
            ]),
        }
        program.push(end(libc::SECCOMP_RET_USER_NOTIF)?);
    }
    program.push(end(libc::SECCOMP_RET_ALLOW)?);
    Ok(program)
}

fn op(code: u32, jt: u8, jf: u8, k: u32) -> Attempt<sock_filter> {
    let code = u16::try_from(code).map_err(|_| fault("an instruction is out of range"))?;
    Ok(sock_filter { code, jt, jf, k })
}

fn rule(conditions: Vec<SeccompCondition>) -> Attempt<SeccompRule> {
    SeccompRule::new(conditions).map_err(backend)
}

fn equal(value: u64) -> Attempt<SeccompCondition> {
    argument(SeccompCmpOp::Eq, value)
}

/// A condition on the lower half of the first argument: flags and families are 32 bits wide.
fn argument(operator: SeccompCmpOp, value: u64) -> Attempt<SeccompCondition> {
    SeccompCondition::new(0, SeccompCmpArgLen::Dword, operator, value).map_err(backend)
}

/// A condition on the type of a socket, the second argument, whose upper bits are flags.
fn is_socket_type(kind: u32) -> Attempt<SeccompCondition> {
    let masked = SeccompCmpOp::MaskedEq(0xf);
    SeccompCondition::new(1, SeccompCmpArgLen::Dword, masked, kind.into()).map_err(backend)
}

fn architecture() -> Attempt<TargetArch> {
    let name = std::env::consts::ARCH;
    name.try_into().map_err(|_| fault(format!("there is no list for {name}")))
}

#[expect(clippy::needless_pass_by_value, reason = "the form that map_err wants")]
fn backend(error: seccompiler::BackendError) -> Fault {
    fault(error.to_string())
}

fn fault(reason: impl Into<String>) -> Fault {
    Fault::new(Stage::Privileges, "filter system calls", reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_holds_each_call_once_and_none_that_changes_the_machine() {
        let mut calls: Vec<_> = [EVERYWHERE, RECENT, HERE, HERE_RECENT].concat();
        let count = calls.len();
        calls.sort_unstable();
        calls.dedup();
        assert_eq!(calls.len(), count);
        assert!(calls.iter().all(|call| *call <= i64::from(LAST_KNOWN)));
        let forbidden = [
            libc::SYS_mount,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_bpf,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_kexec_load,
            libc::SYS_init_module,
            libc::SYS_open_by_handle_at,
            libc::SYS_io_uring_setup,
            libc::SYS_userfaultfd,
            libc::SYS_perf_event_open,
            libc::SYS_pivot_root,
            libc::SYS_open_tree,
            libc::SYS_move_mount,
            libc::SYS_reboot,
            libc::SYS_pidfd_getfd,
        ];
        for call in forbidden {
            assert!(!calls.contains(&call), "{call}");
        }
    }

    #[test]
    fn every_choice_of_sockets_fits_the_kernels_bound_on_a_filter() {
        for sockets in [Sockets::Docker, Sockets::Internet, Sockets::None] {
            assert!(allowed(sockets, Access::ReadWrite).unwrap().len() <= 4096);
        }
    }
}
