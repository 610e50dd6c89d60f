//! How requests leave the machine: through which proxies, trusting whom, and under which name.

use std::{fmt, time::Duration};

use aws_smithy_http_client::{
    Builder, Connector,
    proxy::{ProxyConfig, ProxyError},
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::{
    client::{
        http::{
            HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings,
            SharedHttpClient, SharedHttpConnector,
        },
        orchestrator::HttpRequest,
        runtime_components::RuntimeComponents,
    },
    shared::IntoShared,
};
use http::HeaderValue;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

/// What is never asked for through a proxy: this machine, and who gives credentials to instances and containers.
const NEARBY: &str = "localhost,127.0.0.0/8,::1,169.254.0.0/16,fe80::/10,fd00:ec2::/32";

/// How requests leave the machine, as far as somebody chose; the environment's choice counts for the rest
/// (`HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`, `AWS_CA_BUNDLE`).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// The proxy for `http://`; empty: none, whatever the environment says.
    pub http_proxy: Option<String>,
    /// The proxy for `https://`; empty: none.
    pub https_proxy: Option<String>,
    /// Hosts that are reached without a proxy, with commas between them.
    pub no_proxy: Option<String>,
    /// A file with the certificates in PEM that are trusted instead of the system's.
    pub ca_bundle: Option<String>,
    /// What the SDK's user agent is put behind.
    pub user_agent: String,
    /// What is put behind the SDK's user agent.
    pub more_user_agent: Option<String>,
}

/// A proxy's URL may hold a password.
impl fmt::Debug for Network {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept_out = |url: &Option<String>| url.as_ref().map(|_| "kept out");
        out.debug_struct("Network")
            .field("http_proxy", &kept_out(&self.http_proxy))
            .field("https_proxy", &kept_out(&self.https_proxy))
            .field("no_proxy", &self.no_proxy)
            .field("ca_bundle", &self.ca_bundle)
            .finish_non_exhaustive()
    }
}

/// A choice that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct NetworkError {
    /// Who made it: the field of [`Network`], or the environment variable.
    pub chosen_by: &'static str,
    /// Why not.
    pub why: String,
}

/// A text and who chose it.
struct Choice {
    text: String,
    by: &'static str,
}

impl Choice {
    fn wrong(&self, why: impl Into<String>) -> NetworkError {
        NetworkError { chosen_by: self.by, why: why.into() }
    }
}

