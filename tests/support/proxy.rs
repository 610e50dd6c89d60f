//! A company's proxy: it lets requests to AWS out, looks into TLS with an authority of its own, and writes down who
//! asked for what. Behind it, every host is the simulated AWS.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use aws_sandbox::{Answer, Sandbox};
use axum::{Router, body::Bytes, extract::Request, response::IntoResponse as _};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http_body_util::BodyExt as _;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, rustls};

use super::terraform::Served;

/// A request that passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// The host that was asked for, without its port.
    pub host: String,
    pub user_agent: String,
}

#[derive(Default)]
struct Book {
    passed: Vec<Passed>,
    /// What was asked for in front of TLS: the host, and with which user and password.
    tunnels: Vec<(String, Option<String>)>,
}

/// A proxy that runs as long as its account.
pub struct Proxy {
    pub port: u16,
    /// The certificate of its authority in PEM.
    pub authority: String,
    book: Arc<Mutex<Book>>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

struct Gate {
    issuer: Issuer<'static, KeyPair>,
    book: Arc<Mutex<Book>>,
}

/// What connections hold, in the order in which they begin to say something: a client may open one and keep it for
/// later.
struct Opened {
    local: SocketAddr,
    streams: mpsc::UnboundedReceiver<(Box<dyn Stream>, SocketAddr)>,
}

impl Gate {
    fn acceptor(&self, host: &str) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([host.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    /// What is inside of a connection: of a tunnel, or of one that speaks to the proxy itself.
    async fn open(&self, mut stream: TcpStream) -> Option<Box<dyn Stream>> {
        let mut first = [0; 8];
        loop {
            match stream.peek(&mut first).await.ok()? {
                0 => return None,
                count if count == first.len() => break,
                _ => tokio::task::yield_now().await,
            }
        }
        if &first != b"CONNECT " {
            return Some(Box::new(stream));
        }
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).ok()?;
        let host = head.split([' ', ':']).nth(1)?.to_owned();
        let login = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            let login = STANDARD.decode(value.strip_prefix("Basic ")?).ok()?;
            let login = String::from_utf8(login).ok()?;
            name.eq_ignore_ascii_case("proxy-authorization").then_some(login)
        });
        self.book.lock().unwrap().tunnels.push((host.clone(), login));
        stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.ok()?;
        // Whoever does not trust the authority goes away.
        Some(Box::new(self.acceptor(&host).accept(stream).await.ok()?))
    }
}

impl axum::serve::Listener for Opened {
    type Io = Box<dyn Stream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.streams.recv().await {
            Some(one) => one,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        Ok(self.local)
    }
}

async fn pass(
    sandbox: Sandbox,
    book: Arc<Mutex<Book>>,
    request: Request,
) -> axum::response::Response {
    let (parts, body) = request.into_parts();
    let header = |name: &str| {
        let value = parts.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let host = parts.uri.host().map_or_else(|| header("host"), str::to_owned);
    let host = host.split(':').next().unwrap_or_default().to_owned();
    let is_portal = host.starts_with("portal.sso.");
    book.lock().unwrap().passed.push(Passed { host, user_agent: header("user-agent") });
    if is_portal {
        return portal(&parts).into_response();
    }
    let body: Bytes = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    match sandbox.answer(Request::from_parts(parts, body)).await {
        Answer::Response(response) => response.map(axum::body::Body::from),
        Answer::Never | Answer::Dropped => axum::http::StatusCode::BAD_GATEWAY.into_response(),
    }
}

/// A session of a role that IAM Identity Center gives to whoever has signed in with this token.
pub const SIGNED_IN: &str = "signed-in";
/// The keys of that session. The account has to know them.
pub const DESK: (&str, &str) = ("ASIADESK000000000001", "token of the desk");

/// IAM Identity Center's portal, as its service model describes `GetRoleCredentials`.
fn portal(request: &axum::http::request::Parts) -> (axum::http::StatusCode, String) {
    let token = request.headers.get("x-amz-sso_bearer_token");
    let is_signed_in = token.is_some_and(|token| token.as_bytes() == SIGNED_IN.as_bytes());
    let asked = request.uri.query().unwrap_or_default();
    let is_for = |text: &str| asked.split('&').any(|one| one == text);
    if request.uri.path() != "/federation/credentials" {
        return (axum::http::StatusCode::NOT_FOUND, String::new());
    }
    if !is_signed_in || !is_for("account_id=123456789012") || !is_for("role_name=OnCall") {
        let refusal = r#"{"__type": "UnauthorizedException", "message": "Session token not found or invalid"}"#;
        return (axum::http::StatusCode::UNAUTHORIZED, refusal.to_owned());
    }
    let answer = serde_json::json!({"roleCredentials": {
        "accessKeyId": DESK.0, "secretAccessKey": "sandbox", "sessionToken": DESK.1,
        "expiration": 4_000_000_000_000_u64,
    }});
    (axum::http::StatusCode::OK, answer.to_string())
}

impl Proxy {
    pub fn of(served: &Served) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let authority = format!(
            "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
            STANDARD.encode(certificate.der())
        );
        let book = Arc::<Mutex<Book>>::default();
        let listener = served.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let local = listener.local_addr().unwrap();
        let gate = Arc::new(Gate { issuer: Issuer::new(params, key), book: Arc::clone(&book) });
        let (opened, streams) = mpsc::unbounded_channel();
        served.spawn(async move {
            loop {
                let Ok((stream, from)) = listener.accept().await else {
                    tokio::task::yield_now().await;
                    continue;
                };
                let (gate, opened) = (Arc::clone(&gate), opened.clone());
                tokio::spawn(async move {
                    if let Some(stream) = gate.open(stream).await {
                        let _ = opened.send((stream, from));
                    }
                });
            }
        });
        let (sandbox, into) = (served.sandbox.clone(), Arc::clone(&book));
        let router = Router::new()
            .fallback(move |request: Request| pass(sandbox.clone(), Arc::clone(&into), request));
        served.spawn(async move {
            let _ = axum::serve(Opened { local, streams }, router).await;
        });
        Self { port: local.port(), authority, book }
    }

    /// What passed since this was asked the last time.
    pub fn passed(&self) -> Vec<Passed> {
        std::mem::take(&mut self.book.lock().unwrap().passed)
    }

    /// The hosts of tunnels that were asked for since then, and with which user and password.
    pub fn tunnels(&self) -> Vec<(String, Option<String>)> {
        std::mem::take(&mut self.book.lock().unwrap().tunnels)
    }
}
