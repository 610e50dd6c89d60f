//! From an HTTP request to an operation and back: who calls, what, with which parameters, and whether IAM
//! lets them.

use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    faults::{Effect, only_reads},
    iam::{self, Need, Principal},
    request::{Failure, Reply, Request, texts},
    services::{self, Operation, Service, sts},
    traffic::Exchange,
    wire::{Protocol, cbor, query, xml},
    world::{GLOBAL, World},
};

/// A call that was made.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CallRecord {
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// As IAM spells it.
    pub service: String,
    /// The operation.
    pub operation: String,
    /// Who called, by ARN; empty where nobody was known.
    pub caller: String,
    /// The region that was called.
    pub region: String,
    /// The parameters; what is secret is not kept.
    pub parameters: Value,
    /// AWS's error code, if it said no.
    pub error: Option<String>,
}

/// A request as it came in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Incoming {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) target: Option<String>,
    pub(crate) authorization: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) invocation_type: Option<String>,
    pub(crate) body: Vec<u8>,
}

/// An answer, and what is done to it on its way.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) request_id: String,
    pub(crate) effect: Option<Effect>,
    /// A function that has to run before there is an answer.
    pub(crate) invoke: Option<Invoke>,
    /// An automation that has begun: its region and its id.
    pub(crate) automation: Option<(String, String)>,
}

/// A function that is to run.
#[derive(Clone, Debug)]
pub(crate) struct Invoke {
    /// Its ARN.
    pub(crate) function: String,
    pub(crate) payload: Value,
    /// Whether nobody waits for it.
    pub(crate) is_event: bool,
}

/// Parameters whose values are kept out of the call log: secrets, and archives, which are megabytes.
const SECRET: &[&str] =
    &["MasterUserPassword", "SecretString", "Payload", "ZipFile", "Code", "WebIdentityToken"];

struct Scope {
    access_key: String,
    region: String,
    service: String,
}

/// The region that a signature is for.
pub(crate) fn region_of(header: &str) -> Option<String> {
    scope(header).map(|scope| scope.region)
}

/// The scope of a signature: `Credential=key/date/region/service/aws4_request`.
fn scope(header: &str) -> Option<Scope> {
    let credential = header.split("Credential=").nth(1)?.split([',', ' ']).next()?;
    let parts: Vec<_> = credential.split('/').collect();
    let [key, _, region, service, "aws4_request"] = parts[..] else { return None };
    let service = if service == "monitoring" { "cloudwatch" } else { service };
    Some(Scope {
        access_key: key.to_owned(),
        region: region.to_owned(),
        service: service.to_owned(),
    })
}

fn principal(world: &World, access_key: &str) -> Result<Principal, Failure> {
    if let Some(principal) = iam::function_principal(world, access_key) {
        return Ok(principal);
    }
    let record = world.get(GLOBAL, "access-key", access_key).ok_or_else(|| {
        let message = "The security token included in the request is invalid.";
        Failure::new("InvalidClientTokenId", message)
    })?;
    if record["_expires"].as_u64().is_some_and(|at| at <= world.now.0) {
        let message = "The security token included in the request is expired";
        return Err(Failure::new("ExpiredToken", message));
    }
    let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
    Ok(Principal {
        arn: text("_arn"),
        kind: if record["_kind"] == "role" { "role" } else { "user" },
        name: text("_name"),
        id: text("_id"),
        session_policy: Some(record["_session_policy"].clone()).filter(|one| !one.is_null()),
        tags: serde_json::from_value(record["_tags"].clone()).unwrap_or_default(),
        transitive: texts(&record["_transitive"]),
        source_identity: record["_source_identity"].as_str().map(str::to_owned),
    })
}

/// The keys of a session say nothing without its token.
fn without_token(world: &World, access_key: &str, incoming: &Incoming) -> Option<Failure> {
    let wanted = world.get(GLOBAL, "access-key", access_key)?["_token"].as_str()?;
    (incoming.token.as_deref() != Some(wanted)).then(|| {
        let message = "The security token included in the request is invalid.";
        Failure::new("InvalidClientTokenId", message)
    })
}

