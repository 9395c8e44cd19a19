//! Files that are saved while a build reads them, and put back.
//!
//! What an image holds may be either text, and a build may refuse. But a build of quiet files, before
//! or after, must give those files: no key may stand for what was there only for a moment.

use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use fs_err as fs;

use super::support::{Need, ReadImage, go};
use super::watch::{Watch, at_moments};
use super::world::{Bench, Chances, Findings, Session, must, start};
use super::{Attack, archive};

pub const ATTACKS: &[Attack] = &[
    ("saved while COPY reads it", |session, findings| race(&COPY, session, findings)),
    ("saved while a folder is copied", |session, findings| race(&FOLDER, session, findings)),
    ("saved while ADD reads it", |session, findings| race(&ADD, session, findings)),
    ("saved while ADD unpacks it", |session, findings| race(&ARCHIVE, session, findings)),
    ("saved while RUN has it mounted", |session, findings| race(&MOUNT, session, findings)),
    ("saved while --add reads it", |session, findings| race(&ASSET, session, findings)),
    ("saved while --prebuilt reads it", |session, findings| race(&PREBUILT, session, findings)),
    ("saved while go compiles it", |session, findings| {
        go()?;
        race(&MAIN, session, findings)
    }),
];

/// A file that changes while it is on its way into an image.
struct Race {
    /// The file, in the working folder.
    victim: &'static str,
    /// The Dockerfile of the folder `ctx`; without it a Go package is built.
    file: Option<&'static str>,
    /// Further words of the command.
    words: &'static [&'static str],
    /// Where the image has it.
    inside: &'static str,
    /// What the file is, for a text.
    content: fn(&str) -> Vec<u8>,
    /// Whether the image's file is the file itself, and does not only hold the text.
    as_it_is: bool,
}

const COPY: Race = Race {
    victim: "ctx/victim",
    file: Some("FROM busybox\nCOPY victim /v\n"),
    words: &[],
    inside: "v",
    content: long,
    as_it_is: true,
};
const FOLDER: Race = Race { file: Some("FROM busybox\nCOPY . /c/\n"), inside: "c/victim", ..COPY };
const ADD: Race = Race { file: Some("FROM busybox\nADD victim /v\n"), ..COPY };
const ARCHIVE: Race = Race {
    file: Some("FROM busybox\nADD victim /a/\n"),
    inside: "a/v",
    content: packed,
    as_it_is: false,
    ..COPY
};
const MOUNT: Race =
    Race { file: Some("FROM busybox\nRUN --mount=type=bind,target=/c cp /c/victim /v\n"), ..COPY };
const ASSET: Race = Race {
    victim: "site/victim",
    file: None,
    words: &["--prebuilt", "app", "--add", "site:/srv"],
    inside: "srv/victim",
    ..COPY
};
const PREBUILT: Race = Race {
    victim: "app/app",
    file: None,
    words: &["--prebuilt", "app/app"],
    inside: "usr/local/bin/app",
    ..COPY
};
const MAIN: Race = Race {
    victim: "main/main.go",
    file: None,
    words: &["--go", "host", "."],
    inside: "usr/local/bin/main",
    content: program,
    as_it_is: false,
};

/// A file of some hundred kilobytes that is read in several pieces.
fn long(text: &str) -> Vec<u8> {
    format!("{text}\n").repeat(40_000).into_bytes()
}

fn packed(text: &str) -> Vec<u8> {
    let content = String::from_utf8(long(text)).unwrap();
    archive::archive(&[archive::file("v", &content)])
}

fn program(text: &str) -> Vec<u8> {
    format!("package main\n\nfunc main() {{\n\tprintln(\"{text}\")\n}}\n").into_bytes()
}

fn race(race: &Race, session: &Session, findings: &mut Findings) -> Need<()> {
    let course = Course { race, bench: Bench::new(session)? };
    course.prepare();
    let chances = session.chances(if race.inside == MAIN.inside { 20 } else { 5 });
    let moments = match course.count() {
        Ok(moments) => moments,
        Err(why) => {
            findings.judge("a build that nobody disturbs", Err(why));
            return Ok(());
        }
    };
    findings.note(format!("{moments} moments"));
    let mut number = 0_usize;
    // First each moment once in each way, as far as time allows, the early and the late alternating.
    while chances.go_on(number) {
        let turn = number / 2;
        let spread = turn.wrapping_mul(moments / 2 + 1) % moments.max(1);
        let moment = if turn < moments { spread } else { at_random(&chances, moments) } + 1;
        let way = if number.is_multiple_of(2) { Way::PutBack } else { Way::Left };
        let outcome = course.round(number, moment, way);
        findings.judge(&format!("moment {moment} of {moments}, {way:?}"), outcome);
        number += 1;
    }
    Ok(())
}

