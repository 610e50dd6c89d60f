//! Roles: of enhanced monitoring, and of the agent's functions.

use std::collections::BTreeSet;

use aws_sdk_iam::types::{Role, Tag};
use percent_encoding::percent_decode_str;

use super::{
    ARN, Address, Env, Failure, Field, GLOBAL, Observation, Outputs, Primitive, Tags, Text, Wanted,
    canonical_json, each, retag,
};
use crate::aws::ApiError;

/// A role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IamRole {
    /// Who may become it, in JSON.
    pub trust: String,
    /// The ARNs of the managed policies that it carries.
    pub policies: BTreeSet<String>,
    /// What else it may do, in JSON: a policy of its own.
    pub permissions: Option<Text>,
    /// What it is for.
    pub description: String,
}

impl IamRole {
    /// The kind's name.
    pub const KIND: &str = "iam-role";

    /// The address of the role with that purpose.
    pub fn address(purpose: &str) -> Address {
        Address::with(GLOBAL, Self::KIND, purpose)
    }

    fn inline(&self) -> &'static str {
        if self.permissions.is_some() { OWN_POLICY } else { "" }
    }
}

fn tags(all: &Tags) -> Vec<Tag> {
    let tag = |(key, value): (&String, &String)| Tag::builder().key(key).value(value).build();
    all.iter().filter_map(|pair| tag(pair).ok()).collect()
}

/// IAM hands documents back with everything but letters and digits percent-encoded.
fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

async fn get(env: &Env, region: &str, name: &str) -> Result<Option<Role>, ApiError> {
    let regional = env.region(region);
    let api = regional.api("iam", "GetRole");
    Ok(env
        .session
        .find(api, || regional.iam.get_role().role_name(name).send())
        .await?
        .and_then(|answer| answer.role))
}

/// The ARNs of the managed policies that a role carries.
async fn attached(env: &Env, region: &str, name: &str) -> Result<BTreeSet<String>, ApiError> {
    let regional = env.region(region);
    let api = regional.api("iam", "ListAttachedRolePolicies");
    let call = || regional.iam.list_attached_role_policies().role_name(name).send();
    let Some(answer) = env.session.find(api, call).await? else { return Ok(BTreeSet::new()) };
    let arns = answer.attached_policies().iter().filter_map(|one| one.policy_arn());
    Ok(arns.map(str::to_owned).collect())
}

/// The name of a role's own policy.
const OWN_POLICY: &str = "permissions";

/// A role's own policy; `None` if it has none.
async fn own_policy(env: &Env, region: &str, name: &str) -> Result<Option<String>, ApiError> {
    let regional = env.region(region);
    let api = regional.api("iam", "GetRolePolicy");
    let call = || regional.iam.get_role_policy().role_name(name).policy_name(OWN_POLICY).send();
    let answer = env.session.find(api, call).await?;
    Ok(answer.map(|answer| decoded(answer.policy_document())))
}

/// The names of the policies written into a role.
async fn inline(env: &Env, region: &str, name: &str) -> Result<Vec<String>, ApiError> {
    let regional = env.region(region);
    let api = regional.api("iam", "ListRolePolicies");
    let call = || regional.iam.list_role_policies().role_name(name).send();
    let found = env.session.find(api, call).await?;
    Ok(found.map(|answer| answer.policy_names).unwrap_or_default())
}

impl Primitive for IamRole {
    const KIND: &'static str = IamRole::KIND;

    fn fields(&self) -> Vec<Field> {
        let policies: Vec<_> = self.policies.iter().cloned().collect();
        vec![
            Field::new("trust", canonical_json(&self.trust)).digest(),
            Field::new("policies", policies.join(",")),
            Field::new("inline_policies", self.inline()),
            Field::new("description", &*self.description).digest(),
        ]
        .into_iter()
        .chain(self.permissions.iter().map(|one| Field::new("permissions", one.clone()).json()))
        .collect()
    }

    async fn observe(
        env: &Env,
        region: &str,
        wanted: &[&Wanted<Self>],
    ) -> Result<Vec<Observation>, ApiError> {
        each(wanted, |wanted| async move {
            let name = &wanted.name;
            let own = async {
                let has = wanted.settings.permissions.is_some();
                if has { own_policy(env, region, name).await } else { Ok(None) }
            };
            let (role, attached, inline, own) = futures::join!(
                get(env, region, name),
                attached(env, region, name),
                inline(env, region, name),
                own
            );
            let Some(role) = role? else { return Ok(None) };
            let policies: Vec<_> = attached?.into_iter().collect();
            let trust = decoded(role.assume_role_policy_document().unwrap_or_default());
            let pairs = role.tags().iter();
            let tags = pairs.map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect();
            Ok(Some(
                Observation::new(wanted.address.clone(), region, name)
                    .with("trust", canonical_json(&trust))
                    .with("policies", policies.join(","))
                    .with("inline_policies", inline?.join(","))
                    .with("description", role.description().unwrap_or_default())
                    .with("permissions", own?.unwrap_or_default())
                    .output(ARN, role.arn())
                    .tagged(tags, env),
            ))
        })
        .await
    }