/// Where an unsigned request goes: a token is turned into credentials by whoever has none yet.
fn unsigned(incoming: &Incoming) -> Option<Scope> {
    let body = std::str::from_utf8(&incoming.body).ok()?;
    let params = query::parse(body)?;
    (params["Action"] == sts::UNSIGNED).then(|| Scope {
        access_key: String::new(),
        region: "us-east-1".into(),
        service: "sts".into(),
    })
}

/// The name of the operation and its parameters.
fn decode(service: &Service, incoming: &Incoming) -> Option<(String, Value)> {
    decode_as(service.protocol, incoming)
}

fn decode_as(protocol: Protocol, incoming: &Incoming) -> Option<(String, Value)> {
    match protocol {
        Protocol::Query | Protocol::Ec2 => {
            let body = std::str::from_utf8(&incoming.body).ok()?;
            let mut params = query::parse(body)?;
            let members = params.as_object_mut()?;
            let action = members.shift_remove("Action")?.as_str()?.to_owned();
            members.shift_remove("Version");
            Some((action, params))
        }
        Protocol::Json => {
            let (_, operation) = incoming.target.as_ref()?.split_once('.')?;
            let params = if incoming.body.is_empty() {
                json!({})
            } else {
                serde_json::from_slice(&incoming.body).ok()?
            };
            Some((operation.to_owned(), params))
        }
        Protocol::RestXml => services::route53::decode(incoming),
        Protocol::RestJson => services::lambda::decode(incoming),
        Protocol::Three => match Dialect::of(incoming) {
            Dialect::Cbor => {
                let operation = incoming.path.strip_prefix(CBOR_PATH)?;
                Some((operation.to_owned(), cbor::parse(&incoming.body)?))
            }
            Dialect::Json => decode_as(Protocol::Json, incoming),
            Dialect::Form => decode_as(Protocol::Query, incoming),
        },
    }
}

/// Where the Smithy RPC protocol is spoken; the operation follows.
const CBOR_PATH: &str = "/service/GraniteServiceVersion20100801/operation/";

/// Which of CloudWatch's three protocols a request speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Cbor,
    Json,
    Form,
}

impl Dialect {
    fn of(incoming: &Incoming) -> Self {
        if incoming.path.starts_with(CBOR_PATH) {
            Self::Cbor
        } else if incoming.target.is_some() {
            Self::Json
        } else {
            Self::Form
        }
    }
}

/// Handles one request. The world stands at the moment of its arrival.
pub(crate) fn handle(world: &mut World, incoming: &Incoming) -> Outgoing {
    let request_id = world.uuid();
    let mut out = Outgoing {
        status: 400,
        content_type: "text/xml",
        headers: Vec::new(),
        body: Vec::new(),
        request_id: request_id.clone(),
        effect: None,
        invoke: None,
        automation: None,
    };
    let scope = match &incoming.authorization {
        Some(header) => scope(header),
        None => unsigned(incoming),
    };
    let Some(scope) = scope else {
        out.status = 403;
        out.body =
            "<ErrorResponse><Error><Code>MissingAuthenticationToken</Code><Message>Request is \
                    missing Authentication Token</Message></Error></ErrorResponse>"
                .into();
        return out;
    };
    let Some(service) = services::find(&scope.service) else {
        out.status = 501;
        out.body = format!("the sandbox has no service {}", scope.service).into_bytes();
        return out;
    };
    let Some((name, params)) = decode(service, incoming) else {
        let failure = Failure::new("InvalidAction", "The request cannot be read.");
        return encode(service, incoming, "Unknown", Err(failure), out);
    };
    if matches!(service.protocol, Protocol::Json | Protocol::RestJson) {
        out.content_type = "application/x-amz-json-1.1";
    }
    let mut effect = crate::faults::striking(&mut world.faults, service.name, &name, &scope.region);
    let place = if service.global { GLOBAL } else { &scope.region };
    if world.down.contains(place) {
        effect = Some(Effect::DropBefore);
    }
    let reply = match &effect {
        Some(Effect::Throttle) => Err(throttled(service)),
        Some(Effect::Fail { code, message, status }) => {
            Err(Failure { status: *status, code: code.clone(), message: message.clone() })
        }
        Some(Effect::Hang | Effect::DropBefore) => Ok(Value::Null),
        Some(Effect::Stale { seconds }) if only_reads(&name) => {
            run(&mut world.ago(seconds * 1000), service, &scope, &name, &params)
        }
        Some(Effect::Delay { .. } | Effect::DropAfter | Effect::Stale { .. }) | None => {
            match without_token(world, &scope.access_key, incoming) {
                Some(failure) => Err(failure),
                None => run(world, service, &scope, &name, &params),
            }
        }
    };
    world.remember();
    out.automation = services::ssm::started(&reply).map(|id| (scope.region.clone(), id));
    let error = match (&effect, &reply) {
        (Some(Effect::Hang), _) => Some("(never answered)".to_owned()),
        (Some(Effect::DropBefore), _) => Some("(connection lost before)".to_owned()),
        (Some(Effect::DropAfter), Ok(_)) => Some("(connection lost after)".to_owned()),
        (_, reply) => reply.as_ref().err().map(|failure| failure.code.clone()),
    };
    let mut parameters = params;
    for secret in SECRET {
        if !parameters[*secret].is_null() {
            parameters[*secret] = "(kept out)".into();
        }
    }
    let caller = principal(world, &scope.access_key).map(|one| one.arn).unwrap_or_default();
    world.calls.push(CallRecord {
        at: world.now.0,
        service: service.name.to_owned(),
        operation: name.clone(),
        caller,
        region: scope.region,
        parameters,
        error,
    });
    out.effect = effect;
    let is_answered = !matches!(out.effect, Some(Effect::Hang | Effect::DropBefore));
    let is_kept =
        is_answered && world.calls.last().is_some_and(|call| world.traffic.has_room(call));
    let is_cbor = service.protocol == Protocol::Three && Dialect::of(incoming) == Dialect::Cbor;
    let tree = if is_kept && is_cbor { reply.clone().ok() } else { None };
    let out = encode(service, incoming, &name, reply, out);
    if let Some(call) = world.calls.last().filter(|_| is_kept) {
        world.traffic.keep(Exchange::of(call, out.status, tree.as_ref(), &out.body));
    }
    out
}

