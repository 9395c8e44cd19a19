//! What a file that is to be started is: for which machine, and what it needs to start.

use std::fmt;
use std::io::{Read, Seek, SeekFrom};

use object::elf::{DT_NEEDED, DT_STRSZ, DT_STRTAB, FileHeader32, FileHeader64};
use object::read::elf::{Dyn as _, FileHeader, ProgramHeader as _};
use object::{Endianness, ReadCache};

use crate::oci::Platform;

/// The longest first line of a script that Linux reads.
const LONGEST_LINE: usize = 256;
/// The longest that is read of a part of an ELF file: names of libraries take a few thousand bytes.
const LONGEST_PART: u64 = 1 << 20;

/// A file that is to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// What Linux and the BSDs start.
    Elf(Elf),
    /// A text whose first line names its interpreter.
    Script {
        /// The interpreter's path.
        interpreter: String,
    },
    /// What only another system starts, by the name of its form.
    Foreign(&'static str),
    /// Anything else: something that is registered with the kernel may start it, or nothing.
    Unknown,
}

/// An ELF file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elf {
    machine: Machine,
    /// The path of the loader that starts it; a static program has none.
    pub loader: Option<String>,
    /// The libraries that the loader looks for, by the names that the program has for them.
    pub libraries: Vec<String>,
}

/// What an ELF file runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Machine {
    /// `e_machine`.
    number: u16,
    bits: u8,
    is_big_endian: bool,
}

/// Go's names of processors, and how their ELF files say so.
const MACHINES: [(&str, Machine); 14] = [
    ("386", Machine { number: 3, bits: 32, is_big_endian: false }),
    ("amd64", Machine { number: 62, bits: 64, is_big_endian: false }),
    ("arm", Machine { number: 40, bits: 32, is_big_endian: false }),
    ("arm64", Machine { number: 183, bits: 64, is_big_endian: false }),
    ("loong64", Machine { number: 258, bits: 64, is_big_endian: false }),
    ("mips", Machine { number: 8, bits: 32, is_big_endian: true }),
    ("mipsle", Machine { number: 8, bits: 32, is_big_endian: false }),
    ("mips64", Machine { number: 8, bits: 64, is_big_endian: true }),
    ("mips64le", Machine { number: 8, bits: 64, is_big_endian: false }),
    ("ppc64", Machine { number: 21, bits: 64, is_big_endian: true }),
    ("ppc64le", Machine { number: 21, bits: 64, is_big_endian: false }),
    ("riscv64", Machine { number: 243, bits: 64, is_big_endian: false }),
    ("s390x", Machine { number: 22, bits: 64, is_big_endian: true }),
    ("sparc64", Machine { number: 43, bits: 64, is_big_endian: true }),
];

impl Program {
    /// Looks at a file's headers, and reads no more than those.
    ///
    /// Errs when the file cannot be read. An ELF file that is cut off or contradicts itself is
    /// [`Program::Unknown`].
    pub fn read<R: Read + Seek>(mut file: R) -> std::io::Result<Self> {
        let mut start = Vec::with_capacity(LONGEST_LINE);
        file.seek(SeekFrom::Start(0))?;
        (&mut file).take(LONGEST_LINE as u64).read_to_end(&mut start)?;
        Ok(match start.as_slice() {
            [0x7f, b'E', b'L', b'F', 1, ..] => elf::<FileHeader32<Endianness>, R>(file),
            [0x7f, b'E', b'L', b'F', 2, ..] => elf::<FileHeader64<Endianness>, R>(file),
            [b'#', b'!', line @ ..] => interpreter(line),
            // Both orders of bytes, both widths. A universal file shares its number with Java's
            // classes, which have a version of 45 or more where it has the count of its parts.
            [0xfe, 0xed, 0xfa, 0xce | 0xcf, ..] | [0xce | 0xcf, 0xfa, 0xed, 0xfe, ..] => {
                Self::Foreign("Mach-O, for macOS")
            }
            [0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, count, ..] if *count < 45 => {
                Self::Foreign("Mach-O, for macOS")
            }
            [b'M', b'Z', ..] => Self::Foreign("PE, for Windows"),
            _ => Self::Unknown,
        })
    }
}

impl Elf {
    /// Whether the kernel of such a platform starts it. For a processor that is not known here, yes.
    pub fn runs_on(&self, platform: &Platform) -> bool {
        let is_of = |name: &str| MACHINES.iter().any(|(of, m)| *of == name && *m == self.machine);
        let is_known = MACHINES.iter().any(|(of, _)| *of == platform.architecture);
        // Processors of the second kind run the programs of the first.
        let is_older = matches!(platform.architecture.as_str(), "amd64") && is_of("386")
            || matches!(platform.architecture.as_str(), "arm64") && is_of("arm");
        !is_known || is_older || is_of(&platform.architecture)
    }
}

impl fmt::Display for Elf {
    /// The processor in Go's words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match MACHINES.iter().find(|(_, machine)| *machine == self.machine) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "a processor with ELF's number {}", self.machine.number),
        }
    }
}

/// The interpreter that the first line of a script names, as Linux reads it.
fn interpreter(line: &[u8]) -> Program {
    let end = line.iter().position(|&b| b == b'\n').unwrap_or(line.len());
    let mut words = line[..end].split(|b| matches!(b, b' ' | b'\t'));
    match words.find(|word| !word.is_empty()) {
        Some(word) => Program::Script { interpreter: String::from_utf8_lossy(word).into_owned() },
        None => Program::Unknown,
    }
}

