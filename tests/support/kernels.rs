//! Kernels that have less than this one.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// Whether processes may be isolated by mounts and changed roots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespaces {
    /// As here.
    Allowed,
    /// Neither.
    Refused,
}

/// Does something on a thread for which, and for whatever it starts, the kernel has no Landlock.
pub fn without_landlock<T: Send>(namespaces: Namespaces, act: impl FnOnce() -> T + Send) -> T {
    let landlock = [
        libc::SYS_landlock_create_ruleset,
        libc::SYS_landlock_add_rule,
        libc::SYS_landlock_restrict_self,
    ];
    let isolating = [
        libc::SYS_mount,
        libc::SYS_fsmount,
        libc::SYS_open_tree,
        libc::SYS_move_mount,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_unshare,
    ];
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            refuse(&landlock, libc::EOPNOTSUPP);
            if namespaces == Namespaces::Refused {
                refuse(&isolating, libc::EPERM);
            }
            act()
        });
        run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Has calls of this thread and its children fail.
fn refuse(calls: &[i64], number: i32) {
    let rules: BTreeMap<i64, _> = calls.iter().map(|call| (*call, Vec::new())).collect();
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(number.cast_unsigned()),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
}
