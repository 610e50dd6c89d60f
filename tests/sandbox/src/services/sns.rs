//! SNS: topics, their policies and subscriptions, and what was published.

use serde_json::{Map, Value, json};

use super::{Operation, Service, any, op, page};
use crate::{
    iam::{self, Need},
    request::{Failure, Reply, Request, arn},
    services::kms,
    wire::Protocol,
    world::{World, shown, tag_list, tag_map, tags},
};

pub(crate) const SERVICE: Service = Service {
    name: "sns",
    protocol: Protocol::Query,
    namespace: "http://sns.amazonaws.com/doc/2010-03-31/",
    global: false,
    operations: OPERATIONS,
};

pub(crate) const TOPIC: &str = "sns-topic";
const SUBSCRIPTION: &str = "sns-subscription";
/// What ListSubscriptionsByTopic calls one whose owner has not answered yet.
const PENDING: &str = "PendingConfirmation";
/// Attributes of a topic that is no FIFO topic (SNS API reference, "SetTopicAttributes"). What is delivered goes
/// by none but the first two here.
const ATTRIBUTES: &[&str] = &[
    "Policy",
    "KmsMasterKeyId",
    "DisplayName",
    "DeliveryPolicy",
    "SignatureVersion",
    "TracingConfig",
];
/// How deliveries to each kind of subscriber are logged: two roles, and how much of what succeeds.
const FEEDBACK_OF: &[&str] = &["Application", "Firehose", "HTTP", "Lambda", "SQS"];
const FEEDBACK: &[&str] =
    &["SuccessFeedbackRoleArn", "FailureFeedbackRoleArn", "SuccessFeedbackSampleRate"];

const OPERATIONS: &[Operation] = &[
    op(
        "CreateTopic",
        "Name Attributes Tags",
        |_, request| {
            let name = request.text("Name").unwrap_or_default();
            vec![Need::new("", request.arn("sns", name))]
        },
        create,
    ),
    op("GetTopicAttributes", "TopicArn", on_topic, |world, request| {
        let topic = topic_mut(world, request)?;
        Ok(json!({"Attributes": entries(&topic["_attributes"])}))
    }),
    op("SetTopicAttributes", "TopicArn AttributeName AttributeValue", on_topic, set_attribute),
    op("DeleteTopic", "TopicArn", on_topic, |world, request| {
        let wanted = request.required("TopicArn")?;
        world.remove(&request.region, TOPIC, name_of(wanted));
        world.table_mut(&request.region, SUBSCRIPTION).retain(|_, one| one["TopicArn"] != wanted);
        Ok(Value::Null)
    }),
    op("ListTagsForResource", "ResourceArn", on_topic, |world, request| {
        let topic = topic_mut(world, request)?;
        Ok(json!({"Tags": {"member": tag_list(topic, "Key", "Value")}}))
    }),
    op("TagResource", "ResourceArn Tags", on_topic, |world, request| {
        let new = tag_map(request.get("Tags"), "Key", "Value");
        let topic = topic_mut(world, request)?;
        let mut all = tags(topic);
        all.extend(new);
        topic["_tags"] = Value::Object(all);
        Ok(Value::Null)
    }),
    op("UntagResource", "ResourceArn TagKeys", on_topic, |world, request| {
        let gone = request.texts("TagKeys");
        let topic = topic_mut(world, request)?;
        let mut all = tags(topic);
        all.retain(|key, _| !gone.contains(key));
        topic["_tags"] = Value::Object(all);
        Ok(Value::Null)
    }),
    op("Subscribe", "TopicArn Protocol Endpoint ReturnSubscriptionArn", on_topic, subscribe),
    op("GetSubscriptionAttributes", "SubscriptionArn", any, subscription_attributes),
    op(
        "Unsubscribe",
        "SubscriptionArn",
        |_, request| vec![Need::new("", request.text("SubscriptionArn").unwrap_or_default())],
        unsubscribe,
    ),
    op("ListSubscriptionsByTopic", "TopicArn NextToken", on_topic, list_subscriptions),
    op("Publish", "TopicArn Subject Message", on_topic, publish),
];

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new("InvalidParameter", message)
}

/// A map in the query protocol's form.
fn entries(map: &Value) -> Value {
    let all = map.as_object().into_iter().flatten();
    let all: Vec<_> = all.map(|(key, value)| json!({"key": key, "value": value})).collect();
    json!({"entry": all})
}

fn from_entries(value: &Value) -> Map<String, Value> {
    let all = value["entry"].as_array().into_iter().flatten();
    all.filter_map(|one| Some((one["key"].as_str()?.to_owned(), one["value"].clone()))).collect()
}

fn name_of(arn: &str) -> &str {
    arn.rsplit(':').next().unwrap_or_default()
}

