//! What may be written in HCL: the provider's configuration.

use super::checks as own;
use crate::{
    plugin::{Attribute, Nesting, Presence, Schema, Type},
    provider::checks,
};

/// The provider's own configuration. Credentials are found as every AWS tool finds them; regions belong
/// to the resource.
pub(in crate::provider) fn schema() -> Schema {
    Schema {
        version: 0,
        description: "Builds PostgreSQL disaster-recovery clusters on AWS. Credentials come from where \
                      every AWS tool finds them: environment, shared files, SSO, web identity, \
                      instance and container roles.",
        attributes: vec![
            Attribute::optional(
                "profile",
                Type::String,
                "The profile of the shared AWS configuration to use. Default: `AWS_PROFILE`, then `default`.",
            ),
            Attribute::optional(
                "access_key",
                Type::String,
                "The id of an access key, with `secret_key`. Nothing is looked for then. Better kept out of \
                 configurations: AWS's own variables and files do the same.",
            )
            .sensitive(),
            Attribute::optional("secret_key", Type::String, "The secret of `access_key`.").sensitive(),
            Attribute::optional(
                "token",
                Type::String,
                "The session's token, where `access_key` is of a session.",
            )
            .sensitive(),
            Attribute::optional(
                "shared_config_files",
                Type::strings(),
                "Files with profiles instead of `~/.aws/config`; the last one that says something counts.",
            ),
            Attribute::optional(
                "shared_credentials_files",
                Type::strings(),
                "Files with keys instead of `~/.aws/credentials`.",
            ),
            Attribute::optional(
                "allowed_account_ids",
                Type::string_set(),
                "The only accounts that are worked in. Credentials of another one are refused before anything else \
                 is called. Not together with `forbidden_account_ids`.",
            )
            .validate(checks::account_ids),
            Attribute::optional(
                "forbidden_account_ids",
                Type::string_set(),
                "Accounts that are never worked in.",
            )
            .validate(checks::account_ids),
            Attribute::nested(
                "assume_role",
                Nesting::List,
                Presence::Optional,
                [
                    session(),
                    vec![
                        Attribute::optional(
                            "external_id",
                            Type::String,
                            "The external id that the role's trust policy asks for.",
                        )
                        .validate(own::external_id),
                        Attribute::optional(
                            "source_identity",
                            Type::String,
                            "Who is behind the session: CloudTrail shows it for every call, of later roles of the chain \
                             too. The role's trust policy has to allow `sts:SetSourceIdentity`.",
                        )
                        .validate(own::session_name),
                        Attribute::optional(
                            "tags",
                            Type::string_map(),
                            "The session's tags, for conditions on `aws:PrincipalTag`. The role's trust policy has to \
                             allow `sts:TagSession`.",
                        )
                        .validate(own::session_tags),
                        Attribute::optional(
                            "transitive_tag_keys",
                            Type::string_set(),
                            "Keys of `tags` that later roles of the chain inherit.",
                        ),
                    ],
                ]
                .concat(),
                "Roles to assume before anything is called, one after the other, each with the credentials of the one \
                 before.",
            ),
            Attribute::nested(
                "assume_role_with_web_identity",
                Nesting::Single,
                Presence::Optional,
                [
                    session(),
                    vec![
                        Attribute::optional(
                            "web_identity_token",
                            Type::String,
                            "The identity provider's token. It cannot be renewed: a run that outlasts the session fails.",
                        )
                        .sensitive(),
                        Attribute::optional(
                            "web_identity_token_file",
                            Type::String,
                            "A file with the token, which is read again whenever the session is renewed.",
                        ),
                    ],
                ]
                .concat(),
                "The role that an identity provider's token (OpenID Connect, as of a CI system) stands for. Nothing else \
                 is looked for then; `assume_role` goes on from there. Not together with `profile` or `access_key`.",
            ),
            Attribute::nested(
                "default_tags",
                Nesting::Single,
                Presence::Optional,
                vec![
                    Attribute::optional("tags", Type::string_map(), "The tags.")
                        .validate(own::default_tags),
                ],
                "Tags for everything that the provider makes. A resource's own `tags` win.",
            ),
            Attribute::nested(
                "ignore_tags",
                Nesting::Single,
                Presence::Optional,
                vec![
                    Attribute::optional("keys", Type::string_set(), "Whole keys."),
                    Attribute::optional("key_prefixes", Type::string_set(), "What keys begin with."),
                ],
                "Tags that somebody else sets on what the provider makes (backup plans, cost allocation): they are \
                 neither shown as changes nor removed. Without this, a tag that was added by hand shows in the next \
                 plan and goes with the next apply.",
            ),
            Attribute::optional(
                "endpoints",
                Type::string_map(),
                "Other endpoints by service (`cloudwatch`, `dynamodb`, `ec2`, `events`, `iam`, `kms`, `lambda`, \
                 `logs`, `rds`, `route53`, `secretsmanager`, `sns`, `ssm`, `sts`, `tagging`), for every region, or by \
                 service and region (`\"rds.us-west-2\"`), as interface endpoints of VPCs need it. AWS's own variables \
                 `AWS_ENDPOINT_URL` and `AWS_ENDPOINT_URL_<SERVICE>` work too.",
            )
            .validate(own::endpoints),
            Attribute::optional(
                "sts_region",
                Type::String,
                "The region whose STS gives the credentials of roles and tells whose they are. Default: `us-west-2` for \
                 the former, because credentials are needed most when the usual primary region is lost, and the DR \
                 region for the latter, or the primary one while that does not answer.",
            )
            .validate(checks::region),
            Attribute::optional(
                "use_fips_endpoint",
                Type::Bool,
                "Whether to call the endpoints with modules validated by FIPS 140, for services without an endpoint of \
                 their own. Not every service has them in every region, and the tagging API none: it is called at its usual \
                 one. Default: `AWS_USE_FIPS_ENDPOINT`, or the \
                 profile's `use_fips_endpoint`.",
            ),
            Attribute::optional(
                "use_dualstack_endpoint",
                Type::Bool,
                "Whether to call the endpoints that speak IPv6 too, for services without an endpoint in `endpoints`. \
                 Default: `AWS_USE_DUALSTACK_ENDPOINT`, or the profile's `use_dualstack_endpoint`.",
            ),
            Attribute::optional(
                "http_proxy",
                Type::String,
                "The URL of the proxy for endpoints that begin with `http://`; empty for none, whatever the environment \
                 says. Default: `HTTP_PROXY`, then `ALL_PROXY`.",
            ),
            Attribute::optional(
                "https_proxy",
                Type::String,
                "The URL of the proxy for endpoints that begin with `https://`, which are all of AWS's; empty for none. \
                 Default: `HTTPS_PROXY`, then `ALL_PROXY`. A user and a password in it are better kept in the variable.",
            ),
            Attribute::optional(
                "no_proxy",
                Type::String,
                "Hosts, domains and networks that are reached without a proxy, with commas between them; loopback and \
                 link-local addresses always are. Default: `NO_PROXY`.",
            ),
            Attribute::optional(
                "custom_ca_bundle",
                Type::String,
                "A file with certificates in PEM that are trusted instead of the system's, as behind a proxy that looks \
                 into TLS. Default: `AWS_CA_BUNDLE`.",
            ),
            Attribute::optional(
                "max_retries",
                Type::Number,
                "How often a call is repeated that AWS throttles, or that AWS or the network fails. Default: \
                 `AWS_MAX_ATTEMPTS` less one, or the profile's `max_attempts` less one, or 29 times when throttled and 7 \
                 times otherwise, but for 90 s in a row at most, with pauses of up to 20 s. What takes time by its nature, such as a database that is \
                 being changed, is waited for all the same.",
            )
            .validate(own::retries),
            Attribute::optional(
                "retry_mode",
                Type::String,
                "`standard`, or `adaptive`: calls to a service that throttles are spaced out beforehand, which is slower \
                 and kinder to what else calls AWS from the same account. Default: `AWS_RETRY_MODE`, or the profile's \
                 `retry_mode`, or `standard`.",
            )
            .validate(own::retry_mode),
        ],
    }
}

/// What every session of a role has.
fn session() -> Vec<Attribute> {
    vec![
        Attribute::required("role_arn", Type::String, "The ARN of the role to assume.")
            .validate(own::role_arn),
        Attribute::optional(
            "session_name",
            Type::String,
            "The name of the session. Default: `terraform-provider-trading`.",
        )
        .validate(own::session_name),
        Attribute::optional(
            "policy",
            Type::String,
            "A policy in JSON that narrows the session further.",
        )
        .validate(own::policy),
        Attribute::optional(
            "policy_arns",
            Type::string_set(),
            "ARNs of managed policies that narrow the session further: it may do what the role may, and one of these \
             or `policy` allows.",
        )
        .validate(own::policy_arns),
        Attribute::optional(
            "duration",
            Type::String,
            "How long a session lasts before it is renewed, `15m` to `12h`; AWS allows one hour in chains. \
             Default: `1h`.",
        )
        .validate(checks::session_duration),
    ]
}
