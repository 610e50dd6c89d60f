//! Who hears what the topic is told.

use aws_sdk_sns::types::Subscription;

use super::{
    ARN, Address, Env, Failure, Field, ID, Observation, Outputs, Owner, Primitive, SnsTopic, Text,
    Wanted,
    sns_topic::{arn as topic_arn, owner as topic_owner},
};
use crate::aws::ApiError;

/// Ways to be told that arguments can name; subscriptions of other kinds are nobody's business here.
pub const PROTOCOLS: [&str; 3] = ["email", "https", "sqs"];
/// What SNS lists instead of an ARN for one whose owner has not answered yet.
const PENDING: &str = "PendingConfirmation";

/// A subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnsSubscription {
    /// The topic's name.
    pub topic: String,
    /// `email`, `https` or `sqs`.
    pub protocol: &'static str,
    /// An address, a URL or the ARN of a queue.
    pub endpoint: String,
    /// The argument that it comes from.
    pub argument: &'static str,
}

impl SnsSubscription {
    /// The kind's name.
    pub const KIND: &str = "sns-subscription";

    /// The address of a region's subscription.
    pub fn address(region: &str, protocol: &str, endpoint: &str) -> Address {
        Address::with(region, Self::KIND, &format!("{protocol}/{endpoint}"))
    }
}

/// All subscriptions of a topic; a topic that is gone has none.
async fn all(env: &Env, region: &str, topic: &str) -> Result<Vec<Subscription>, ApiError> {
    let regional = env.region(region);
    let (mut found, mut page) = (Vec::new(), None::<String>);
    loop {
        let api = regional.api("sns", "ListSubscriptionsByTopic");
        let call = || {
            let call = regional.sns.list_subscriptions_by_topic().topic_arn(topic);
            call.set_next_token(page.clone()).send()
        };
        let Some(answer) = env.session.find(api, call).await? else { return Ok(found) };
        page = answer.next_token().map(str::to_owned);
        found.extend(answer.subscriptions.unwrap_or_default());
        if page.is_none() {
            return Ok(found);
        }
    }
}

/// What it is known by to whoever reads a state: its ARN changes when somebody confirms it.
fn known_by(topic: &str, protocol: &str, endpoint: &str) -> String {
    format!("{topic} {protocol} {endpoint}")
}

impl Primitive for SnsSubscription {
    const KIND: &'static str = SnsSubscription::KIND;

    fn fields(&self) -> Vec<Field> {
        vec![Field::new("endpoint", &*self.endpoint).from(self.argument)]
    }

    /// The topic is ours: subscriptions of kinds that arguments can name, and that none names, are found as
    /// well. One that nobody confirmed cannot be removed, and lapses by itself (aws-facts 1.5).
    async fn observe(
        env: &Env,
        region: &str,
        wanted: &[&Wanted<Self>],
    ) -> Result<Vec<Observation>, ApiError> {
        let Some(any) = wanted.first() else { return Ok(Vec::new()) };
        let topic = topic_arn(env, region, &any.settings.topic);
        // Of a topic that is somebody else's, nothing is ours.
        if topic_owner(env, region, &topic).await? != Owner::Ours {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for one in all(env, region, &topic).await? {
            let (protocol, endpoint) =
                (one.protocol().unwrap_or_default(), one.endpoint().unwrap_or_default());
            let address = Self::address(region, protocol, endpoint);
            let arn = one.subscription_arn().unwrap_or_default();
            let is_wanted = wanted.iter().any(|wanted| wanted.address == address);
            let waits = arn == PENDING;
            // One whose owner has left is listed without an ARN for three days, as `Deleted`.
            let is_over = !waits && !arn.starts_with("arn:");
            if !PROTOCOLS.contains(&protocol) || is_over || (waits && !is_wanted) {
                continue;
            }
            let id = if waits { PENDING } else { arn };
            let mut seen = Observation::new(address, region, id).with("endpoint", endpoint);
            if waits {
                seen.pending.push("waits for its owner to confirm it".into());
            }
            found.push(seen.output(ID, known_by(&topic, protocol, endpoint)));
        }
        Ok(found)
    }

    async fn create(env: &Env, wanted: &Wanted<Self>) -> Result<Outputs, Failure> {
        let settings = &wanted.settings;
        let topic = env.resolve(&Text::Ref(SnsTopic::address(&wanted.region), ARN))?;
        let regional = env.region(&wanted.region);
        let api = regional.api("sns", "Subscribe");
        let call = || {
            let call = regional.sns.subscribe().topic_arn(&topic).protocol(settings.protocol);
            call.endpoint(&settings.endpoint).send()
        };
        env.session.call(api, call).await?;
        let id = known_by(&topic, settings.protocol, &settings.endpoint);
        Ok(Outputs::from([(ID, id)]))
    }

    async fn delete(env: &Env, found: &Observation) -> Result<(), Failure> {
        if found.id == PENDING {
            return Ok(());
        }
        let regional = env.region(&found.region);
        let api = regional.api("sns", "Unsubscribe");
        let call = || regional.sns.unsubscribe().subscription_arn(&found.id).send();
        Ok(env.session.remove(api, call).await?)
    }
}
