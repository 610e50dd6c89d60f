//! What may be written in HCL: the provider's configuration.

use super::checks;
use crate::plugin::{Attribute, Nesting, Presence, Schema, Type};

/// The provider's own configuration. Credentials are found as every AWS tool finds them; regions belong
/// to the resource.
pub(super) fn provider() -> Schema {
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
                vec![
                    Attribute::required("role_arn", Type::String, "The ARN of the role to assume."),
                    Attribute::optional(
                        "session_name",
                        Type::String,
                        "The name of the session. Default: `terraform-provider-trading`.",
                    ),
                    Attribute::optional(
                        "external_id",
                        Type::String,
                        "The external id that the role's trust policy asks for.",
                    ),
                    Attribute::optional(
                        "policy",
                        Type::String,
                        "A policy in JSON that narrows the session further.",
                    ),
                    Attribute::optional(
                        "duration",
                        Type::String,
                        "How long a session lasts before it is renewed, `15m` to `12h`; AWS allows one hour in chains. \
                         Default: `1h`.",
                    )
                    .validate(checks::session_duration),
                ],
                "Roles to assume before anything is called, one after the other.",
            ),
            Attribute::nested(
                "default_tags",
                Nesting::Single,
                Presence::Optional,
                vec![Attribute::optional("tags", Type::string_map(), "The tags.")],
                "Tags for everything that the provider makes. A resource's own `tags` win.",
            ),
            Attribute::optional(
                "endpoints",
                Type::string_map(),
                "Other endpoints by service (`cloudwatch`, `dynamodb`, `ec2`, `events`, `iam`, `kms`, `lambda`, \
                 `logs`, `rds`, `route53`, `secretsmanager`, `sns`, `ssm`, `sts`, `tagging`), for every region. AWS's own variables \
                 `AWS_ENDPOINT_URL` and `AWS_ENDPOINT_URL_<SERVICE>` work too.",
            ),
        ],
    }
}
