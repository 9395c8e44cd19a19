//! The fields of one header block: USTAR, GNU, star and the form before them.

use crate::layer::header::BLOCK;

/// A header whose checksum is right.
pub(super) struct RawHeader<'a>(&'a [u8; BLOCK]);

/// Why a header is refused.
pub(super) type Fault = &'static str;

impl<'a> RawHeader<'a> {
    pub(super) fn new(block: &'a [u8; BLOCK]) -> Result<Self, Fault> {
        let header = Self(block);
        let found = header.number(148, 8)?;
        // Some old writers added the bytes up as signed numbers.
        let unsigned: i64 = header.summed().map(i64::from).sum();
        let signed: i64 = header.summed().map(|byte| i64::from(byte.cast_signed())).sum();
        if found == unsigned || found == signed {
            Ok(header)
        } else {
            Err("its header's checksum is wrong")
        }
    }

    /// The bytes that the checksum covers, with its own field as spaces.
    fn summed(&self) -> impl Iterator<Item = u8> {
        self.0.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { b' ' } else { *b })
    }

    pub(super) fn type_flag(&self) -> u8 {
        self.0[156]
    }

    /// The path, put together from its two fields where the format has both.
    pub(super) fn path(&self) -> Vec<u8> {
        let name = self.text(0, 100);
        let prefix = match (&self.0[257..263], &self.0[508..512]) {
            (b"ustar\0", b"tar\0") => self.text(345, 131),
            (b"ustar\0", _) => self.text(345, 155),
            _ => b"",
        };
        if prefix.is_empty() { name.to_vec() } else { [prefix, name].join(&b'/') }
    }

    pub(super) fn link(&self) -> Vec<u8> {
        self.text(157, 100).to_vec()
    }

    pub(super) fn mode(&self) -> Result<u32, Fault> {
        let mode = self.number(100, 8)? & 0o7777;
        Ok(u32::try_from(mode).expect("it has twelve bits"))
    }

    pub(super) fn uid(&self) -> Result<u64, Fault> {
        self.positive(108, 8, "its owner is a negative number")
    }

    pub(super) fn gid(&self) -> Result<u64, Fault> {
        self.positive(116, 8, "its group is a negative number")
    }

    pub(super) fn size(&self) -> Result<u64, Fault> {
        self.positive(124, 12, "its size is a negative number")
    }

    pub(super) fn mtime(&self) -> Result<i64, Fault> {
        self.number(136, 12)
    }

    /// The device's numbers; formats older than USTAR have none.
    pub(super) fn device(&self) -> Result<(u64, u64), Fault> {
        if &self.0[257..262] != b"ustar" {
            return Ok((0, 0));
        }
        let fault = "its device has a negative number";
        Ok((self.positive(329, 8, fault)?, self.positive(337, 8, fault)?))
    }

    /// In GNU's old sparse form: the size when unpacked, and whether more of the map follows.
    pub(super) fn sparse(&self) -> Result<(u64, bool), Fault> {
        Ok((self.positive(483, 12, "its size is a negative number")?, self.0[482] != 0))
    }

    /// The bytes up to the first NUL.
    fn text(&self, start: usize, length: usize) -> &'a [u8] {
        let field = &self.0[start..start + length];
        field.split(|b| *b == 0).next().expect("a split has a first part")
    }

    fn positive(&self, start: usize, length: usize, fault: Fault) -> Result<u64, Fault> {
        u64::try_from(self.number(start, length)?).map_err(|_| fault)
    }

    /// Octal digits, or a big-endian number with the top bit set.
    fn number(&self, start: usize, length: usize) -> Result<i64, Fault> {
        let field = &self.0[start..start + length];
        if field[0] & 0x80 != 0 { binary(field) } else { octal(field) }
    }
}

fn octal(field: &[u8]) -> Result<i64, Fault> {
    const FAULT: Fault = "a number in its header is not octal";
    let blank = |b: &u8| matches!(*b, b' ' | 0);
    let start = field.iter().position(|b| !blank(b)).unwrap_or(field.len());
    let digits = field[start..].split(blank).next().unwrap_or_default();
    // Twelve octal digits are well inside 64 bits.
    digits.iter().try_fold(0, |number, digit| match digit {
        b'0'..=b'7' => Ok(number * 8 + i64::from(digit - b'0')),
        _ => Err(FAULT),
    })
}

fn binary(field: &[u8]) -> Result<i64, Fault> {
    let negative = field[0] & 0x40 != 0;
    // Clears the marker, or extends the sign over it.
    let first = if negative { field[0] | 0x80 } else { field[0] & 0x7f };
    let start = i128::from(first.cast_signed());
    let number = field[1..].iter().fold(start, |number, byte| number << 8 | i128::from(*byte));
    i64::try_from(number).map_err(|_| "a number in its header does not fit into 64 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_numbers_may_have_blanks_around_them() {
        for (field, number) in [
            (&b"0000644\0"[..], 0o644),
            (b"   644 \0", 0o644),
            (b"00000644", 0o644),
            (b"\0\0\0\0\0\0\0\0", 0),
            (b"        ", 0),
            (b"777777777777", (1 << 36) - 1),
        ] {
            assert_eq!(octal(field), Ok(number), "{field:?}");
        }
        for field in [&b"0000648\0"[..], b"-0000644", b"0x000644", b"junkjunk"] {
            assert!(octal(field).is_err(), "{field:?}");
        }
    }

    #[test]
    fn binary_numbers_have_a_sign() {
        for (field, number) in [
            (&[0x80, 0, 0, 0, 0, 0, 0, 1][..], 1),
            (&[0x80, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0], 2 << 64),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe], -2),
            (&[0xff; 12], -1),
            (
                &[0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
                i128::from(i64::MAX),
            ),
        ] {
            let expected = i64::try_from(number).map_err(drop);
            assert_eq!(binary(field).map_err(drop), expected, "{field:?}");
        }
    }

    #[test]
    fn a_wrong_checksum_is_refused_and_a_signed_one_is_not() {
        let mut header = tar::Header::new_ustar();
        header.set_path("caf\u{e9}").unwrap();
        header.set_size(0);
        header.set_cksum();
        assert!(RawHeader::new(header.as_bytes()).is_ok());
        // Two bytes are above 127: as signed numbers each counts 256 less.
        let signed = header.cksum().unwrap() - 512;
        header.as_old_mut().cksum = format!("{signed:06o}\0 ").as_bytes().try_into().unwrap();
        assert!(RawHeader::new(header.as_bytes()).is_ok());
        header.as_old_mut().name[0] += 1;
        assert!(RawHeader::new(header.as_bytes()).is_err());
    }
}