fn throttled(service: &Service) -> Failure {
    match service.protocol {
        Protocol::Ec2 => Failure {
            status: 503,
            ..Failure::new("RequestLimitExceeded", "Request limit exceeded.")
        },
        Protocol::Json | Protocol::RestJson => Failure::new("ThrottlingException", "Rate exceeded"),
        Protocol::Query | Protocol::RestXml | Protocol::Three => {
            Failure::new("Throttling", "Rate exceeded")
        }
    }
}

/// Runs one operation as a caller with this key would, with parameters as they are decoded.
#[cfg(test)]
pub(crate) fn call(
    world: &mut World,
    access_key: &str,
    region: &str,
    service: &str,
    operation: &str,
    params: &Value,
) -> Reply {
    let now = world.now;
    world.advance_to(now);
    services::tagging::refresh(world);
    let scope = Scope {
        access_key: access_key.to_owned(),
        region: region.to_owned(),
        service: service.to_owned(),
    };
    let service = services::find(&scope.service).unwrap();
    run(world, service, &scope, operation, params)
}

/// Makes a call as somebody whom AWS itself acts for.
pub(crate) fn act(
    world: &mut World,
    principal: &Principal,
    region: &str,
    service: &str,
    name: &str,
    params: &Value,
) -> Reply {
    let missing = || Failure::new("InvalidAction", format!("there is no service {service}"));
    let service = services::find(service).ok_or_else(missing)?;
    let reply = run_as(world, service, region, principal.clone(), name, params);
    world.calls.push(CallRecord {
        at: world.now.0,
        service: service.name.to_owned(),
        operation: name.to_owned(),
        caller: principal.arn.clone(),
        region: region.to_owned(),
        parameters: params.clone(),
        error: reply.as_ref().err().map(|failure| failure.code.clone()),
    });
    reply
}

fn run(world: &mut World, service: &Service, scope: &Scope, name: &str, params: &Value) -> Reply {
    let principal =
        if name == sts::UNSIGNED { sts::nobody() } else { principal(world, &scope.access_key)? };
    run_as(world, service, &scope.region, principal, name, params)
}

