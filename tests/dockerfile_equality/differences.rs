//! Where the result is meant to differ from buildah's, with the reason. BuildKit is the reference.
//!
//! Each row holds what our line has to be, so that a row excuses nothing but what it states; a row
//! that no longer differs fails its case.

use crate::support::Lines;

/// One deliberate difference.
pub struct Difference {
    /// The case.
    pub case: &'static str,
    /// The path, or `config FIELD`; with a `*` at its end, everything that begins like this.
    pub subject: &'static str,
    /// Our whole line, or what the table below has for it.
    pub ours: Ours,
    pub because: &'static str,
}

/// What our result has.
#[derive(Clone, Copy, Debug)]
pub enum Ours {
    /// This line.
    Line(&'static str),
    /// Nothing.
    Nothing,
}

/// Every deliberate difference.
pub const DIFFERENCES: &[Difference] = &[];

/// Splits what differs in a case into what is excused and a text about the rest.
pub fn unexcused(case: &str, ours: &Lines, theirs: &Lines) -> Vec<String> {
    let rows: Vec<_> =
        DIFFERENCES.iter().filter(|row| row.case == case || row.case == "*").collect();
    let mut used = vec![false; rows.len()];
    let mut rest = Vec::new();
    for (subject, our, their) in ours.differences(theirs) {
        let row = rows.iter().position(|row| row.covers(subject) && row.allows(our));
        match row {
            Some(row) => used[row] = true,
            None => rest.push(format!(
                "  {subject}\n    ours:   {}\n    theirs: {}",
                our.unwrap_or("-"),
                their.unwrap_or("-")
            )),
        }
    }
    let stale = rows.iter().zip(used).filter(|(row, used)| !used && row.case == case);
    rest.extend(stale.map(|(row, _)| format!("  {}: no longer differs as listed", row.subject)));
    rest
}

impl Difference {
    fn covers(&self, subject: &str) -> bool {
        match self.subject.strip_suffix('*') {
            Some(start) => subject.starts_with(start),
            None => self.subject == subject,
        }
    }

    fn allows(&self, our: Option<&str>) -> bool {
        match self.ours {
            Ours::Line(line) => our == Some(line),
            Ours::Nothing => our.is_none(),
        }
    }
}