    async fn create(env: &Env, wanted: &Wanted<Self>) -> Result<Outputs, Failure> {
        let regional = env.region(&wanted.region);
        let settings = &wanted.settings;
        let api = regional.api("iam", "CreateRole");
        let call = || {
            let call = regional.iam.create_role().role_name(&wanted.name);
            let call = call.assume_role_policy_document(&settings.trust);
            call.description(&settings.description).set_tags(Some(tags(&wanted.tags))).send()
        };
        let answer = env.session.call_once(api, call).await?;
        let arn = answer.role().map(|role| role.arn().to_owned()).unwrap_or_default();
        for policy in &settings.policies {
            attach(env, wanted, policy).await?;
        }
        permit(env, wanted).await?;
        Ok(Outputs::from([(ARN, arn)]))
    }

    async fn update(
        env: &Env,
        wanted: &Wanted<Self>,
        found: &Observation,
        differing: &[&'static str],
    ) -> Result<Outputs, Failure> {
        let regional = env.region(&wanted.region);
        let (iam, name) = (&regional.iam, &wanted.name);
        if differing.contains(&"trust") {
            let api = regional.api("iam", "UpdateAssumeRolePolicy");
            let trust = &wanted.settings.trust;
            let call =
                || iam.update_assume_role_policy().role_name(name).policy_document(trust).send();
            env.session.call(api, call).await?;
        }
        if differing.contains(&"description") {
            let api = regional.api("iam", "UpdateRole");
            let text = &wanted.settings.description;
            let call = || iam.update_role().role_name(name).description(text).send();
            env.session.call(api, call).await?;
        }
        if differing.contains(&"policies") {
            let has = attached(env, &wanted.region, name).await?;
            for policy in wanted.settings.policies.difference(&has) {
                attach(env, wanted, policy).await?;
            }
            for policy in has.difference(&wanted.settings.policies) {
                detach(env, &wanted.region, name, policy).await?;
            }
        }
        if differing.contains(&"inline_policies") {
            let own = wanted.settings.inline();
            remove_inline(env, &wanted.region, name, |one| one != own).await?;
        }
        if differing.contains(&"inline_policies") || differing.contains(&"permissions") {
            permit(env, wanted).await?;
        }
        if differing.contains(&"tags") {
            let (set, gone) = retag(&found.tags, &wanted.tags);
            // IAM takes keys that differ in case only for one: what is set last stays.
            if !gone.is_empty() {
                let api = regional.api("iam", "UntagRole");
                let call =
                    || iam.untag_role().role_name(name).set_tag_keys(Some(gone.clone())).send();
                env.session.call(api, call).await?;
            }
            if !set.is_empty() {
                let api = regional.api("iam", "TagRole");
                let set = tags(&set);
                let call = || iam.tag_role().role_name(name).set_tags(Some(set.clone())).send();
                env.session.call(api, call).await?;
            }
        }
        Ok(Outputs::new())
    }

    async fn delete(env: &Env, found: &Observation) -> Result<(), Failure> {
        let (region, name) = (&found.region, &found.id);
        for policy in attached(env, region, name).await? {
            detach(env, region, name, &policy).await?;
        }
        remove_inline(env, region, name, |_| true).await?;
        let regional = env.region(region);
        let api = regional.api("iam", "DeleteRole");
        Ok(env.session.remove(api, || regional.iam.delete_role().role_name(name).send()).await?)
    }
}

async fn attach(env: &Env, wanted: &Wanted<IamRole>, policy: &str) -> Result<(), ApiError> {
    let regional = env.region(&wanted.region);
    let api = regional.api("iam", "AttachRolePolicy");
    let call =
        || regional.iam.attach_role_policy().role_name(&wanted.name).policy_arn(policy).send();
    env.session.call_on_new(api, call).await.map(|_| ())
}

async fn detach(env: &Env, region: &str, name: &str, policy: &str) -> Result<(), ApiError> {
    let regional = env.region(region);
    let api = regional.api("iam", "DetachRolePolicy");
    let call = || regional.iam.detach_role_policy().role_name(name).policy_arn(policy).send();
    env.session.remove(api, call).await
}

/// Writes its own policy into a role, if it is to have one.
async fn permit(env: &Env, wanted: &Wanted<IamRole>) -> Result<(), Failure> {
    let Some(permissions) = &wanted.settings.permissions else { return Ok(()) };
    let document = env.resolve(permissions)?;
    let regional = env.region(&wanted.region);
    let api = regional.api("iam", "PutRolePolicy");
    let call = || {
        let call = regional.iam.put_role_policy().role_name(&wanted.name);
        call.policy_name(OWN_POLICY).policy_document(&document).send()
    };
    env.session.call_on_new(api, call).await?;
    Ok(())
}

async fn remove_inline(
    env: &Env,
    region: &str,
    name: &str,
    goes: impl Fn(&str) -> bool,
) -> Result<(), ApiError> {
    let regional = env.region(region);
    let all = inline(env, region, name).await?;
    for policy in all.into_iter().filter(|one| goes(one)) {
        let api = regional.api("iam", "DeleteRolePolicy");
        let call = || regional.iam.delete_role_policy().role_name(name).policy_name(&policy).send();
        env.session.remove(api, call).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::decoded;

    #[test]
    fn documents_are_decoded() {
        assert_eq!(decoded("%7B%22a%22%3A%20%22%C3%BC%22%7D"), "{\"a\": \"ü\"}");
        assert_eq!(decoded("{\"100%\"}"), "{\"100%\"}");
    }
}
