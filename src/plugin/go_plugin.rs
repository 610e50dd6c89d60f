//! The services of HashiCorp's go-plugin that every plugin carries.

use std::pin::Pin;

use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use super::{
    go_plugin_wire::{
        ConnInfo, Nothing, StdioData, grpc_broker_server::GrpcBroker,
        grpc_controller_server::GrpcController, grpc_stdio_server::GrpcStdio,
    },
    host::Lifecycle,
};

type Silence<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A stream that says nothing until the server ends: go-plugin opens it and reads on.
fn silence<T: Send + 'static>(lifecycle: &Lifecycle) -> Silence<T> {
    let (keep, receiver) = tokio::sync::mpsc::channel::<Result<T, Status>>(1);
    let stopped = lifecycle.stopped();
    tokio::spawn(async move {
        stopped.await;
        drop(keep);
    });
    Box::pin(tokio_stream::wrappers::ReceiverStream::new(receiver))
}

/// Ends the process when Terraform says so. Without it, every process costs two seconds and is killed.
pub(super) struct Controller(Lifecycle);

impl Controller {
    pub(super) fn new(lifecycle: Lifecycle) -> Self {
        Self(lifecycle)
    }
}

#[tonic::async_trait]
impl GrpcController for Controller {
    async fn shutdown(&self, _: Request<Nothing>) -> Result<Response<Nothing>, Status> {
        self.0.drain().await;
        self.0.stop();
        Ok(Response::new(Nothing {}))
    }
}

/// Would carry our standard output and error; logs go to standard error directly.
pub(super) struct Stdio(Lifecycle);

impl Stdio {
    pub(super) fn new(lifecycle: Lifecycle) -> Self {
        Self(lifecycle)
    }
}

#[tonic::async_trait]
impl GrpcStdio for Stdio {
    type StreamStdioStream = Silence<StdioData>;

    async fn stream_stdio(
        &self,
        _: Request<Nothing>,
    ) -> Result<Response<Self::StreamStdioStream>, Status> {
        Ok(Response::new(silence(&self.0)))
    }
}

/// Would open further channels; Terraform's providers use none.
pub(super) struct Broker(Lifecycle);

impl Broker {
    pub(super) fn new(lifecycle: Lifecycle) -> Self {
        Self(lifecycle)
    }
}

#[tonic::async_trait]
impl GrpcBroker for Broker {
    type StartStreamStream = Silence<ConnInfo>;

    async fn start_stream(
        &self,
        request: Request<Streaming<ConnInfo>>,
    ) -> Result<Response<Self::StartStreamStream>, Status> {
        let (mut theirs, stopped) = (request.into_inner(), self.0.stopped());
        tokio::spawn(async move {
            let read = async { while let Some(Ok(_)) = theirs.next().await {} };
            tokio::select! { () = read => {}, () = stopped => {} }
        });
        Ok(Response::new(silence(&self.0)))
    }
}