fn topic_arn(request: &Request) -> &str {
    request.text("TopicArn").or_else(|| request.text("ResourceArn")).unwrap_or_default()
}

fn on_topic(world: &World, request: &Request) -> Vec<Need> {
    let arn = topic_arn(request);
    let record = world.get(&request.region, TOPIC, name_of(arn));
    vec![Need::new("", arn).on(record)]
}

fn topic_mut<'a>(world: &'a mut World, request: &Request) -> Result<&'a mut Value, Failure> {
    let wanted = topic_arn(request);
    if arn("sns", &request.region, name_of(wanted)) != wanted {
        return Err(invalid("Invalid parameter: TopicArn"));
    }
    // What goes by a resource, not by a topic, calls it that.
    let (code, message) = match request.has("ResourceArn") {
        true => ("ResourceNotFound", "Resource does not exist"),
        false => ("NotFound", "Topic does not exist"),
    };
    world
        .get_mut(&request.region, TOPIC, name_of(wanted))
        .ok_or_else(|| Failure { status: 404, ..Failure::new(code, message) })
}

/// Checks an attribute, and brings a policy into one form.
fn checked(world: &World, name: &str, value: &Value) -> Result<Value, Failure> {
    let feedback = FEEDBACK_OF
        .iter()
        .find_map(|kind| name.strip_prefix(kind))
        .is_some_and(|rest| FEEDBACK.contains(&rest));
    if !ATTRIBUTES.contains(&name) && !feedback {
        return Err(invalid("Invalid parameter: AttributeName"));
    }
    let text = value.as_str().unwrap_or_default();
    let fits = match name {
        "SignatureVersion" => ["1", "2"].contains(&text),
        "TracingConfig" => ["PassThrough", "Active"].contains(&text),
        "DeliveryPolicy" => text.is_empty() || serde_json::from_str::<Value>(text).is_ok(),
        _ if name.ends_with("SampleRate") => text.parse().is_ok_and(|rate: u8| rate <= 100),
        _ => true,
    };
    if !fits {
        return Err(invalid(format!(
            "Invalid parameter: AttributeValue Reason: {name} cannot be {text}"
        )));
    }
    if name == "Policy" && !text.is_empty() {
        let policy: Value = serde_json::from_str(text)
            .map_err(|_| invalid("Invalid parameter: Policy Error: null"))?;
        let odd = iam::statements(&policy).iter().any(|one| {
            one["Principal"].is_null() || one["Resource"].is_null() || one["Action"].is_null()
        });
        if iam::statements(&policy).is_empty() || odd {
            return Err(invalid(
                "Invalid parameter: Policy statement action out of service scope!",
            ));
        }
        if !iam::unknown_principals(world, &policy).is_empty() {
            return Err(invalid("Invalid parameter: Policy Error: PrincipalNotFound"));
        }
    }
    Ok(value.clone())
}

fn create(world: &mut World, request: &Request) -> Reply {
    let name = request.required("Name")?.to_owned();
    let allowed = |one: char| one.is_ascii_alphanumeric() || one == '-' || one == '_';
    if name.len() > 256 || !name.chars().all(allowed) {
        return Err(invalid("Invalid parameter: Topic Name"));
    }
    let arn = request.arn("sns", &name);
    let new_tags = tag_map(request.get("Tags"), "Key", "Value");
    let given = from_entries(request.get("Attributes"));
    if let Some(present) = world.get(&request.region, TOPIC, &name) {
        // Made again with the same attributes and tags, it is the same topic.
        let same = given.iter().all(|(key, value)| present["_attributes"][key] == *value);
        if !same {
            return Err(invalid(
                "Invalid parameter: Attributes Reason: Topic already exists with different attributes",
            ));
        }
        if tags(present) != new_tags {
            return Err(invalid(
                "Invalid parameter: Tags Reason: Topic already exists with different tags",
            ));
        }
        return Ok(json!({"TopicArn": arn}));
    }
    let mut attributes = json!({
        "TopicArn": arn, "Owner": crate::ACCOUNT, "SubscriptionsConfirmed": "0", "SubscriptionsPending": "0",
        "DisplayName": "", "Policy": default_policy(&arn),
    });
    for (key, value) in &given {
        attributes[key] = checked(world, key, value)?;
    }
    let record =
        json!({"_attributes": attributes, "_messages": [], "_arn": arn, "_tags": new_tags});
    world.put(&request.region, TOPIC, &name, record);
    Ok(json!({"TopicArn": arn}))
}