type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What was chosen, or else what the first of these variables says; nothing where that is empty.
fn choose(
    own: Option<&String>,
    field: &'static str,
    names: &[&'static str],
    variables: Variables<'_>,
) -> Option<Choice> {
    let of_environment = || {
        let set = |by: &&'static str| Some((*by, variables(by).filter(|text| !text.is_empty())?));
        names.iter().find_map(set).map(|(by, text)| Choice { text, by })
    };
    let chosen = own.map(|text| Choice { text: text.clone(), by: field });
    chosen.or_else(of_environment).filter(|choice| !choice.text.is_empty())
}

impl Network {
    /// What sends requests like that.
    ///
    /// # Errors
    /// A choice cannot be followed.
    pub fn client(&self) -> Result<SharedHttpClient, NetworkError> {
        self.client_in(&|name| std::env::var(name).ok())
    }

    fn client_in(&self, variables: Variables<'_>) -> Result<SharedHttpClient, NetworkError> {
        let trust = self.trust(variables)?;
        let no_proxy =
            choose(self.no_proxy.as_ref(), "no_proxy", &["NO_PROXY", "no_proxy"], variables);
        let around = no_proxy.map_or_else(String::new, |own| own.text);
        let around: Vec<_> = [NEARBY]
            .into_iter()
            .chain(around.split(',').map(host))
            .filter(|one| !one.is_empty())
            .collect();
        let around = around.join(",");
        let proxied =
            |choice: Option<Choice>, by_scheme: fn(&str) -> Result<ProxyConfig, ProxyError>| {
                let Some(choice) = choice else { return Ok(ProxyConfig::disabled()) };
                // As curl and Go read it.
                let url = if choice.text.contains("://") {
                    choice.text.clone()
                } else {
                    format!("http://{}", choice.text)
                };
                let authority = url.split_once("://").map_or("", |(_, rest)| rest);
                let rest = authority.find(['/', '?', '#']).map_or("", |end| &authority[end..]);
                // The text may hold a password: it is not repeated.
                if rest.contains('@') {
                    return Err(
                        choice.wrong("a password in a proxy's URL is percent-encoded: %23 for #")
                    );
                }
                let why =
                    "a proxy's URL is written as http://proxy.example.com:3128, or with https://";
                by_scheme(&url).map(|proxy| proxy.no_proxy(&around)).map_err(|_| choice.wrong(why))
            };
        let https = choose(
            self.https_proxy.as_ref(),
            "https_proxy",
            &["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"],
            variables,
        );
        let https = proxied(https, |url| ProxyConfig::https(url))?;
        let http = choose(
            self.http_proxy.as_ref(),
            "http_proxy",
            &["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"],
            variables,
        );
        // AWS is not called by http://: one for everything that cannot be used is told above, or not meant.
        let is_for_all = http.as_ref().is_some_and(|one| one.by.eq_ignore_ascii_case("ALL_PROXY"));
        let http = match proxied(http, |url| ProxyConfig::http(url)) {
            Err(_) if is_for_all => ProxyConfig::disabled(),
            other => other?,
        };
        let name = Name {
            before: header(&self.user_agent, "user_agent")?,
            after: header(self.more_user_agent.as_deref().unwrap_or(""), "TF_APPEND_USER_AGENT")?,
        };
        let client = Outbound { http: client(http, &trust), https: client(https, &trust), name };
        Ok(SharedHttpClient::new(client))
    }

    /// Whom to trust.
    fn trust(&self, variables: Variables<'_>) -> Result<TlsContext, NetworkError> {
        let bundle =
            choose(self.ca_bundle.as_ref(), "custom_ca_bundle", &["AWS_CA_BUNDLE"], variables);
        let Some(bundle) = bundle else { return Ok(TlsContext::default()) };
        let path = &bundle.text;
        let pem = std::fs::read(path)
            .map_err(|error| bundle.wrong(format!("the file {path} cannot be read: {error}")))?;
        // The SDK takes the file for good: what is wrong with it shows here, or as a crash there.
        let mut count = 0;
        for one in CertificateDer::pem_slice_iter(&pem) {
            count += 1;
            one.map_err(|error| error.to_string())
                .and_then(|one| {
                    rustls::RootCertStore::empty().add(one).map_err(|error| error.to_string())
                })
                .map_err(|why| {
                    bundle.wrong(format!("certificate {count} of {path} cannot be used: {why}"))
                })?;
        }
        if count == 0 {
            let why = format!(
                "the file {path} holds no certificate in PEM (-----BEGIN CERTIFICATE-----)"
            );
            return Err(bundle.wrong(why));
        }
        let store = TrustStore::empty().with_pem_certificate(pem);
        let context = TlsContext::builder().with_trust_store(store).build();
        context.map_err(|error| bundle.wrong(error.to_string()))
    }
}

/// An entry of a list of hosts as the client takes it: `*.example.com` is meant with `.example.com`, and a port says
/// nothing.
fn host(entry: &str) -> &str {
    let entry = entry.trim();
    let entry = entry.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(entry);
    match entry.rsplit_once(':') {
        Some((host, port))
            if !host.contains(':') && port.bytes().all(|digit| digit.is_ascii_digit()) =>
        {
            host
        }
        _ => entry,
    }
}

fn header(text: &str, chosen_by: &'static str) -> Result<String, NetworkError> {
    let text = text.trim();
    match HeaderValue::from_str(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(NetworkError {
            chosen_by,
            why: "a user agent is one line of printable characters".to_owned(),
        }),
    }
}

/// What sends requests of one scheme.
fn client(proxy: ProxyConfig, trust: &TlsContext) -> SharedHttpClient {
    let trust = trust.clone();
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut builder = Connector::builder().proxy_config(proxy.clone());
        builder.set_connector_settings(settings.cloned());
        builder.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        builder.tls_provider(Provider::Rustls(CryptoMode::AwsLc)).tls_context(trust.clone()).build()
    })
}

/// How long a connection may idle that a function keeps from one run to the next: Lambda freezes it between them, and AWS may
/// have closed the connection meanwhile, which only the next request would notice.
const FUNCTION_IDLE: Duration = Duration::from_secs(15);

/// What sends the requests of a function: directly, and soon with new connections.
pub fn function_client() -> SharedHttpClient {
    Builder::new().build_with_connector_fn(|settings, components| {
        let mut builder = Connector::builder().pool_idle_timeout(FUNCTION_IDLE);
        builder.set_connector_settings(settings.cloned());
        builder.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        builder.tls_provider(Provider::Rustls(CryptoMode::AwsLc)).build()
    })
}

