//! A TCP proxy on 127.0.0.1 in front of a database, which can delay what passes, hold it back, and cut it.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What becomes of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    Open,
    /// Each piece waits for this long.
    Slow(Duration),
    /// Everything is held back, and passes later.
    Stalled,
    /// All connections are dropped, new ones as well.
    Cut,
}

/// Listens until it is dropped; connections end with it.
pub(super) struct Proxy {
    port: u16,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy)]
struct State {
    upstream: u16,
    link: Link,
    /// Moves on at each cut: connections of an earlier one end.
    cuts: u64,
}

impl Proxy {
    /// In front of this port.
    pub(super) async fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (state, mut watched) = watch::channel(State { upstream, link: Link::Open, cuts: 0 });
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((client, _)) = accepted else { continue };
                        tokio::spawn(connect(client, watched.clone()));
                    }
                    changed = watched.changed() => if changed.is_err() { return },
                }
            }
        });
        Self { port, state }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn set(&self, link: Link) {
        self.state.send_modify(|state| {
            state.link = link;
            state.cuts += u64::from(link == Link::Cut);
        });
    }

    /// From now on connections go to this port; those to the old one are cut.
    pub(super) fn lead_to(&self, upstream: u16) {
        self.state.send_modify(|state| {
            state.upstream = upstream;
            state.cuts += 1;
        });
    }
}

async fn connect(mut client: TcpStream, mut state: watch::Receiver<State>) {
    let cuts = state.borrow().cuts;
    if pass(&mut state, cuts).await.is_none() {
        // Hung up in good order, as by a proxy whose database is away: what was not read would make it a reset.
        let _ = tokio::time::timeout(Duration::from_millis(50), client.read(&mut [0; 64])).await;
        return;
    }
    let upstream = state.borrow().upstream;
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // One side's end is the end of both.
    tokio::select! {
        () = pump(from_client, to_server, state.clone(), cuts) => {}
        () = pump(from_server, to_client, state, cuts) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<State>, cuts: u64) {
    let mut piece = vec![0; 16 * 1024];
    loop {
        let read = tokio::select! {
            read = from.read(&mut piece) => read.unwrap_or(0),
            () = cut(state.clone(), cuts) => return,
        };
        if read == 0 || pass(&mut state, cuts).await.is_none() || to.write_all(&piece[..read]).await.is_err() {
            return;
        }
    }
}

/// Waits until a piece may pass; `None` when its connection is cut.
async fn pass(state: &mut watch::Receiver<State>, cuts: u64) -> Option<()> {
    loop {
        let State { link, cuts: now, .. } = *state.borrow_and_update();
        match link {
            _ if now != cuts => return None,
            Link::Open => return Some(()),
            Link::Slow(delay) => {
                tokio::time::sleep(delay).await;
                return (state.borrow().cuts == cuts).then_some(());
            }
            Link::Cut => return None,
            Link::Stalled => state.changed().await.ok()?,
        }
    }
}

/// Waits until connections of this age are cut.
async fn cut(mut state: watch::Receiver<State>, cuts: u64) {
    // An error says that the proxy is gone.
    let _ = state.wait_for(|state| state.cuts != cuts).await;
}