fn elf<H: FileHeader<Endian = Endianness>, R: Read + Seek>(file: R) -> Program {
    headers::<H, R>(&ReadCache::new(file)).map_or(Program::Unknown, Program::Elf)
}

fn headers<H: FileHeader<Endian = Endianness>, R: Read + Seek>(file: &ReadCache<R>) -> Option<Elf> {
    let header = H::parse(file).ok()?;
    let endian = header.endian().ok()?;
    let machine = Machine {
        number: header.e_machine(endian),
        bits: if header.is_type_64() { 64 } else { 32 },
        is_big_endian: matches!(endian, Endianness::Big),
    };
    let segments = header.program_headers(endian, file).ok()?;
    let (mut loader, mut libraries) = (None, Vec::new());
    for segment in segments {
        if segment.p_filesz(endian).into() > LONGEST_PART {
            continue;
        }
        if let Some(path) = segment.interpreter(endian, file).ok()? {
            loader = Some(String::from_utf8_lossy(path).into_owned());
        }
        let Some(entries) = segment.dynamic(endian, file).ok()? else { continue };
        let value = |tag: i64| {
            let found = entries.iter().find(|entry| entry.tag(endian) == tag)?;
            Some(found.d_val(endian).into())
        };
        let (Some(start), Some(size)) = (value(DT_STRTAB), value(DT_STRSZ)) else { continue };
        let names = segments
            .iter()
            .find_map(|of| of.data_range(endian, file, start, size.min(LONGEST_PART)).ok()?);
        let needed = entries.iter().filter(|entry| entry.tag(endian) == DT_NEEDED);
        let offsets = needed.map(|entry| entry.d_val(endian).into());
        libraries.extend(offsets.filter_map(|offset| name(names?, offset)));
    }
    Some(Elf { machine, loader, libraries })
}

/// The name that begins at an offset of a table of names.
fn name(names: &[u8], offset: u64) -> Option<String> {
    let rest = names.get(usize::try_from(offset).ok()?..)?;
    let end = rest.iter().position(|&b| b == 0)?;
    Some(String::from_utf8_lossy(&rest[..end]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn read(bytes: &[u8]) -> Program {
        Program::read(Cursor::new(bytes)).unwrap()
    }

    /// The header of an ELF file of 64 bits without any parts.
    fn header(machine: u16) -> Vec<u8> {
        let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1, 1];
        bytes.resize(16, 0);
        bytes.extend(2u16.to_le_bytes());
        bytes.extend(machine.to_le_bytes());
        bytes.extend(1u32.to_le_bytes());
        bytes.resize(52, 0);
        bytes.extend(64u16.to_le_bytes());
        bytes.resize(64, 0);
        bytes
    }

    #[test]
    fn forms_are_told_apart_by_their_first_bytes() {
        let script = |path: &str| Program::Script { interpreter: path.to_owned() };
        let macho = Program::Foreign("Mach-O, for macOS");
        let cases: [(&[u8], Program); 12] = [
            (b"#!/bin/sh\necho", script("/bin/sh")),
            (b"#! /usr/bin/env  python3\n", script("/usr/bin/env")),
            (b"#!/bin/sh", script("/bin/sh")),
            (b"#!\n/bin/sh", Program::Unknown),
            (b"\xcf\xfa\xed\xfe\x07\x00\x00\x01", macho.clone()),
            (b"\xfe\xed\xfa\xce\x00", macho.clone()),
            (b"\xca\xfe\xba\xbe\x00\x00\x00\x02", macho),
            (b"\xca\xfe\xba\xbe\x00\x00\x00\x37", Program::Unknown),
            (b"MZ\x90\x00", Program::Foreign("PE, for Windows")),
            (b"", Program::Unknown),
            (b"\x7fELF\x02\x01\x01", Program::Unknown),
            (b"hello", Program::Unknown),
        ];
        for (bytes, expect) in cases {
            assert_eq!(read(bytes), expect, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_machine_is_compared_with_the_platform() {
        for (machine, platform, expect) in [
            (62, "linux/amd64", true),
            (62, "linux/arm64", false),
            (183, "linux/arm64", true),
            (183, "linux/arm64/v8", true),
            (183, "linux/amd64", false),
            (243, "linux/riscv64", true),
            (999, "linux/amd64", false),
            (999, "linux/unheard", true),
        ] {
            let Program::Elf(elf) = read(&header(machine)) else { panic!("{machine} is none") };
            assert_eq!(elf.runs_on(&platform.parse().unwrap()), expect, "{machine} {platform}");
            assert_eq!((elf.loader, elf.libraries), (None, Vec::new()));
        }
    }

    #[test]
    fn a_program_of_this_machine_says_what_it_needs() {
        let own = fs_err::File::open(std::env::current_exe().unwrap()).unwrap();
        let Program::Elf(elf) = Program::read(own).unwrap() else { panic!("it is none") };
        assert!(elf.runs_on(&Platform::host()));
        assert_eq!(elf.to_string(), Platform::host().architecture);
        if let Some(loader) = &elf.loader {
            assert!(std::path::Path::new(loader).exists(), "{loader}");
            assert!(elf.libraries.iter().any(|name| name.contains(".so")), "{:?}", elf.libraries);
        }
    }

    #[test]
    fn a_file_that_lies_about_its_parts_is_unknown_or_harmless() {
        let whole = header(62);
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                let _ = read(&bytes);
            }
            let _ = read(&whole[..at]);
        }
    }
}
