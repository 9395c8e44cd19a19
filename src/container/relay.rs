//! Carries connections from published ports into a container's own network.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::{JoinSet, spawn_blocking};

use super::ports::Published;
use crate::error::{Cannot as _, Result};

/// Opens a connection to a port inside.
pub(super) type Connect = dyn Fn(u16) -> Result<std::net::TcpStream> + Send + Sync;

/// How long accepting rests when this process has too many open files.
const REST: Duration = Duration::from_millis(50);

/// Published ports at work. Dropped, every connection is closed.
pub(super) struct Relay(#[expect(dead_code, reason = "dropping it is what ends it")] JoinSet<()>);

impl Relay {
    /// Takes connections on every port, from now on. Needs a running runtime.
    pub(super) fn start(
        listening: Vec<(Published, TcpListener)>,
        connect: &Arc<Connect>,
    ) -> Result<Self> {
        let mut taking = JoinSet::new();
        for (port, listener) in listening {
            let listener = tokio::net::TcpListener::from_std(listener)
                .cannot(|| format!("publish port {}", port.host))?;
            taking.spawn(take_all(listener, port.container, connect.clone()));
        }
        Ok(Self(taking))
    }
}

async fn take_all(listener: tokio::net::TcpListener, port: u16, connect: Arc<Connect>) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            taken = listener.accept() => match taken {
                Ok((outer, _)) => { open.spawn(carry(outer, port, connect.clone())); }
                // One that went away again is no reason to stop; too many are one to rest.
                Err(_) => tokio::time::sleep(REST).await,
            },
            Some(_) = open.join_next() => {}
        }
    }
}

/// Carries both directions, each until its own end: whoever has sent all may still receive.
async fn carry(mut outer: TcpStream, port: u16, connect: Arc<Connect>) {
    // Where nobody listens inside, the connection is closed, as by a proxy of docker's.
    let Ok(Ok(inner)) = spawn_blocking(move || connect(port)).await else { return };
    if inner.set_nonblocking(true).is_err() {
        return;
    }
    let Ok(mut inner) = TcpStream::from_std(inner) else { return };
    let _ = outer.set_nodelay(true);
    let _ = inner.set_nodelay(true);
    // A connection that breaks off concerns its two ends alone.
    let _ = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::{Shutdown, SocketAddr, TcpStream as Plain};

    use crate::container::ports::listen;
    use crate::error::{Error, ErrorKind};

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    #[test]
    fn whoever_has_sent_all_still_receives() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let inside = TcpListener::bind(any).unwrap();
        let address = inside.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = inside.accept().unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            stream.write_all(text.to_uppercase().as_bytes()).unwrap();
        });
        let runtime = runtime();
        let _within = runtime.enter();
        let listening = listen(&[Published { host: any, container: 80 }]).unwrap();
        let host = listening[0].0.host;
        let connect = move |port: u16| {
            assert_eq!(port, 80);
            Plain::connect(address).cannot(|| "connect")
        };
        let relay = Relay::start(listening, &(Arc::new(connect) as Arc<Connect>)).unwrap();
        let mut client = Plain::connect(host).unwrap();
        client.write_all(b"hello").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "HELLO");
        server.join().unwrap();
        drop(relay);
    }

    #[test]
    fn where_nobody_listens_inside_the_connection_is_closed() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let runtime = runtime();
        let _within = runtime.enter();
        let listening = listen(&[Published { host: any, container: 80 }]).unwrap();
        let host = listening[0].0.host;
        let refuse = |_: u16| Err(Error::new(ErrorKind::Network, "connect"));
        let _relay = Relay::start(listening, &(Arc::new(refuse) as Arc<Connect>)).unwrap();
        let mut client = Plain::connect(host).unwrap();
        assert_eq!(client.read(&mut [0; 1]).unwrap_or(0), 0);
    }
}
