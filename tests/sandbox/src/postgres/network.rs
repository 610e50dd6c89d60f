//! The network as clients see it: one port for whoever is at a place in it. The name that TLS carries says which
//! database is meant; routes, security groups, outages and the name's records decide who gets through. Replicas
//! follow their sources over links of their own, as on RDS, where replication does not take the peering (aws-facts
//! 1.1).

use std::{
    io,
    sync::{Arc, Weak},
};

use rustls::server::Acceptor;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::LazyConfigAcceptor;

use super::Laboratory;
use crate::{Sandbox, Source, world::World};

/// What a PostgreSQL client asks for TLS with: the length, and the code of the request.
const TLS_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
/// How often, in milliseconds of the account's time, an open connection looks whether its way still exists.
const LOOK: u64 = 1000;
/// How long, in milliseconds of the account's time, a connection that leads nowhere is held: longer than anybody
/// waits for one.
const FORGOTTEN: u64 = 600_000;

/// Where a name leads to from a place.
struct Way {
    instance: (String, String),
    /// The instance's own endpoint's name.
    endpoint: String,
}

/// An instance's endpoint, or what the records of a private zone lead to.
fn find(world: &World, from: &Source, name: &str) -> Option<Way> {
    let own = |endpoint: &str| {
        let endpoint = endpoint.trim_end_matches('.');
        let instance = world.instance_at(endpoint)?;
        Some(Way { instance, endpoint: endpoint.to_owned() })
    };
    own(name).or_else(|| own(&world.resolve(&from.vpc, name).first()?.0))
}

/// Serves a place: every connection to `listener` is one from there.
pub(super) async fn serve(laboratory: Weak<Laboratory>, from: Source, listener: TcpListener) {
    let from = Arc::new(from);
    while let Ok((client, _)) = listener.accept().await {
        let Some(lab) = laboratory.upgrade() else { return };
        let from = Arc::clone(&from);
        tokio::spawn(async move {
            let _ = connection(&lab, &from, client).await;
        });
    }
}

/// An error as PostgreSQL's protocol says it.
fn error(code: &str, message: &str) -> Vec<u8> {
    let mut fields = Vec::new();
    for (kind, text) in [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', code), (b'M', message)] {
        fields.push(kind);
        fields.extend_from_slice(text.as_bytes());
        fields.push(0);
    }
    fields.push(0);
    let length = u32::try_from(fields.len() + 4).unwrap_or(0);
    [&b"E"[..], &length.to_be_bytes(), &fields].concat()
}

async fn connection(lab: &Laboratory, from: &Source, mut client: TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut head = [0; 8];
    client.read_exact(&mut head).await?;
    // Which instance is meant, only TLS says here: without it nobody gets in, whatever rds.force_ssl is.
    if head != TLS_REQUEST {
        let text = "no pg_hba.conf entry for this host, no encryption";
        client.write_all(&error("28000", text)).await?;
        return client.shutdown().await;
    }
    client.write_all(b"S").await?;
    let start = LazyConfigAcceptor::new(Acceptor::default(), client).await?;
    let name = start.client_hello().server_name().unwrap_or_default().to_owned();
    let way = lab.sandbox.with(|world| {
        find(world, from, &name).filter(|way| world.lets_through(from, &way.instance))
    });
    let Some(way) = way else {
        // Nobody answers.
        lab.sandbox.pass(FORGOTTEN).await;
        return Ok(());
    };
    let Some(contact) = lab.contact(&way.instance) else {
        return Err(io::ErrorKind::ConnectionRefused.into());
    };
    let config = lab.authority.server(&way.endpoint).map_err(io::Error::other)?;
    let mut client = start.into_stream(config).await?;
    let mut server = TcpStream::connect(("127.0.0.1", contact.port)).await?;
    server.set_nodelay(true)?;
    // Rules that go leave connections that are open alone (aws-facts 12b).
    let is_joined = || lab.sandbox.with(|world| world.is_joined(from, &way.instance));
    carry(&lab.sandbox, &mut client, &mut server, is_joined).await
}

/// Carries bytes both ways while there is a way. What is cut says nothing: both ends find out by themselves.
async fn carry<A, B>(
    sandbox: &Sandbox,
    one: &mut A,
    other: &mut B,
    is_joined: impl Fn() -> bool,
) -> io::Result<()>
where
    A: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    B: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let cut = async {
        while is_joined() {
            sandbox.pass(LOOK).await;
        }
    };
    let done = tokio::select! {
        done = copy_bidirectional(one, other) => done.map(|_| ()),
        () = cut => Ok(()),
    };
    if !is_joined() {
        sandbox.pass(FORGOTTEN).await;
    }
    done
}

/// A port over which a replica follows its source.
pub(super) async fn link(
    lab: &Arc<Laboratory>,
    replica: &(String, String),
    source: &(String, String),
) -> io::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let (lab, replica, source) = (Arc::downgrade(lab), replica.clone(), source.clone());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Some(lab) = lab.upgrade() else { return };
            let (replica, source) = (replica.clone(), source.clone());
            tokio::spawn(async move { linked(&lab, &replica, &source, client).await });
        }
    });
    Ok(port)
}

async fn linked(
    lab: &Laboratory,
    replica: &(String, String),
    source: &(String, String),
    mut client: TcpStream,
) -> io::Result<()> {
    let is_joined = || {
        lab.sandbox.with(|world| {
            !world.is_dark(&replica.0)
                && !world.is_dark(&source.0)
                && !world.is_cut(&replica.0, &source.0)
        })
    };
    if !is_joined() {
        lab.sandbox.pass(FORGOTTEN).await;
        return Ok(());
    }
    let contact = lab.contact(source).ok_or(io::ErrorKind::ConnectionRefused)?;
    let mut server = TcpStream::connect(("127.0.0.1", contact.port)).await?;
    carry(&lab.sandbox, &mut client, &mut server, is_joined).await
}