fn default_policy(arn: &str) -> String {
    json!({"Version": "2008-10-17", "Id": "__default_policy_ID", "Statement": [{
        "Sid": "__default_statement_ID", "Effect": "Allow", "Principal": {"AWS": "*"},
        "Action": ["SNS:Publish", "SNS:Subscribe"], "Resource": arn,
        "Condition": {"StringEquals": {"AWS:SourceOwner": crate::ACCOUNT}},
    }]})
    .to_string()
}

fn set_attribute(world: &mut World, request: &Request) -> Reply {
    let name = request.required("AttributeName")?.to_owned();
    let value = checked(world, &name, request.get("AttributeValue"))?;
    topic_mut(world, request)?["_attributes"][name] = value;
    Ok(Value::Null)
}

fn subscribe(world: &mut World, request: &Request) -> Reply {
    let topic = request.required("TopicArn")?.to_owned();
    topic_mut(world, request)?;
    let (protocol, endpoint) =
        (request.required("Protocol")?.to_owned(), request.required("Endpoint")?.to_owned());
    let fits = match protocol.as_str() {
        "email" => endpoint.contains('@') && !endpoint.contains(' '),
        "https" => endpoint.starts_with("https://"),
        "sqs" => endpoint.starts_with("arn:aws:sqs:"),
        _ => return Err(invalid("Invalid parameter: the sandbox has no such protocol")),
    };
    if !fits {
        return Err(invalid(format!("Invalid parameter: {protocol} endpoint")));
    }
    // Subscribed again, it is the same subscription.
    let known = world.table(&request.region, SUBSCRIPTION).values().find(|one| {
        one["TopicArn"] == topic.as_str()
            && one["Protocol"] == protocol.as_str()
            && one["Endpoint"] == endpoint.as_str()
            && one["_left"] != true
    });
    let known = known.and_then(|one| one["SubscriptionArn"].as_str()).map(str::to_owned);
    let wants_arn = request.flag("ReturnSubscriptionArn").unwrap_or(false);
    let confirmed = protocol == "sqs";
    let answer = |arn: &str| json!({"SubscriptionArn": if confirmed || wants_arn { arn } else { "pending confirmation" }});
    if let Some(arn) = known {
        return Ok(answer(&arn));
    }
    let arn = format!("{topic}:{}", world.uuid());
    let record = json!({
        "SubscriptionArn": arn, "Owner": crate::ACCOUNT, "Protocol": protocol, "Endpoint": endpoint,
        "TopicArn": topic, "_confirmed": confirmed, "_principal": request.principal.arn,
    });
    world.put(&request.region, SUBSCRIPTION, &arn, record);
    Ok(answer(&arn))
}

fn unsubscribe(world: &mut World, request: &Request) -> Reply {
    let arn = request.required("SubscriptionArn")?.to_owned();
    if arn == PENDING || !arn.starts_with("arn:") {
        return Err(invalid("Invalid parameter: SubscriptionArn"));
    }
    let Some(one) = world.get(&request.region, SUBSCRIPTION, &arn) else {
        return Err(Failure {
            status: 404,
            ..Failure::new("NotFound", "Subscription does not exist")
        });
    };
    if one["_confirmed"] != true {
        return Err(invalid(
            "Invalid parameter: SubscriptionArn Reason: This endpoint is pending confirmation. Cannot unsubscribe a subscription that is pending confirmation",
        ));
    }
    world.remove(&request.region, SUBSCRIPTION, &arn);
    Ok(Value::Null)
}

fn subscription_attributes(world: &mut World, request: &Request) -> Reply {
    let arn = request.required("SubscriptionArn")?;
    let one = world.get(&request.region, SUBSCRIPTION, arn).ok_or_else(|| Failure {
        status: 404,
        ..Failure::new("NotFound", "Subscription does not exist")
    })?;
    let mut attributes = shown(one);
    attributes["PendingConfirmation"] = (one["_confirmed"] != true).to_string().into();
    attributes["ConfirmationWasAuthenticated"] = (one["_confirmed"] == true).to_string().into();
    attributes["RawMessageDelivery"] = "false".into();
    attributes["SubscriptionPrincipal"] = one["_principal"].clone();
    Ok(json!({"Attributes": entries(&attributes)}))
}

fn list_subscriptions(world: &mut World, request: &Request) -> Reply {
    let topic = request.required("TopicArn")?.to_owned();
    topic_mut(world, request)?;
    let all: Vec<Value> = world
        .table(&request.region, SUBSCRIPTION)
        .values()
        .filter(|one| one["TopicArn"] == topic.as_str())
        .map(|one| {
            let mut view = shown(one);
            if one["_left"] == true {
                // Its owner has unsubscribed: listed so for three days (AWS knowledge centre, "Deleted" subscriptions).
                view["SubscriptionArn"] = "Deleted".into();
            } else if one["_confirmed"] != true {
                view["SubscriptionArn"] = PENDING.into();
            }
            view
        })
        .collect();
    let (items, next) = page(&all, request.text("NextToken"), 100);
    Ok(json!({"Subscriptions": {"member": items}, "NextToken": next}))
}