/// What the user agent is put between.
#[derive(Clone, Debug)]
struct Name {
    before: String,
    after: String,
}

/// Sends each request by its scheme, under our name.
#[derive(Clone, Debug)]
struct Outbound<T> {
    http: T,
    https: T,
    name: Name,
}

impl HttpClient for Outbound<SharedHttpClient> {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let http = self.http.http_connector(settings, components);
        let https = self.https.http_connector(settings, components);
        Outbound { http, https, name: self.name.clone() }.into_shared()
    }
}

impl HttpConnector for Outbound<SharedHttpConnector> {
    fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
        // It is not part of what is signed; AWS's own logs keep it.
        let sdk = request.headers().get("user-agent").unwrap_or_default().to_owned();
        let parts = [&self.name.before, &sdk, &self.name.after];
        let parts: Vec<_> = parts.into_iter().filter(|one| !one.is_empty()).cloned().collect();
        if !parts.is_empty() {
            request.headers_mut().insert("user-agent", parts.join(" "));
        }
        if request.uri().starts_with("http://") {
            self.http.call(request)
        } else {
            self.https.call(request)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(network: &Network, variables: &[(&str, &str)]) -> Option<(&'static str, String)> {
        let variables = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, text)| (*text).to_owned())
        };
        network.client_in(&variables).err().map(|error| (error.chosen_by, error.why))
    }

    #[test]
    fn a_proxy_is_a_url_and_its_password_is_not_repeated() {
        let of = |url: &str| Network { https_proxy: Some(url.into()), ..Network::default() };
        for good in ["", "http://proxy:3128", "https://user:secret@proxy.example.com", "proxy:3128"]
        {
            assert_eq!(wrong(&of(good), &[]), None, "{good}");
        }
        for bad in ["socks5://user:secret@proxy:1080", "http://", "http://user:secret@ proxy"] {
            let (by, why) = wrong(&of(bad), &[]).unwrap();
            assert_eq!(by, "https_proxy");
            assert!(!why.contains("secret"), "{why}");
        }
        let environment = [("ALL_PROXY", "socks5://proxy:1080")];
        assert_eq!(wrong(&Network::default(), &environment).unwrap().0, "ALL_PROXY");
        let of = |url: &str| Network { https_proxy: Some(url.into()), ..Network::default() };
        // Only where it is needed.
        assert_eq!(wrong(&of("http://proxy:3128"), &environment), None);
        assert!(wrong(&of("http://anna:a#b@proxy"), &[]).unwrap().1.contains("percent-encoded"));
        assert!(!format!("{:?}", of("http://anna:secret@proxy")).contains("secret"));
        // An empty choice is one: no proxy, whatever the environment says.
        let none = Network { http_proxy: Some(String::new()), ..of("") };
        assert_eq!(wrong(&none, &environment), None);
    }

    #[test]
    fn a_bundle_that_cannot_be_used_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let empty = path("empty.pem", "");
        let garbage =
            path("garbage.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let good = rcgen::generate_simple_self_signed(["aws.example".to_owned()]).unwrap();
        let good = format!(
            "# a comment\n-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
            base64::Engine::encode(
                &base64::engine::general_purpose::STANDARD,
                good.cert.der().as_ref()
            )
        );
        let good = path("good.pem", &good);
        for (bundle, told) in [
            ("/nowhere/ca.pem", "/nowhere/ca.pem cannot be read"),
            (&empty, "holds no certificate"),
            (&garbage, "certificate 1 of"),
        ] {
            let (by, why) = wrong(&Network::default(), &[("AWS_CA_BUNDLE", bundle)]).unwrap();
            assert_eq!(by, "AWS_CA_BUNDLE");
            assert!(why.contains(told), "{why}");
            let own = Network { ca_bundle: Some(good.clone()), ..Network::default() };
            assert_eq!(wrong(&own, &[("AWS_CA_BUNDLE", bundle)]), None);
        }
    }

    #[test]
    fn hosts_are_taken_as_other_tools_take_them() {
        for (entry, taken) in [
            (" *.corp.example ", ".corp.example"),
            ("proxy.example:8080", "proxy.example"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("fd00::1", "fd00::1"),
            ("*", "*"),
        ] {
            assert_eq!(host(entry), taken);
        }
    }

    #[test]
    fn a_user_agent_is_one_line() {
        let network = Network { more_user_agent: Some("a\nb".into()), ..Network::default() };
        assert_eq!(wrong(&network, &[]).unwrap().0, "TF_APPEND_USER_AGENT");
    }
}
