//! The life of the plugin's process.
//!
//! # Expected flow
//! Terraform starts the process, reads one line, connects once, calls, calls `Shutdown`, and waits for the
//! end. On an interrupt it calls `StopProvider` first and waits for the operation that is running.
//!
//! # Guarantees
//! - A SIGINT, which reaches the whole process group, changes nothing: Terraform decides.
//! - `Shutdown` answers only when no operation is running any more, or after [`DRAIN_LIMIT`]: a second
//!   Ctrl-C, at which Terraform calls it at once, still gets the state of the apply that is under way.
//! - When Terraform is gone (killed), operations are cancelled, and the process ends when they have.

use std::{io::Write as _, net::Ipv4Addr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::watch, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::Server;

use super::{
    Context, Cookie, HandshakeError, Provider,
    go_plugin::{Broker, Controller, Stdio},
    go_plugin_wire::{
        grpc_broker_server::GrpcBrokerServer, grpc_controller_server::GrpcControllerServer,
        grpc_stdio_server::GrpcStdioServer,
    },
    handshake::handshake_line,
    listener::{self, OpenConnections},
    service::Service,
    tls,
    wire::provider_server::ProviderServer,
};

/// How long operations may take to end once Terraform wants the process to end.
const DRAIN_LIMIT: Duration = Duration::from_secs(60);
/// How long without a connection means that Terraform is gone.
const ORPHANED_AFTER: Duration = Duration::from_secs(1);
/// How long Terraform may take for its first connection.
const FIRST_CONNECTION_LIMIT: Duration = Duration::from_secs(60);
/// Messages up to this size are taken and sent; Terraform's own limit.
const MESSAGE_LIMIT: usize = 256 << 20;

/// Why the plugin could not be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The environment that Terraform gave makes no sense.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// No port, or no standard output.
    #[error("cannot listen on the loopback interface")]
    Io(#[from] std::io::Error),
    /// The gRPC server failed.
    #[error("the plugin's gRPC server failed")]
    Server(#[from] tonic::transport::Error),
}

/// What the services share about the process's end.
#[derive(Clone, Debug, Default)]
pub(super) struct Lifecycle {
    cancel: CancellationToken,
    stop: CancellationToken,
    operations: TaskTracker,
}

impl Lifecycle {
    /// What an operation gets: fires when the user interrupts.
    pub(super) fn context(&self) -> Context {
        Context { cancel: self.cancel.clone() }
    }

    /// Ends the operations that are running, as soon as they can without forgetting anything.
    pub(super) fn interrupt(&self) {
        self.cancel.cancel();
    }

    /// Runs an operation that survives its caller. `None` when it panicked.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        operation: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        self.operations.spawn(operation).await.ok()
    }

    /// Waits until no operation is running, within [`DRAIN_LIMIT`], having interrupted them all.
    pub(super) async fn drain(&self) {
        self.interrupt();
        self.operations.close();
        if timeout(DRAIN_LIMIT, self.operations.wait()).await.is_err() {
            tracing::error!("operations were still running at the end");
        }
    }

    /// Ends the server.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// Resolves when the server ends.
    pub(super) fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        self.stop.clone().cancelled_owned()
    }
}

/// A plugin that listens and has not said so yet.
pub struct Host {
    provider: Arc<dyn Provider>,
    socket: TcpListener,
    identity: tls::Identity,
    handshake: String,
}

impl Host {
    /// Makes ready to serve `provider` to the Terraform that started this process.
    ///
    /// # Errors
    /// An environment that makes no sense, or no port.
    pub async fn bind(provider: Arc<dyn Provider>, cookie: &Cookie) -> Result<Self, ServeError> {
        ignore_interrupts()?;
        let identity = tls::identity_for(cookie.client_certificate()?)?;
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let handshake = handshake_line(socket.local_addr()?, &identity.certificate);
        Ok(Self { provider, socket, identity, handshake })
    }

    /// The one line that Terraform waits for on standard output.
    pub fn handshake(&self) -> &str {
        &self.handshake
    }

    /// Serves until Terraform ends it or is gone.
    ///
    /// # Errors
    /// A failure of the server itself.
    pub async fn run(self) -> Result<(), ServeError> {
        let incoming = listener::accept(self.socket, self.identity.config);
        let lifecycle = Lifecycle::default();
        tokio::spawn(end_when_orphaned(incoming.open, lifecycle.clone()));
        let service = ProviderServer::new(Service::within(self.provider, lifecycle.clone()))
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT);
        Server::builder()
            .add_service(service)
            .add_service(GrpcControllerServer::new(Controller::new(lifecycle.clone())))
            .add_service(GrpcStdioServer::new(Stdio::new(lifecycle.clone())))
            .add_service(GrpcBrokerServer::new(Broker::new(lifecycle.clone())))
            .serve_with_incoming_shutdown(incoming.connections, lifecycle.stopped())
            .await?;
        Ok(())
    }
}

/// Serves `provider` on standard output's word, until Terraform ends it.
///
/// # Errors
/// See [`ServeError`]; none of them leaves a server behind.
pub async fn serve(provider: Arc<dyn Provider>, cookie: &Cookie) -> Result<(), ServeError> {
    let host = Host::bind(provider, cookie).await?;
    {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", host.handshake())?;
        out.flush()?;
    }
    host.run().await
}

/// Takes SIGINT and does nothing with it, from before the handshake line on: Terraform gets the same
/// signal and calls `StopProvider`.
fn ignore_interrupts() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        let mut signals =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
        tokio::spawn(async move { while signals.recv().await.is_some() {} });
    }
    #[cfg(not(unix))]
    tokio::spawn(async { while tokio::signal::ctrl_c().await.is_ok() {} });
    Ok(())
}

async fn end_when_orphaned(mut open: watch::Receiver<OpenConnections>, lifecycle: Lifecycle) {
    let connected = open.wait_for(|count| count.ever > 0);
    if timeout(FIRST_CONNECTION_LIMIT, connected).await.is_err() {
        tracing::warn!("Terraform never connected; ending");
        return lifecycle.stop();
    }
    loop {
        if open.wait_for(|count| count.now == 0).await.is_err() {
            return;
        }
        if timeout(ORPHANED_AFTER, open.wait_for(|count| count.now > 0)).await.is_err() {
            tracing::warn!("Terraform is gone; ending what is running");
            lifecycle.drain().await;
            return lifecycle.stop();
        }
    }
}
