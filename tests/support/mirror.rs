//! Places that `terraform init` installs from: a folder, and a server that speaks TLS.

use std::{
    io::{Cursor, Read as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{Router, extract::Request, http::StatusCode, response::IntoResponse as _};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, rustls, server::TlsStream};

use super::{repository, terraform::Served};

/// Where a mirror keeps the provider.
pub const PLACE: &str = "registry.terraform.io/tradingdr/trading";

/// A zip's hash as Terraform's lock file has it: of the names and contents that are in it.
pub fn lock_hash(zip: &Path) -> String {
    let bytes = std::fs::read(zip).unwrap();
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
    let mut names = archive.file_names().map(|name| name.unwrap().into_owned()).collect::<Vec<_>>();
    names.sort();
    let mut lines = String::new();
    for name in names {
        let mut content = Vec::new();
        archive.by_name(&name).unwrap().read_to_end(&mut content).unwrap();
        let digest = Sha256::digest(&content);
        let hex = digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        lines.push_str(&format!("{hex}  {name}\n"));
    }
    format!("h1:{}", STANDARD.encode(Sha256::digest(lines.as_bytes())))
}

/// A folder of zips that is served by the protocol of network mirrors.
pub struct Mirror {
    pub url: String,
    /// The certificate that whoever installs has to trust.
    pub certificate: String,
}

struct Tls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, from)) = self.listener.accept().await else { continue };
            // Whoever does not trust the certificate goes away.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

impl Mirror {
    /// Serves the zip of one version and platform, until the account is gone.
    pub fn of(served: &Served, zip: &Path, version: &str) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der());
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.unwrap())
        .unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let listener = served.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let tls = Tls { listener, acceptor: TlsAcceptor::from(Arc::new(config)) };
        let name = zip.file_name().unwrap().to_str().unwrap().to_owned();
        let platform = name.trim_end_matches(".zip").rsplitn(3, '_').take(2).collect::<Vec<_>>();
        let platform = format!("{}_{}", platform[1], platform[0]);
        let archives = json!({platform: {"url": name, "hashes": [lock_hash(zip)]}});
        let pages = [
            ("index.json".to_owned(), json!({"versions": {version: {}}}).to_string().into_bytes()),
            (format!("{version}.json"), json!({"archives": archives}).to_string().into_bytes()),
            (name, std::fs::read(zip).unwrap()),
        ];
        let pages = Arc::new(pages.map(|(name, page)| (format!("/{PLACE}/{name}"), page)));
        let router = Router::new().fallback(move |request: Request| {
            let pages = Arc::clone(&pages);
            async move {
                let asked = request.uri().path();
                match pages.iter().find(|(path, _)| path == asked) {
                    Some((path, page)) => {
                        let json = path.ends_with(".json");
                        let kind = if json { "application/json" } else { "application/zip" };
                        ([("content-type", kind)], page.clone()).into_response()
                    }
                    None => StatusCode::NOT_FOUND.into_response(),
                }
            }
        });
        served.spawn(async move {
            let _ = axum::serve(tls, router).await;
        });
        let certificate = format!(
            "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
            STANDARD.encode(made.cert.der())
        );
        Self { url: format!("https://localhost:{port}/"), certificate }
    }
}

/// The package that the provider makes of itself and of an archive, in the folder `mirror` as a mirror has it.
pub fn package(agent: &Path, mirror: &Path) -> PathBuf {
    let place = mirror.join(PLACE);
    let program = env!("CARGO_BIN_EXE_terraform-provider-trading");
    let license = repository().join("LICENSE");
    let done = std::process::Command::new(program)
        .args([Path::new("package"), &place, &license])
        .env("TRADING_AGENT_ZIP", agent)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let zip = String::from_utf8_lossy(&done.stdout);
    format!("{}.zip", zip.split_once(".zip: ").unwrap().0).into()
}