fn at_random(chances: &Chances, moments: usize) -> usize {
    usize::try_from(chances.below(moments as u64)).unwrap()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// The new text stays.
    Left,
    /// The old text is there again at the next moment, as old as it was.
    PutBack,
}

struct Course<'a> {
    race: &'a Race,
    bench: Bench,
}

impl Course<'_> {
    fn prepare(&self) {
        let sandbox = &self.bench.sandbox;
        if let Some(file) = self.race.file {
            sandbox.write("ctx/Dockerfile", file);
        }
        if self.race.words.contains(&"app") {
            sandbox.write("app", "a program");
        }
        sandbox.write("main/go.mod", "module example.com/main\n\ngo 1.21\n");
        let beside = Path::new(self.race.victim).with_file_name("beside");
        sandbox.write(beside.to_str().unwrap(), "always the same");
    }

    fn command(&self) -> Command {
        if self.race.file.is_some() {
            return self.bench.build("ctx", &[]);
        }
        let out = format!("oci:{}:t", self.bench.sandbox.path("out").display());
        let words = ["build", "-t", "app", "-o", &out];
        let mut command = self.bench.sandbox.command(&[&words[..], self.race.words].concat());
        if self.race.inside == MAIN.inside {
            command.current_dir(self.bench.sandbox.path("main"));
        }
        command
    }

    /// Puts a text in the victim's place, as editors do: beside it first, then renamed.
    fn save(&self, text: &str, modified: Option<SystemTime>) {
        let new = self.bench.sandbox.write("saved", (self.race.content)(text));
        if let Some(modified) = modified {
            fs::OpenOptions::new()
                .write(true)
                .open(&new)
                .unwrap()
                .file()
                .set_modified(modified)
                .unwrap();
        }
        let place = self.bench.sandbox.path(self.race.victim);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::rename(new, place).unwrap();
    }

    /// How many moments an undisturbed build has.
    fn count(&self) -> Result<usize, String> {
        self.save("nobody disturbs", None);
        let watch = Watch::on(&self.bench.sandbox.path(self.race.victim));
        let (ended, moments) = at_moments(start(&mut self.command()), &watch, |_| ())?;
        ended.succeeded()?;
        self.has("nobody disturbs", &["nobody disturbs"]).map(|()| moments)
    }

    fn round(&self, number: usize, moment: usize, way: Way) -> Result<(), String> {
        let (old, new) = (format!("the old text {number:04}"), format!("the new text {number:04}"));
        self.save(&old, None);
        let place = self.bench.sandbox.path(self.race.victim);
        let modified = fs::metadata(&place).unwrap().modified().unwrap();
        let watch = Watch::on(&place);
        let mut lies = &old;
        self.bench.forget();
        let disturb = |now: usize| {
            if now == moment {
                self.save(&new, None);
                lies = &new;
            } else if now == moment + 1 && way == Way::PutBack {
                self.save(&old, Some(modified));
                lies = &old;
            }
        };
        let (ended, _) = at_moments(start(&mut self.command()), &watch, disturb)?;
        if way == Way::PutBack && lies == &new {
            self.save(&old, Some(modified));
            lies = &old;
        }
        if ended.code == Some(0) {
            self.has("the build that was disturbed", &[&old, &new])?;
        } else {
            ended.failed_in_words()?;
        }
        self.quiet("a build afterwards", lies)?;
        let other = if lies == &old { &new } else { &old };
        self.save(other, None);
        self.quiet("a build of the other text", other)
    }

    /// Builds what lies there, and looks at what comes out.
    fn quiet(&self, what: &str, text: &str) -> Result<(), String> {
        self.bench.forget();
        must(&mut self.command()).map_err(|why| format!("{what} {why}"))?;
        self.has(what, &[text])
    }

    /// Whether the image holds one of these texts, and the whole of it.
    fn has(&self, what: &str, texts: &[&str]) -> Result<(), String> {
        let image = self.bench.image();
        let found = self.found(&image);
        if texts.iter().any(|text| self.is(&found, text)) {
            return Ok(());
        }
        let shown = String::from_utf8_lossy(&found[..found.len().min(24)]).into_owned();
        Err(format!("{what} holds {shown:?}… and not {texts:?}"))
    }

    fn found(&self, image: &ReadImage) -> Vec<u8> {
        image.files().remove(self.race.inside).map(|entry| entry.bytes).unwrap_or_default()
    }

    fn is(&self, found: &[u8], text: &str) -> bool {
        if self.race.as_it_is {
            return found == (self.race.content)(text);
        }
        found.windows(text.len()).any(|window| window == text.as_bytes())
    }
}