fn run_as(
    world: &mut World,
    service: &Service,
    region: &str,
    principal: Principal,
    name: &str,
    params: &Value,
) -> Reply {
    let Some(operation) = service.operations.iter().find(|one| one.name == name) else {
        let message = format!("the sandbox does not implement {}:{name}", service.name);
        return Err(Failure { status: 501, code: "NotImplemented".into(), message });
    };
    check_members(operation, params)?;
    let request = Request {
        region: region.to_owned(),
        principal,
        params: params.clone(),
        now: world.now,
        service: service.name,
    };
    let mut needs = (operation.access)(world, &request);
    needs.extend(tagging(&request, name, needs.first()));
    for mut need in needs {
        if need.action.is_empty() {
            need.action = format!("{}:{name}", service.name);
        }
        authorise(world, &request, need)?;
    }
    (operation.run)(world, &request)
}

/// Whoever makes something with tags needs the right to tag it, by each service's guide: for KMS on any key, as
/// the new one has no name yet; elsewhere on what is made.
fn tagging(request: &Request, operation: &str, made: Option<&Need>) -> Option<Need> {
    let action = match request.service {
        "ec2" => "CreateTags",
        "iam" => "TagRole",
        "rds" | "ssm" => "AddTagsToResource",
        "sts" => "TagSession",
        _ => "TagResource",
    };
    let retags = operation == action || operation == "DeleteTags";
    // Logs has an ARN of its own for tags.
    if retags || request.service == "logs" || services::requested_tags(request).is_empty() {
        return None;
    }
    let resource = match request.service {
        "kms" => request.arn("kms", "key/*"),
        _ => made?.resource.clone(),
    };
    let need = Need::new(format!("{}:{action}", request.service), resource);
    Some(match request.service {
        "ec2" => need.with("ec2:CreateAction", operation),
        _ => need,
    })
}

/// Parameters that are not implemented are refused, never ignored.
fn check_members(operation: &Operation, params: &Value) -> Result<(), Failure> {
    let known = |name: &str| operation.members.split(' ').any(|member| member == name);
    let odd = params.as_object().into_iter().flatten().find(|(name, _)| !known(name));
    odd.map_or(Ok(()), |(member, _)| {
        let message = format!("the sandbox does not implement {member} of {}", operation.name);
        Err(Failure { status: 501, code: "NotImplemented".into(), message })
    })
}

/// Checks one need, with the context that every call has.
pub(crate) fn authorise(world: &World, request: &Request, need: Need) -> Result<(), Failure> {
    let mut need = need
        .with("aws:RequestedRegion", &request.region)
        .with("aws:PrincipalArn", &request.principal.arn);
    for (key, value) in &request.principal.tags {
        need = need.with(&format!("aws:PrincipalTag/{key}"), value);
    }
    if let Some(identity) = &request.principal.source_identity {
        need = need.with("aws:SourceIdentity", identity);
    }
    if let Some(function) = services::lambda::calling(world, request) {
        need = need.with("lambda:SourceFunctionArn", function);
    }
    let requested = services::requested_tags(request);
    if !requested.is_empty() {
        need.context.push(("aws:TagKeys".into(), requested.keys().cloned().collect()));
    }
    for (key, value) in requested {
        let value = value.as_str().unwrap_or_default().to_owned();
        need.context.push((format!("aws:RequestTag/{key}"), vec![value]));
    }
    if iam::allowed(world, &request.principal, &need) {
        Ok(())
    } else {
        Err(iam::denial(request.service, &request.principal, &need))
    }
}

