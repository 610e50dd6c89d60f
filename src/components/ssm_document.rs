//! Runbooks: documents of SSM Automation.
//!
//! What a version of a document holds never changes, and each version may have a name. Ours is named by the hash
//! of its content, so that one list tells of all documents of a region what they hold.

use aws_sdk_ssm::types::{
    DocumentFormat, DocumentIdentifier, DocumentKeyValuesFilter, DocumentStatus, DocumentType,
    ResourceTypeForTagging, Tag,
};
use sha2::{Digest as _, Sha256};

use super::{
    ARN, Address, Env, Failure, Field, Observation, Outputs, Primitive, Tags, Wanted, retag,
};
use crate::aws::{ApiError, Progress};

/// A document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SsmDocument {
    /// Its content, in JSON. Holds nothing that AWS assigns.
    pub content: String,
}

impl SsmDocument {
    /// The kind's name.
    pub const KIND: &str = "ssm-document";

    /// The address of a region's document of that purpose.
    pub fn address(region: &str, purpose: &str) -> Address {
        Address::with(region, Self::KIND, purpose)
    }

    /// The name of the version that holds the content: 128 characters are allowed.
    fn version(&self) -> String {
        let hash = Sha256::digest(self.content.as_bytes());
        hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// All documents of a region that are the account's own, in one call that its kind shares.
async fn documents(env: &Env, region: &str) -> Result<Vec<DocumentIdentifier>, ApiError> {
    let regional = env.region(region);
    let filter = DocumentKeyValuesFilter::builder().key("Owner").values("Self").build();
    let (mut found, mut page) = (Vec::new(), None::<String>);
    loop {
        let api = regional.api("ssm", "ListDocuments");
        let call = || {
            let call = regional.ssm.list_documents().filters(filter.clone()).max_results(50);
            call.set_next_token(page.clone()).send()
        };
        let answer = env.session.call(api, call).await?;
        found.extend(answer.document_identifiers.unwrap_or_default());
        page = answer.next_token.filter(|token| !token.is_empty());
        if page.is_none() {
            return Ok(found);
        }
    }
}

fn tags_of(one: &DocumentIdentifier) -> Tags {
    one.tags().iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect()
}

fn tags(all: &Tags) -> Vec<Tag> {
    let tag = |(key, value): (&String, &String)| Tag::builder().key(key).value(value).build();
    all.iter().filter_map(|pair| tag(pair).ok()).collect()
}

/// Waits until the newest version can be used.
async fn active(env: &Env, region: &str, name: &str) -> Result<(), Failure> {
    let regional = env.region(region);
    let wait = env.session.wait(|| async {
        let api = regional.api("ssm", "DescribeDocument");
        let call = || regional.ssm.describe_document().name(name).send();
        let answer = env.session.find(api, call).await?;
        let one = answer.and_then(|answer| answer.document);
        Ok(match one.as_ref().and_then(|one| one.status()) {
            Some(DocumentStatus::Active) => Progress::Done(()),
            Some(DocumentStatus::Failed) => {
                let why = one.as_ref().and_then(|one| one.status_information());
                Progress::Failed(why.unwrap_or("it does not say why").to_owned())
            }
            Some(state) => Progress::Pending(state.as_str().to_lowercase()),
            None => Progress::Pending("not there yet".into()),
        })
    });
    Ok(wait.await?)
}

/// The number of the version of that name.
async fn numbered(
    env: &Env,
    region: &str,
    name: &str,
    version: &str,
) -> Result<Option<String>, ApiError> {
    let regional = env.region(region);
    let mut page = None::<String>;
    loop {
        let api = regional.api("ssm", "ListDocumentVersions");
        let call = || {
            let call = regional.ssm.list_document_versions().name(name);
            call.set_next_token(page.clone()).send()
        };
        let answer = env.session.call(api, call).await?;
        let all = answer.document_versions();
        if let Some(one) = all.iter().find(|one| one.version_name() == Some(version)) {
            return Ok(one.document_version().map(str::to_owned));
        }
        page = answer.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
        if page.is_none() {
            return Ok(None);
        }
    }
}

/// Makes a version with the content, unless an older one has it, and the one that counts.
async fn renew(env: &Env, wanted: &Wanted<SsmDocument>) -> Result<(), Failure> {
    let (region, name, version) = (&wanted.region, &wanted.name, wanted.settings.version());
    let regional = env.region(region);
    let mut number = numbered(env, region, name, &version).await?;
    if number.is_none() {
        let api = regional.api("ssm", "UpdateDocument");
        let call = || {
            let call = regional.ssm.update_document().name(name).version_name(&version);
            let call = call.content(&wanted.settings.content).document_format(DocumentFormat::Json);
            call.document_version("$LATEST").send()
        };
        env.session.call(api, call).await?;
        active(env, region, name).await?;
        number = numbered(env, region, name, &version).await?;
    }
    let number = number.ok_or_else(|| Failure::Obstacle(format!("{name} has no new version")))?;
    let api = regional.api("ssm", "UpdateDocumentDefaultVersion");
    let call = || {
        let call = regional.ssm.update_document_default_version().name(name);
        call.document_version(&number).send()
    };
    env.session.call(api, call).await?;
    Ok(())
}

impl Primitive for SsmDocument {
    const KIND: &'static str = SsmDocument::KIND;

    fn fields(&self) -> Vec<Field> {
        vec![Field::new("content", self.version()).digest(), Field::new("type", "Automation")]
    }

    async fn observe(
        env: &Env,
        region: &str,
        wanted: &[&Wanted<Self>],
    ) -> Result<Vec<Observation>, ApiError> {
        let all = documents(env, region).await?;
        let (partition, account) = (&env.scope.partition, &env.scope.account);
        let seen = |wanted: &&Wanted<Self>| {
            let one = all.iter().find(|one| one.name() == Some(&wanted.name))?;
            let kind = one.document_type().map_or("", DocumentType::as_str);
            let arn = format!("arn:{partition}:ssm:{region}:{account}:document/{}", wanted.name);
            Some(
                Observation::new(wanted.address.clone(), region, &wanted.name)
                    .with("content", one.version_name().unwrap_or_default())
                    .with("type", kind)
                    .output(ARN, arn)
                    .tagged(tags_of(one), env),
            )
        };
        Ok(wanted.iter().filter_map(seen).collect())
    }

    async fn create(env: &Env, wanted: &Wanted<Self>) -> Result<Outputs, Failure> {
        let regional = env.region(&wanted.region);
        let api = regional.api("ssm", "CreateDocument");
        let call = || {
            let call = regional.ssm.create_document().name(&wanted.name);
            let call = call.content(&wanted.settings.content);
            let call = call.document_type(DocumentType::Automation);
            let call = call.document_format(DocumentFormat::Json);
            let call = call.version_name(wanted.settings.version());
            call.set_tags(Some(tags(&wanted.tags))).send()
        };
        env.session.call_once(api, call).await?;
        active(env, &wanted.region, &wanted.name).await?;
        Ok(Outputs::new())
    }

    async fn update(
        env: &Env,
        wanted: &Wanted<Self>,
        found: &Observation,
        differing: &[&'static str],
    ) -> Result<Outputs, Failure> {
        if differing.contains(&"content") {
            renew(env, wanted).await?;
        }
        if differing.contains(&"tags") {
            let (set, gone) = retag(&found.tags, &wanted.tags);
            let regional = env.region(&wanted.region);
            let kind = ResourceTypeForTagging::Document;
            if !set.is_empty() {
                let api = regional.api("ssm", "AddTagsToResource");
                let call = || {
                    let call = regional.ssm.add_tags_to_resource().resource_type(kind.clone());
                    call.resource_id(&wanted.name).set_tags(Some(tags(&set))).send()
                };
                env.session.call(api, call).await?;
            }
            if !gone.is_empty() {
                let api = regional.api("ssm", "RemoveTagsFromResource");
                let call = || {
                    let call = regional.ssm.remove_tags_from_resource().resource_type(kind.clone());
                    call.resource_id(&wanted.name).set_tag_keys(Some(gone.clone())).send()
                };
                env.session.call(api, call).await?;
            }
        }
        Ok(Outputs::new())
    }

    async fn delete(env: &Env, found: &Observation) -> Result<(), Failure> {
        let regional = env.region(&found.region);
        let api = regional.api("ssm", "DeleteDocument");
        let call = || regional.ssm.delete_document().name(&found.id).send();
        Ok(env.session.remove(api, call).await?)
    }
}
