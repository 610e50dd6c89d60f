//! DB subnet groups: where in the network the instances of a region may stand.

use aws_sdk_rds::types::Tag;

use super::{
    ARN, Address, Env, Failure, Field, Observation, Outputs, Primitive, Tags, Wanted, retag,
};
use crate::aws::ApiError;

/// A subnet group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DbSubnetGroup {
    /// Its subnets, in order.
    pub subnets: Vec<String>,
    /// What it is for.
    pub description: String,
    /// The argument that decides the subnets.
    pub argument: &'static str,
}

impl DbSubnetGroup {
    /// The kind's name.
    pub const KIND: &str = "db-subnet-group";

    /// The address of a region's group.
    pub fn address(region: &str) -> Address {
        Address::new(region, Self::KIND)
    }
}

/// Tags in RDS's form.
pub(super) fn rds_tags(all: &Tags) -> Vec<Tag> {
    all.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

/// Tags from RDS's form.
pub(super) fn from_rds(all: &[Tag]) -> Tags {
    let pair =
        |tag: &Tag| Some((tag.key()?.to_owned(), tag.value().unwrap_or_default().to_owned()));
    all.iter().filter_map(pair).collect()
}

/// The tags of something of RDS, from the shared look or from RDS itself.
pub(super) async fn rds_tags_of(
    env: &Env,
    region: &str,
    arn: &str,
    wanted: Option<&Tags>,
) -> Result<Tags, ApiError> {
    let regional = env.region(region);
    let ask = || async move {
        let api = regional.api("rds", "ListTagsForResource");
        let call = || regional.rds.list_tags_for_resource().resource_name(arn).send();
        let answer = env.session.call(api, call).await?;
        Ok(from_rds(answer.tag_list()))
    };
    env.tags_of(region, arn, wanted, ask).await
}

/// Makes the tags of something of RDS those that are wanted.
pub(super) async fn retag_rds(
    env: &Env,
    region: &str,
    arn: &str,
    current: &Tags,
    wanted: &Tags,
) -> Result<(), ApiError> {
    let regional = env.region(region);
    let (set, gone) = retag(current, wanted);
    if !set.is_empty() {
        let api = regional.api("rds", "AddTagsToResource");
        let set = rds_tags(&set);
        let call = || {
            regional
                .rds
                .add_tags_to_resource()
                .resource_name(arn)
                .set_tags(Some(set.clone()))
                .send()
        };
        env.session.call(api, call).await?;
    }
    if !gone.is_empty() {
        let api = regional.api("rds", "RemoveTagsFromResource");
        let call = || {
            let call = regional.rds.remove_tags_from_resource().resource_name(arn);
            call.set_tag_keys(Some(gone.clone())).send()
        };
        env.session.call(api, call).await?;
    }
    Ok(())
}

impl Primitive for DbSubnetGroup {
    const KIND: &'static str = DbSubnetGroup::KIND;

    fn fields(&self) -> Vec<Field> {
        vec![Field::new("subnets", self.subnets.join(",")).from(self.argument)]
    }

    async fn observe(
        env: &Env,
        region: &str,
        wanted: &[&Wanted<Self>],
    ) -> Result<Vec<Observation>, ApiError> {
        let regional = env.region(region);
        let mut found = Vec::new();
        for wanted in wanted {
            let api = regional.api("rds", "DescribeDBSubnetGroups");
            let call = || {
                regional.rds.describe_db_subnet_groups().db_subnet_group_name(&wanted.name).send()
            };
            let Some(answer) = env.session.find(api, call).await? else { continue };
            let Some(one) = answer.db_subnet_groups().first() else { continue };
            let arn = one.db_subnet_group_arn().unwrap_or_default();
            let mut subnets: Vec<_> =
                one.subnets().iter().filter_map(|subnet| subnet.subnet_identifier()).collect();
            subnets.sort_unstable();
            let tags = rds_tags_of(env, region, arn, Some(&wanted.tags)).await?;
            found.push(
                Observation::new(wanted.address.clone(), region, &wanted.name)
                    .with("subnets", subnets.join(","))
                    .output(ARN, arn)
                    .tagged(tags, env),
            );
        }
        Ok(found)
    }

    async fn create(env: &Env, wanted: &Wanted<Self>) -> Result<Outputs, Failure> {
        let regional = env.region(&wanted.region);
        let settings = &wanted.settings;
        let api = regional.api("rds", "CreateDBSubnetGroup");
        let call = || {
            let call = regional.rds.create_db_subnet_group().db_subnet_group_name(&wanted.name);
            let call = call.db_subnet_group_description(&settings.description);
            let call = call.set_subnet_ids(Some(settings.subnets.clone()));
            call.set_tags(Some(rds_tags(&wanted.tags))).send()
        };
        let answer = env.session.call_once(api, call).await?;
        let arn = answer.db_subnet_group().and_then(|one| one.db_subnet_group_arn());
        Ok(Outputs::from([(ARN, arn.unwrap_or_default().to_owned())]))
    }

    async fn update(
        env: &Env,
        wanted: &Wanted<Self>,
        found: &Observation,
        differing: &[&'static str],
    ) -> Result<Outputs, Failure> {
        let regional = env.region(&wanted.region);
        if differing.contains(&"subnets") {
            let api = regional.api("rds", "ModifyDBSubnetGroup");
            let call = || {
                let call = regional.rds.modify_db_subnet_group().db_subnet_group_name(&wanted.name);
                call.set_subnet_ids(Some(wanted.settings.subnets.clone())).send()
            };
            env.session.call(api, call).await?;
        }
        if differing.contains(&"tags") {
            let arn = found.outputs.get(ARN).cloned().unwrap_or_default();
            retag_rds(env, &wanted.region, &arn, &found.tags, &wanted.tags).await?;
        }
        Ok(Outputs::new())
    }

    async fn delete(env: &Env, found: &Observation) -> Result<(), Failure> {
        let regional = env.region(&found.region);
        let api = regional.api("rds", "DeleteDBSubnetGroup");
        let call = || regional.rds.delete_db_subnet_group().db_subnet_group_name(&found.id).send();
        Ok(env.session.remove(api, call).await?)
    }
}