fn encode(
    service: &Service,
    incoming: &Incoming,
    name: &str,
    reply: Reply,
    mut out: Outgoing,
) -> Outgoing {
    let protocol = match (service.protocol, Dialect::of(incoming)) {
        (Protocol::Three, Dialect::Cbor) => return encode_cbor(reply, out),
        (Protocol::Three, Dialect::Json) => {
            out.content_type = "application/x-amz-json-1.0";
            query_error(&reply, &mut out);
            Protocol::Json
        }
        (Protocol::Three, Dialect::Form) => Protocol::Query,
        (Protocol::RestJson, _) => return encode_rest_json(reply, out),
        (protocol, _) => protocol,
    };
    // CloudWatch's trees are as in JSON: in XML, every list is called the same.
    let reply = match (service.protocol, protocol) {
        (Protocol::Three, Protocol::Query) => reply.map(|tree| xml::listed(&tree)),
        _ => reply,
    };
    let id = &out.request_id;
    let (status, body) = match (protocol, reply) {
        (Protocol::Json | Protocol::RestJson, Ok(Value::Null)) => (200, "{}".to_owned()),
        (Protocol::Json | Protocol::RestJson, Ok(value)) => {
            (200, crate::world::shown(&value).to_string())
        }
        (Protocol::Json | Protocol::RestJson, Err(failure)) => {
            let body = json!({"__type": failure.code, "message": failure.message});
            (failure.status, body.to_string())
        }
        (Protocol::Query | Protocol::Three, Ok(value)) => {
            let result = xml::render(&value);
            let body = format!(
                "<{name}Response xmlns=\"{}\"><{name}Result>{result}</{name}Result><ResponseMetadata>\
                 <RequestId>{id}</RequestId></ResponseMetadata></{name}Response>",
                service.namespace
            );
            (200, body)
        }
        (Protocol::Ec2, Ok(value)) => {
            let result = xml::render(&value);
            let body = format!(
                "<{name}Response xmlns=\"{}\"><requestId>{id}</requestId>{result}</{name}Response>",
                service.namespace
            );
            (200, body)
        }
        (Protocol::RestXml, Ok(mut value)) => {
            let location = value.as_object_mut().and_then(|all| all.shift_remove("_location"));
            let made = location.is_some();
            out.headers
                .extend(location.and_then(|one| Some(("location", one.as_str()?.to_owned()))));
            let result = xml::render(&value);
            let body = format!(
                "<{name}Response xmlns=\"{}\">{result}</{name}Response>",
                service.namespace
            );
            (if made { 201 } else { 200 }, body)
        }
        (Protocol::Ec2, Err(failure)) => {
            let error = failed(&failure);
            let body = format!(
                "<Response><Errors><Error>{error}</Error></Errors><RequestID>{id}</RequestID></Response>"
            );
            (failure.status, body)
        }
        (Protocol::Query | Protocol::RestXml | Protocol::Three, Err(failure)) => {
            let fault = if failure.status < 500 { "Sender" } else { "Receiver" };
            let error = failed(&failure);
            let body = format!(
                "<ErrorResponse xmlns=\"{}\"><Error><Type>{fault}</Type>{error}</Error><RequestId>{id}\
                 </RequestId></ErrorResponse>",
                service.namespace
            );
            (failure.status, body)
        }
    };
    (out.status, out.body) = (status, body.into_bytes());
    out
}

/// The code as the query protocol has it, which newer protocols carry in a header.
fn query_error(reply: &Reply, out: &mut Outgoing) {
    if let Err(failure) = reply {
        let fault = if failure.status < 500 { "Sender" } else { "Receiver" };
        out.headers.push(("x-amzn-query-error", format!("{};{fault}", failure.code)));
    }
}

/// Members that begin with `_` are not part of the body: the status, and a function that has to run.
fn encode_rest_json(reply: Reply, mut out: Outgoing) -> Outgoing {
    match reply {
        Ok(value) => {
            let status = value["_status"].as_u64().and_then(|one| u16::try_from(one).ok());
            out.status = status.unwrap_or(200);
            if let Some(function) = value["_invoke"].as_str() {
                let is_event = value["_event"] == true;
                let payload = value["_payload"].clone();
                out.invoke = Some(Invoke { function: function.to_owned(), payload, is_event });
            }
            if out.status != 204 {
                out.body = crate::world::shown(&value).to_string().into_bytes();
            }
        }
        Err(failure) => {
            out.status = failure.status;
            out.headers.push(("x-amzn-errortype", failure.code));
            out.body = json!({"message": failure.message}).to_string().into_bytes();
        }
    }
    out
}

fn encode_cbor(reply: Reply, mut out: Outgoing) -> Outgoing {
    out.content_type = "application/cbor";
    out.headers.push(("smithy-protocol", "rpc-v2-cbor".to_owned()));
    query_error(&reply, &mut out);
    (out.status, out.body) = match reply {
        Ok(Value::Null) => (200, cbor::render(&json!({}))),
        Ok(value) => (200, cbor::render(&value)),
        Err(failure) => {
            let body = json!({"__type": failure.code, "message": failure.message});
            (failure.status, cbor::render(&body))
        }
    };
    out
}

fn failed(failure: &Failure) -> String {
    format!("<Code>{}</Code><Message>{}</Message>", failure.code, xml::escape(&failure.message))
}