/// What a topic's key asks of whoever publishes (aws-facts 7).
const KEY_ACTIONS: [&str; 2] = ["kms:GenerateDataKey", "kms:Decrypt"];

fn key_arn(world: &World, region: &str, topic: &Value) -> Option<String> {
    let key = topic["_attributes"]["KmsMasterKeyId"].as_str().filter(|one| !one.is_empty())?;
    Some(kms::usable_arn(world, region, key).unwrap_or_default())
}

fn publish(world: &mut World, request: &Request) -> Reply {
    let topic = topic_mut(world, request)?.clone();
    let message = request.required("Message")?.to_owned();
    if message.len() > 262_144 {
        return Err(invalid("Invalid parameter: Message too long"));
    }
    let subject = request.text("Subject").unwrap_or_default().to_owned();
    if subject.len() > 100 || subject.chars().any(|one| one.is_control() || !one.is_ascii()) {
        return Err(invalid("Invalid parameter: Subject"));
    }
    if let Some(key) = key_arn(world, &request.region, &topic) {
        let via = format!("sns.{}.amazonaws.com", request.region);
        for action in KEY_ACTIONS {
            let need = Need::new(action, &*key)
                .with("kms:ViaService", via.as_str())
                .with("kms:CallerAccount", crate::ACCOUNT)
                .on_key(world, iam::key_of(world, &key));
            crate::dispatch::authorise(world, request, need)
                .map_err(|failure| Failure::new("KMSAccessDenied", failure.message))?;
        }
    }
    let region = request.region.clone();
    let id = deliver(world, &region, topic_arn(request), &subject, &message.into());
    Ok(json!({"MessageId": id}))
}

fn deliver(world: &mut World, region: &str, topic: &str, subject: &str, message: &Value) -> String {
    let id = world.uuid();
    let at = world.now.0;
    if let Some(record) = world.get_mut(region, TOPIC, name_of(topic))
        && let Some(all) = record["_messages"].as_array_mut()
    {
        all.push(json!({"at": at, "subject": subject, "message": message}));
    }
    id
}

/// Publishes as an AWS service. What policies do not let through is dropped silently, as AWS does
/// (aws-facts 7, 8).
pub(crate) fn publish_as(
    world: &mut World,
    topic: &str,
    service: &str,
    need: &Need,
    subject: &str,
    message: &Value,
) {
    let region = topic.split(':').nth(3).unwrap_or_default().to_owned();
    let Some(record) = world.get(&region, TOPIC, name_of(topic)).cloned() else { return };
    if service_may_publish(world, &region, &record, service, need) {
        deliver(world, &region, topic, subject, message);
    }
}

fn service_may_publish(
    world: &World,
    region: &str,
    topic: &Value,
    service: &str,
    need: &Need,
) -> bool {
    let text = topic["_attributes"]["Policy"].as_str().unwrap_or_default();
    let policy: Value = serde_json::from_str(text).unwrap_or_default();
    if !iam::lets_service(&policy, service, need) {
        return false;
    }
    key_arn(world, region, topic).is_none_or(|key| {
        KEY_ACTIONS.iter().all(|action| {
            let need = Need {
                action: (*action).to_owned(),
                resource: key.clone(),
                context: need.context.clone(),
            };
            iam::service_may(world, &key, service, &need)
        })
    })
}

/// Whether RDS may publish to a topic: asked when an event subscription is made.
pub(crate) fn rds_may_publish(world: &World, topic: &str, source: &str) -> Option<bool> {
    let region = topic.split(':').nth(3).unwrap_or_default();
    let record = world.get(region, TOPIC, name_of(topic))?;
    let need = Need::new("sns:Publish", topic)
        .with("aws:SourceArn", source)
        .with("aws:SourceAccount", crate::ACCOUNT);
    Some(service_may_publish(world, region, record, "events.rds.amazonaws.com", &need))
}

impl World {
    /// What was published to a topic so far: moment, subject, message.
    pub fn messages(&self, region: &str, topic: &str) -> Vec<Value> {
        let record = self.get(region, TOPIC, topic);
        record.and_then(|one| one["_messages"].as_array()).cloned().unwrap_or_default()
    }

    /// As the owner of an address does who follows the link in the mail.
    pub fn confirm_subscription(&mut self, region: &str, endpoint: &str) {
        for one in self.table_mut(region, SUBSCRIPTION).values_mut() {
            if one["Endpoint"] == endpoint {
                one["_confirmed"] = true.into();
            }
        }
    }
}
