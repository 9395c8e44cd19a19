//! Programs that tests put somewhere to start them there.
//!
//! A file that any process has open for writing cannot be started ("text file busy"), and a child that
//! another thread of the tests forks has every open file for a moment. So another process writes them.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::need::succeed;

/// Copies a program to a place where everybody may start it.
pub fn install(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    let mut install = Command::new("install");
    succeed(install.args(["-m", "755"]).args([from.as_ref(), to.as_ref()]));
}

/// Writes a script that everybody may start; folders on the way are made.
pub fn install_script(text: &str, to: impl AsRef<Path>) {
    let mut install = Command::new("install");
    install.args(["-D", "-m", "755", "/dev/stdin"]).arg(to.as_ref()).stdin(Stdio::piped());
    let mut child = install.spawn().expect("install is everywhere");
    child.stdin.take().expect("it is a pipe").write_all(text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{install:?}");
}
