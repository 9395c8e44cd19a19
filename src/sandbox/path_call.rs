//! System calls that name a file by its path: which of their arguments say what.

use super::fakeroot::target::low;

/// What a call that waits does, and in which arguments it says so. A path after a descriptor is the
/// second argument.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// The flags, and after them the mode.
    Open {
        flags: usize,
    },
    Create,
    OpenHow,
    /// The buffer, and after it its size.
    ReadLink {
        buffer: usize,
    },
    Describe {
        path: usize,
        buffer: usize,
        follow: Follow,
    },
    DescribeMore,
    /// The path, and after it what is asked.
    Access {
        path: usize,
    },
    /// Extended attributes of a path.
    Attributes {
        follow: bool,
    },
}

/// Whether the last part of a path is followed where it is a link.
#[derive(Clone, Copy)]
pub(super) enum Follow {
    Always,
    Never,
    /// As the flags in this argument say.
    Unless {
        flags: usize,
    },
}

impl Follow {
    pub(super) fn follows(self, arguments: &[u64; 6]) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Unless { flags } => low(arguments[flags]) & libc::AT_SYMLINK_NOFOLLOW == 0,
        }
    }
}

impl Kind {
    /// The argument that is the path.
    pub(super) fn path(self) -> usize {
        match self {
            Self::Open { flags } => flags - 1,
            Self::Create | Self::Attributes { .. } => 0,
            Self::OpenHow | Self::DescribeMore => 1,
            Self::ReadLink { buffer } => buffer - 1,
            Self::Describe { path, .. } | Self::Access { path } => path,
        }
    }

    /// The descriptor of the folder that the path begins in.
    pub(super) fn folder(self, arguments: &[u64; 6]) -> i32 {
        match self.path() {
            0 => libc::AT_FDCWD,
            at => low(arguments[at - 1]),
        }
    }
}

/// The calls that name files, but those that change where a name leads.
pub(super) const CALLS: &[(i64, Kind)] = &[
    (libc::SYS_openat, Kind::Open { flags: 2 }),
    (libc::SYS_openat2, Kind::OpenHow),
    (libc::SYS_readlinkat, Kind::ReadLink { buffer: 2 }),
    (
        libc::SYS_newfstatat,
        Kind::Describe { path: 1, buffer: 2, follow: Follow::Unless { flags: 3 } },
    ),
    (libc::SYS_statx, Kind::DescribeMore),
    (libc::SYS_getxattr, Kind::Attributes { follow: true }),
    (libc::SYS_lgetxattr, Kind::Attributes { follow: false }),
    (libc::SYS_listxattr, Kind::Attributes { follow: true }),
    (libc::SYS_llistxattr, Kind::Attributes { follow: false }),
    (libc::SYS_faccessat, Kind::Access { path: 1 }),
    (libc::SYS_faccessat2, Kind::Access { path: 1 }),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, Kind::Open { flags: 1 }),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_creat, Kind::Create),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_readlink, Kind::ReadLink { buffer: 1 }),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_stat, Kind::Describe { path: 0, buffer: 1, follow: Follow::Always }),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_lstat, Kind::Describe { path: 0, buffer: 1, follow: Follow::Never }),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_access, Kind::Access { path: 0 }),
];
