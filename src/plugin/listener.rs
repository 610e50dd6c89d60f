//! Accepts connections, makes TLS of them, and counts those that are open.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

/// How long a caller may take for its TLS handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// How many handshakes may be under way: room for slow callers, and an end to what a flood can hold. Below the
/// 1024 descriptors that a process usually may have.
const HANDSHAKES: usize = 512;
/// How long a handshake has for sure when others wait for its place: Terraform's takes milliseconds.
const HANDSHAKE_ROOM: Duration = Duration::from_millis(500);
/// How long to wait when there is no descriptor, or no place yet.
const NO_ROOM: Duration = Duration::from_millis(10);

/// Connections that have proven who they are, and how many of them are open.
pub(super) struct Incoming {
    pub(super) connections: ReceiverStream<io::Result<Connection>>,
    pub(super) open: watch::Receiver<OpenConnections>,
}

/// How many connections there are and were.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OpenConnections {
    pub(super) now: usize,
    pub(super) ever: usize,
}

/// Starts accepting on `listener`. Every handshake runs in a task of its own, so that a caller that says
/// nothing keeps nobody else waiting, and neither do any number of them.
pub(super) fn accept(listener: TcpListener, config: Arc<ServerConfig>) -> Incoming {
    let (sender, receiver) = mpsc::channel(16);
    let (counter, open) = watch::channel(OpenConnections::default());
    let acceptor = TlsAcceptor::from(config);
    tokio::spawn(async move {
        let counter = Arc::new(counter);
        let mut under_way = VecDeque::new();
        while !sender.is_closed() {
            let Ok((socket, from)) = listener.accept().await else {
                sleep(NO_ROOM).await;
                continue;
            };
            make_room(&mut under_way).await;
            let (acceptor, sender) = (acceptor.clone(), sender.clone());
            let counter = Arc::clone(&counter);
            let handshake = tokio::spawn(async move {
                let connection = match timeout(HANDSHAKE_LIMIT, secure(&acceptor, socket)).await {
                    Ok(Ok(stream)) => Connection::new(stream, counter),
                    // Terraform keeps all that is logged, and a flood is a line for each of its callers.
                    Ok(Err(error)) => {
                        return tracing::debug!(%from, %error, "a caller was turned away");
                    }
                    Err(_) => {
                        return tracing::debug!(%from, "a caller did not finish its TLS handshake");
                    }
                };
                // Who has come this far is Terraform, and is not ended for those behind it.
                tokio::spawn(async move { sender.send(Ok(connection)).await });
            });
            under_way.push_back((Instant::now(), handshake.abort_handle()));
        }
    });
    Incoming { connections: ReceiverStream::new(receiver), open }
}

/// Waits until there is room for one more handshake, and ends the oldest for it.
async fn make_room(under_way: &mut VecDeque<(Instant, AbortHandle)>) {
    loop {
        under_way.retain(|(_, one)| !one.is_finished());
        if under_way.len() < HANDSHAKES {
            return;
        }
        if under_way.front().is_some_and(|(since, _)| since.elapsed() >= HANDSHAKE_ROOM)
            && let Some((_, oldest)) = under_way.pop_front()
        {
            return oldest.abort();
        }
        sleep(NO_ROOM).await;
    }
}

async fn secure(acceptor: &TlsAcceptor, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    socket.set_nodelay(true)?;
    let stream = acceptor.accept(socket).await?;
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        Ok(stream)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "the caller does not speak HTTP/2"))
    }
}

/// A connection from Terraform; dropping it counts it as closed.
pub(super) struct Connection {
    stream: TlsStream<TcpStream>,
    counter: Arc<watch::Sender<OpenConnections>>,
}

impl Connection {
    fn new(stream: TlsStream<TcpStream>, counter: Arc<watch::Sender<OpenConnections>>) -> Self {
        counter.send_modify(|count| {
            count.now += 1;
            count.ever += 1;
        });
        Self { stream, counter }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.counter.send_modify(|count| count.now -= 1);
    }
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
