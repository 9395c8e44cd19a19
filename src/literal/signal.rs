//! Signals, by their names and numbers on Linux.

/// The names, without `SIG`; of those of one number the first is its name.
const NAMES: [(&str, i32); 34] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// The first and the last real-time signal that programs may use.
const REAL_TIME: (i32, i32) = (34, 64);

/// Reads a signal as docker does: `SIGTERM`, `term`, `15`, `SIGRTMIN+3`, `RTMAX-1`.
pub fn signal(text: &str) -> Option<i32> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Some(*number);
    }
    let (first, last) = REAL_TIME;
    for (base, letters, sign) in [(first, "RTMIN", '+'), (last, "RTMAX", '-')] {
        if let Some(rest) = name.strip_prefix(letters) {
            let is_form = rest.is_empty() || rest.len() > 1 && rest.starts_with(sign);
            let offset: i32 = if rest.is_empty() { 0 } else { rest.parse().ok()? };
            let number = base.checked_add(offset).filter(|number| (first..=last).contains(number));
            return number.filter(|_| is_form);
        }
    }
    // A number has no letters in front of it.
    text.parse().ok().filter(|number| (1..=last).contains(number))
}

/// The name of a signal, without `SIG`, where it has one.
pub fn signal_name(number: i32) -> Option<&'static str> {
    NAMES.iter().find(|(_, known)| *known == number).map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_as_docker_reads_them() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("TERM", 15),
            ("sigterm", 15),
            ("9", 9),
            ("64", 64),
            ("SIGCLD", 17),
            ("SIGRTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("rtmax-1", 63),
            ("RTMIN+30", 64),
        ] {
            assert_eq!(signal(text), Some(number), "{text}");
        }
        for bad in [
            "",
            "SIG",
            "SIGTREM",
            "SIGSIGTERM",
            "0",
            "65",
            "-1",
            "SIG9",
            "RTMIN+x",
            "RTMIN+31",
            "RTMIN-1",
            "RTMAX+1",
            "RTMIN+",
            "TERM ",
            " 9",
            "2147483648",
            "RTMIN+2147483647",
        ] {
            assert_eq!(signal(bad), None, "{bad}");
        }
        assert_eq!(
            (signal_name(15), signal_name(6), signal_name(40)),
            (Some("TERM"), Some("ABRT"), None)
        );
    }
}
