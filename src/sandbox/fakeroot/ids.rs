//! Who a process believes to be.
//!
//! The kernel has one id for all of them, so that a change of user is remembered here. A process
//! hands it on to its children without anybody noticing: its number in the list is kept in a limit
//! that the kernel copies on `fork` and that bounds nothing here, the time of real-time threads.

use std::io;

use super::super::notify;

/// The first limit that means an entry of the list: 35 years, in microseconds.
const FIRST: u64 = 1 << 50;

/// The most entries: a step that goes through more users than there are in any image is refused.
const MOST: usize = 1 << 16;

/// Three user ids, three group ids and further groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) users: Triple,
    pub(super) groups: Triple,
    /// In ascending order, as the kernel keeps them.
    pub(super) further: Vec<u32>,
}

/// A real, an effective and a saved id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Triple {
    pub(super) real: u32,
    pub(super) effective: u32,
    pub(super) saved: u32,
}

impl Triple {
    pub(super) fn all(id: u32) -> Self {
        Self { real: id, effective: id, saved: id }
    }

    fn holds(self, id: u32) -> bool {
        [self.real, self.effective, self.saved].contains(&id)
    }

    /// As `setresuid` does; `None` where that is not permitted. "Unchanged" is no id.
    pub(super) fn set(self, wanted: [Option<u32>; 3], privileged: bool) -> Option<Self> {
        let permitted = wanted.iter().flatten().all(|id| privileged || self.holds(*id));
        let [real, effective, saved] = wanted;
        permitted.then(|| Self {
            real: real.unwrap_or(self.real),
            effective: effective.unwrap_or(self.effective),
            saved: saved.unwrap_or(self.saved),
        })
    }

    /// As `setuid` does.
    pub(super) fn set_one(self, id: u32, privileged: bool) -> Option<Self> {
        if privileged { Some(Self::all(id)) } else { self.set([None, Some(id), None], false) }
    }

    /// As `setreuid` does: the saved id follows the effective one where the real one was set.
    pub(super) fn set_two(self, wanted: [Option<u32>; 2], privileged: bool) -> Option<Self> {
        let [real, effective] = wanted;
        let set = self.set([real, effective, None], privileged)?;
        let follows = real.is_some() || effective.is_some_and(|id| id != self.real);
        Some(if follows { Self { saved: set.effective, ..set } } else { set })
    }
}

impl Credentials {
    pub(super) fn is_root(&self) -> bool {
        self.users.effective == 0
    }

    /// Whether the process is of a group.
    pub(super) fn is_member(&self, group: u32) -> bool {
        self.groups.effective == group || self.further.contains(&group)
    }
}

/// The credentials of every process in a sandbox.
pub(super) struct Registry {
    /// Those of a process that never changed them.
    first: Credentials,
    others: Vec<Credentials>,
}

impl Registry {
    pub(super) fn new(first: Credentials) -> Self {
        Self { first, others: Vec::new() }
    }

    /// Those of a thread's process, if it ever changed them.
    pub(super) fn changed(&self, thread: u32) -> Option<&Credentials> {
        let (current, _) = notify::realtime_limit(thread).ok()?;
        self.others.get(usize::try_from(current.checked_sub(FIRST)?).ok()?)
    }

    /// Those of a thread's process.
    pub(super) fn of(&self, thread: u32) -> &Credentials {
        self.changed(thread).unwrap_or(&self.first)
    }

    /// Changes those of a thread's process. The other threads are of the same process.
    pub(super) fn change(&mut self, thread: u32, wanted: Credentials) -> io::Result<()> {
        let known = self.others.iter().position(|others| *others == wanted);
        let index = known.unwrap_or(self.others.len());
        if index >= MOST {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let (_, greatest) = notify::realtime_limit(thread)?;
        notify::set_realtime_limit(thread, FIRST + index as u64, greatest)?;
        if known.is_none() {
            self.others.push(wanted);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_change_as_the_kernel_changes_them() {
        let root = Triple::default();
        let (one, two) = (Some(1), Some(2));
        assert_eq!(root.set_one(7, true), Some(Triple::all(7)));
        assert_eq!(Triple::all(7).set_one(0, false), None);
        let lent = root.set([None, Some(7), None], true).unwrap();
        assert_eq!(lent, Triple { real: 0, effective: 7, saved: 0 });
        assert_eq!(lent.set_one(0, false), Some(root));
        assert_eq!(
            root.set_two([one, two], true),
            Some(Triple { real: 1, effective: 2, saved: 2 })
        );
        assert_eq!(lent.set_two([None, Some(0)], false), Some(root));
        assert_eq!(root.set([None; 3], false), Some(root));
        assert_eq!(Triple::all(7).set([Some(7), Some(8), None], false), None);
    }
}
