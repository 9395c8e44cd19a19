//! The network of the host from inside: nobody listens to what others say on loopback, and a private
//! network has no way to the host's services.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Attack;
use super::inside::{How, Inside, Place, places};
use super::support::{Missing, Need};
use super::world::{Findings, Session};

pub const ATTACKS: &[Attack] = &[
    ("listening to the host's loopback", listening),
    ("the host's services from a private network", private),
];

const SECRET: &str = "a-password-on-its-way-over-loopback";

/// Programs of the host that talk to each other, until this is dropped.
struct Talk {
    stop: Arc<AtomicBool>,
    talking: Vec<JoinHandle<()>>,
    services: Vec<SocketAddr>,
}

impl Talk {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut talk = Self { stop, talking: Vec::new(), services: Vec::new() };
        let port = talk.serve("0.0.0.0:0").expect("a free port");
        talk.services = vec![SocketAddr::new([127, 0, 0, 1].into(), port)];
        if let Some(port) = talk.serve("[::1]:0") {
            talk.services.push(SocketAddr::new([0, 0, 0, 0, 0, 0, 0, 1].into(), port));
        }
        for address in talk.services.clone() {
            talk.repeat(move || {
                let mut heard = String::new();
                if let Ok(mut stream) = TcpStream::connect(address) {
                    let _ = stream.read_to_string(&mut heard);
                }
            });
        }
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = socket.local_addr().unwrap();
        talk.repeat(move || {
            let _ = socket.send_to(SECRET.as_bytes(), to);
        });
        talk
    }

    /// Tells the secret to whoever connects.
    fn serve(&mut self, address: &str) -> Option<u16> {
        let listener = TcpListener::bind(address).ok()?;
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        self.repeat(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let _ = stream.write_all(SECRET.as_bytes());
            }
        });
        Some(port)
    }

    fn repeat(&mut self, mut act: impl FnMut() + Send + 'static) {
        let stop = self.stop.clone();
        self.talking.push(std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                act();
                std::thread::sleep(Duration::from_millis(2));
            }
        }));
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for talking in self.talking.drain(..) {
            let _ = talking.join();
        }
    }
}

fn listening(session: &Session, findings: &mut Findings) -> Need<()> {
    let _talk = Talk::start();
    everywhere(session, findings, |place, inside, findings| {
        for network in ["host", "none"] {
            let flags: &[&str] = match (place.how, network) {
                (How::Step, "none") => &["--network=none"],
                (How::Container, "none") => &["--network", "none"],
                // Containers of one user reach the host's network by being told to, if at all.
                (How::Container, _) => &["--network", "host"],
                (How::Step, _) => &["--network=default"],
            };
            // Of loopback alone everything can be heard where nobody else is on it.
            let found = inside.attack(&[], &["sniff", SECRET], flags);
            judge(findings, &format!("{place}, {network}"), found, 9);
        }
    })
}

fn private(session: &Session, findings: &mut Findings) -> Need<()> {
    let talk = Talk::start();
    let addresses: Vec<String> = talk.services.iter().map(ToString::to_string).collect();
    let words: Vec<&str> =
        ["dial"].into_iter().chain(addresses.iter().map(String::as_str)).collect();
    let variables = [("CANARY_TEXT", SECRET.to_owned())];
    everywhere(session, findings, |place, inside, findings| {
        let networks: &[&[&str]] = match place.how {
            How::Step => &[&["--network=none"]],
            How::Container => &[
                &["--network", "private"],
                &["--network", "none"],
                &["--network", "private", "-p", "127.0.0.1::80"],
            ],
        };
        for flags in networks {
            let found = inside.attack(&variables, &words, flags);
            let name = format!("{place}, {}", flags.join(" "));
            match found {
                // Where nothing may make a tunnel there is no such network, and nothing starts.
                Err(why) if why.contains("cannot lead out of a private network") => {
                    findings.note(format!("none for {name}"));
                }
                found => judge(findings, &name, found, 1),
            }
        }
    })
}

/// Does something in every place that works here; errs where none does.
pub fn everywhere(
    session: &Session,
    findings: &mut Findings,
    act: impl Fn(Place, &Inside, &mut Findings),
) -> Need<()> {
    let (mut there, mut missing) = (Vec::new(), Missing::because("there are no places"));
    for place in places() {
        match Inside::new(session, place) {
            Ok(inside) => {
                act(place, &inside, findings);
                there.push(place.to_string());
            }
            Err(why) => missing = why,
        }
    }
    if there.is_empty() {
        return Err(missing);
    }
    findings.note(format!("in {} places", there.len()));
    Ok(())
}

/// Every line of the attacker's is an attempt.
pub fn judge(
    findings: &mut Findings,
    place: &str,
    found: Result<std::collections::BTreeMap<String, String>, String>,
    at_least: usize,
) {
    match found {
        Err(why) => findings.judge(place, Err(why)),
        Ok(found) => {
            if found.len() < at_least {
                let why = format!("{} of {at_least} actions were told of", found.len());
                findings.judge(place, Err(why));
            }
            for (name, result) in found {
                let reached = result.contains("REACHED");
                let outcome = if reached { Err(result) } else { Ok(()) };
                findings.judge(&format!("{place}: {name}"), outcome);
            }
        }
    }
}
