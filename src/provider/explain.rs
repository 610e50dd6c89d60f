//! What happened, in words: every error that a user can meet is written here.

use super::{draft::diagnose, flow::Trouble, walk::Clash};
use crate::{
    aws::{ApiError, ErrorClass, WaitError},
    cluster::{Change, Changes, Verb},
    components::{Failure, Observation, Owner, SUFFIX_TAG, db_backup::DbBackup},
    executor::{self, ClaimError, LeaseError, Loss, Report},
    plugin::{Diagnostics, Path},
};

/// An error of a call, with what to do about it.
pub(super) fn api(error: &ApiError) -> String {
    let advice = match error.class {
        ErrorClass::Denied => {
            "The credentials may not do this. Allow the action on the resource that AWS names, in the \
             policies of whoever runs Terraform, and apply again."
        }
        ErrorClass::Credentials if of_role(error) && error.api.operation != "AssumeRole" => {
            "The identity provider has to be known to the account, the token to be for its audience and not expired, and \
             the role's trust policy to allow sts:AssumeRoleWithWebIdentity to whom the token names."
        }
        ErrorClass::Credentials if of_role(error) => {
            "The role's trust policy has to name whoever assumes it, and allow what is asked for (tags of the session need \
             sts:TagSession, a source identity sts:SetSourceIdentity); whoever assumes it needs the same rights on the \
             role in policies of their own. `aws sts assume-role` shows the same."
        }
        ErrorClass::Credentials => {
            "AWS did not take the credentials, or none were found. They are looked for where every AWS tool \
             does: environment variables, the shared files and profiles (also of SSO), web identity, and the \
             roles of containers and instances. `aws sts get-caller-identity` shows whether they work. A clock of this \
             machine that is wrong by minutes spoils them as well."
        }
        ErrorClass::Throttled => {
            "AWS goes on throttling the calls of this account. Try again later."
        }
        ErrorClass::Transient => {
            "AWS, or the way to it, failed repeatedly. If an endpoint of your own is configured, check that \
             it is reachable; otherwise see AWS's health dashboard for the region, and try again."
        }
        ErrorClass::Busy => {
            "It is being changed, or something uses it that is not this cluster's. Wait until that is over, or take away \
             what uses it; then try again."
        }
        ErrorClass::NotYetConsistent => {
            "For minutes, what it refers to was not known, or may not be used. See whether it is there, and whether its \
             policy allows it; then try again."
        }
        ErrorClass::NotFound | ErrorClass::AlreadyExists => {
            "That is not as it was a moment ago, when it was looked at: plan again."
        }
        ErrorClass::Refused if error.is_of_aws() => "Settle what AWS names; then try again.",
        ErrorClass::WrongAccount => return error.message.clone(),
        _ => return error.to_string(),
    };
    format!("{error}\n\n{advice}")
}

/// What kept a look from succeeding.
pub(super) fn trouble(trouble: &Trouble, doing: &str) -> Diagnostics {
    match trouble {
        Trouble::Mistakes(mistakes) => diagnose(mistakes),
        Trouble::Api(error) => Diagnostics::from_error(summary(error, doing), api(error)),
        Trouble::Another { remembered, there } => Diagnostics::from_error(
            "Another cluster has this environment suffix by now",
            format!(
                "The state speaks of {remembered}, which is gone; what is there is {there}, made by somebody \
                 else, and nothing of it was touched. Remove this resource from the state \
                 (`terraform state rm`), then import the other cluster or choose another suffix."
            ),
        ),
    }
}

/// Whether STS refused a role, rather than that nobody had credentials to ask it with.
fn of_role(error: &ApiError) -> bool {
    error.api.operation.starts_with("AssumeRole") && error.code.is_some()
}

fn summary(error: &ApiError, doing: &str) -> String {
    match error.class {
        ErrorClass::Credentials if of_role(error) => "A role cannot be assumed".to_owned(),
        ErrorClass::Credentials => "There are no credentials that AWS takes".to_owned(),
        ErrorClass::Denied => format!("Permission denied while {doing}"),
        ErrorClass::Transient | ErrorClass::Throttled => {
            format!("{} in {} did not answer while {doing}", error.api.service, error.api.region)
        }
        ErrorClass::WrongAccount => "The credentials are of another account".to_owned(),
        ErrorClass::Stopped => format!("Stopped while {doing}"),
        _ => format!("AWS refused a call while {doing}"),
    }
}

/// Why the lease was not to be had.
pub(super) fn lease(error: &LeaseError, suffix: &str) -> Diagnostics {
    match error {
        LeaseError::Api(error) => untouched(error, "taking the cluster's lease"),
        LeaseError::Held { .. } => Diagnostics::from_error(
            format!("Somebody else is changing the cluster {suffix}"),
            format!(
                "By its heartbeat, {error}. Nothing was changed. Wait until it is done, then plan again. \
                 Should it have died, its lease ends 90 seconds later by itself."
            ),
        ),
        LeaseError::NoRandomness(_) => {
            Diagnostics::from_error("The cluster's lease was not taken", error.to_string())
        }
        LeaseError::Stopped(_) => Diagnostics::from_error(
            "Interrupted before anything was changed",
            "The cluster's lease was not held yet. Run the same command again.",
        ),
    }
}

/// Why a run ended before it touched anything of the cluster.
pub(super) fn untouched(error: &ApiError, doing: &str) -> Diagnostics {
    let mut text = api(error);
    if error.class == ErrorClass::Stopped {
        text +=
            "\n\nThis run made and changed nothing of the cluster yet. Run the same command again.";
    }
    Diagnostics::from_error(summary(error, doing), text)
}

/// Why there is no claim to the suffix.
pub(super) fn claim(error: &ClaimError) -> Diagnostics {
    match error {
        ClaimError::Api(error) => untouched(error, "claiming the environment suffix"),
        ClaimError::NoRandomness(_) => {
            Diagnostics::from_error("The cluster got no id", error.to_string())
        }
    }
}

/// A cluster is to be destroyed, and its protection is on.
pub(super) fn protected() -> Diagnostics {
    let mut found = Diagnostics::new();
    found.error_at(
        Path::attributes("deletion.protection"),
        "deletion.protection keeps the cluster from being destroyed",
        "Set it to false, apply that, then destroy or replace the cluster.",
    );
    found
}

/// A cluster of that suffix is there, and Terraform does not have it.
pub(super) fn exists(suffix: &str, id: &str) -> Diagnostics {
    let mut found = Diagnostics::new();
    found.error_at(
        Path::attributes("environment_suffix"),
        format!("There is a cluster {suffix} already"),
        format!(
            "It was made as {id} and its creation was finished, but it is not in this state. To manage it \
             here, import it: `terraform import trading_dr_cluster.<name> {suffix}`. To make another one, \
             choose another environment_suffix. If it is this resource that is replaced: with `create_before_destroy`, \
             its own or that of a resource which depends on it, it would be made before the old one is gone, and a \
             suffix has one cluster. Take the old one away first (`terraform destroy -target=…`), or replace it \
             without that."
        ),
    );
    found
}

/// Two resources of one plan have one suffix.
pub(super) fn clash(suffix: &str, clash: Clash) -> Diagnostics {
    let (summary, detail) = match clash {
        Clash::Shared => (
            format!("Two resources have the environment suffix {suffix}"),
            "Another trading_dr_cluster of this configuration has it as well, and there is one cluster of a suffix. Give \
             one of the two another suffix. Where both are in the state, as after two imports, take one out of it \
             (`terraform state rm <its address>`) and out of the configuration: that leaves the cluster alone.",
        ),
        Clash::Removed => (
            format!("The cluster {suffix} would be destroyed, and another resource keeps it"),
            "Two resources of the state have this cluster, and one of them goes. Take that one out of the state \
             (`terraform state rm <its address>`, or a `removed` block with `destroy = false`): that leaves the cluster \
             alone.",
        ),
        Clash::Readdressed => (
            format!("The cluster {suffix} would be destroyed, and another resource makes it anew"),
            "Terraform keeps to no order between the two. If the resource only has another name or place now, say so in a \
             `moved` block, and nothing is destroyed. To really make the cluster anew, take it away first, in an apply of \
             its own.",
        ),
    };
    let mut found = Diagnostics::new();
    found.error_at(Path::attributes("environment_suffix"), summary, detail);
    found
}

/// Refusals of a plan, at the arguments that they come from.
pub(super) fn refusals(changes: &Changes) -> Diagnostics {
    let mut found = Diagnostics::new();
    for change in changes.iter() {
        let Verb::Refuse(why) = &change.verb else { continue };
        let foreign = change.found.as_ref().is_some_and(|found| found.owner != Owner::Ours);
        let argument = if foreign { Some("environment_suffix") } else { argument(change) };
        let summary = format!("{} cannot be brought to what is wanted", change.address);
        match argument {
            Some(argument) => {
                found.error_at(Path::attributes(argument), summary, format!("{why}."));
            }
            None => found.error(summary, format!("{why}.")),
        }
    }
    found
}

/// The argument that a refused setting comes from.
fn argument(change: &Change) -> Option<&'static str> {
    let fields = change.component.as_ref()?.fields.iter();
    let found = change.found.as_ref()?;
    let mut differing = fields.filter(|field| {
        let observed = found.settings.get(field.name).map(String::as_str).unwrap_or_default();
        !field.argument.is_empty() && !field.is_reached(field.value.shown(), observed)
    });
    differing.next().map(|field| field.argument)
}

/// What an apply is doing, for its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    Create,
    Update,
    Destroy,
}

impl Doing {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Destroy => "destroy",
        }
    }

    /// What Terraform will do next with what is there now, and how to go on.
    pub(super) fn next_step(self) -> &'static str {
        match self {
            Self::Create => {
                "What was made is kept in the state, and Terraform marks it as tainted. To go on where this \
                 run stopped: `terraform untaint <address of this resource>`, then `terraform apply`. Apply \
                 alone removes it and makes it anew; `terraform destroy` removes it."
            }
            Self::Update => {
                "What was changed is kept in the state. `terraform apply` goes on from there."
            }
            Self::Destroy => {
                "What is left is kept in the state. `terraform destroy` goes on from there."
            }
        }
    }
}

/// A run lost its lease. A cluster that was finished all the same is none that Terraform should make anew.
pub(super) fn lost_lease(loss: Loss, region: &str, doing: Doing, is_done: bool) -> Diagnostics {
    let (summary, why) = match loss {
        Loss::Silenced => (
            "The cluster's lease could not be renewed",
            format!(
                "For more than a minute, this run could not show that it lives: SSM in {region} took no heartbeat of \
                 it, or it stood still. Another one may have taken over by then: plan again."
            ),
        ),
        Loss::Removed => (
            "The cluster's lease is gone",
            format!(
                "Another run has destroyed the cluster, or somebody removed the parameters in {region} that keep a second \
                 run from starting. Find out who else works on the cluster, then plan again."
            ),
        ),
        Loss::TakenOver => (
            "Another run has taken over",
            "This run stood still for more than 90 seconds, so that its lease counted as abandoned, and another run \
             works on the cluster now."
                .to_owned(),
        ),
    };
    let end = match (doing, loss) {
        (Doing::Create, Loss::TakenOver) if is_done => {
            "This one had reached its end by then, so that two states may have the cluster. Keep one: \
             `terraform state rm` it in the other."
                .to_owned()
        }
        _ if is_done => "This run had reached its end by then.".to_owned(),
        (Doing::Create, Loss::TakenOver) => {
            "This one has stopped, and its state has nothing of the cluster. If the other run makes it, that one's state \
             has it; to have it here instead, `terraform state rm` it there once it is made, and import it here."
                .to_owned()
        }
        _ => format!("This run has stopped. {}", doing.next_step()),
    };
    let mut found = Diagnostics::new();
    let detail = format!("{why} {end}");
    if is_done {
        found.warning(summary, detail);
    } else {
        found.error(summary, detail);
    }
    found
}

/// What to do with a state of a create that another run has finished.
const FINISHED: &str = "This state is of a create that was not finished, and another run has finished the cluster since, \
                        probably with a state of its own. Only one state may have it. To keep it here: \
                        `terraform untaint <address of this resource>`, then `terraform apply`, and `terraform state rm` \
                        where else it is. To leave it to the other: `terraform state rm` here. A deposed object, which \
                        create_before_destroy leaves beside the next one, goes with `terraform state rm` of its resource, \
                        and `terraform import` brings the cluster back.";

/// A state has a cluster that another run has finished since.
pub(super) fn finished_since(suffix: &str) -> Diagnostics {
    let mut found = Diagnostics::new();
    found.warning(
        format!("The cluster {suffix} was finished since this state was written"),
        FINISHED,
    );
    found
}

/// Such a state is of no right to destroy what the other run finished.
pub(super) fn finished_by_another(suffix: &str) -> Diagnostics {
    Diagnostics::from_error(
        format!("The cluster {suffix} was finished by another run, and is not destroyed"),
        format!("{FINISHED} Nothing was changed."),
    )
}

/// An update came to its end, and the cluster is another one than its plan said.
pub(super) fn moved_meanwhile(what: &[String]) -> Diagnostics {
    Diagnostics::from_error(
        "The cluster changed by itself while this apply ran",
        format!(
            "All changes are done, and kept in the state. Otherwise than planned are: {}. The monitors may have failed over, or \
             keep applications out of a writer, or somebody has changed it. `terraform plan` shows what there is now.",
            what.join(", ")
        ),
    )
}

/// A create was refused, and what says that the suffix is taken could not be removed.
pub(super) fn claim_left(path: &str, region: &str, error: &ApiError) -> Diagnostics {
    let mut found = Diagnostics::new();
    found.warning(
        "The environment suffix is still taken",
        format!(
            "Nothing was made, but the parameters below {path} in {region} could not be removed: {error}. Another create \
             of the suffix takes it over; to do without the suffix, delete them."
        ),
    );
    found
}

/// A destroy stopped while there are databases.
pub(super) fn told_to_go() -> Diagnostics {
    let mut found = Diagnostics::new();
    found.warning(
        "Nothing may be promoted any more",
        "The monitors were told, or may have been told, that the cluster is being removed, and fail over nothing then. To \
         keep the cluster: `terraform apply` puts back what is missing and lets them act again.",
    );
    found
}

/// The next object of the same resource has the cluster already.
pub(super) fn gone_on_with(suffix: &str) -> Diagnostics {
    let mut found = Diagnostics::new();
    found.warning(
        format!("The cluster {suffix} was gone on with, and nothing of it is removed"),
        "With create_before_destroy, the create took over what an unfinished one had left, and the old object of this \
         resource is only forgotten.",
    );
    found
}

fn failure(failure: &Failure) -> String {
    match failure {
        Failure::Api(error) | Failure::Wait(WaitError::Api(error)) => api(error),
        other => other.to_string(),
    }
}

/// How far a run got that did not reach its end, and why.
pub(super) fn report(report: &Report, doing: Doing, stopped: Option<&'static str>) -> Diagnostics {
    let mut found = Diagnostics::new();
    let total = report.done.len() + report.failed.len() + report.unfinished.len();
    let unfinished: Vec<_> = report.unfinished.iter().map(ToString::to_string).collect();
    let failed = report.failed.len();
    let mut progress =
        format!("{} of {total} changes are done, {failed} failed.", report.done.len());
    if !unfinished.is_empty() {
        progress = format!("{progress} Not finished: {}.", unfinished.join(", "));
    }
    let seen = report.seen.iter().filter(|(_, state)| !state.is_empty());
    let seen: Vec<_> = seen.map(|(one, state)| format!("{one} ({state})")).collect();
    if !seen.is_empty() {
        progress = format!("{progress} Last seen: {}.", seen.join(", "));
    }
    for one in &report.failed {
        let what = format!("{} {} failed", one.doing, one.address);
        let mut why = failure(&one.failure);
        if one.address.kind() == DbBackup::KIND && one.doing == executor::Doing::Create {
            why.push_str(
                " Should AWS not replicate backups beside a replica, `backup = { cross_region = false }` \
                 goes without them.",
            );
        }
        let detail = format!("{why}\n\n{progress}\n\n{}", doing.next_step());
        found.error(capital(&what), detail);
    }
    if report.failed.is_empty() {
        let why = stopped.unwrap_or("stopped");
        found.error(
            format!("The {} was not finished: {why}", doing.word()),
            format!("{progress} What AWS has begun goes on by itself.\n\n{}", doing.next_step()),
        );
    }
    found
}

/// Says with the errors how much was changed before them.
pub(super) fn after(found: Diagnostics, done: usize) -> Diagnostics {
    let text = match done {
        0 => "Nothing was changed.".to_owned(),
        _ => format!("{done} changes are done."),
    };
    found.with_errors_saying(&text)
}

/// A run was stopped after so many changes, while it waited for AWS to show what it, or a run before, did.
pub(super) fn unseen(doing: Doing, why: &str, done: usize) -> Diagnostics {
    let summary = format!("The {} was not finished: {why}", doing.word());
    let waits = match doing {
        Doing::Create | Doing::Update => {
            "AWS may take minutes to show all of it, which was waited for"
        }
        Doing::Destroy => {
            "AWS may take minutes to show nothing of it any more, which was waited for"
        }
    };
    let detail = if done == 0 {
        format!(
            "Nothing was changed. A run before did something a moment ago: {waits}. Running the same command again \
             continues."
        )
    } else {
        format!("{done} changes are done. {waits}.\n\n{}", doing.next_step())
    };
    Diagnostics::from_error(summary, detail)
}

/// A create is finished, and that could not be noted.
pub(super) fn unnoted(error: &ApiError) -> Diagnostics {
    let mut found = Diagnostics::new();
    found.warning(
        "That the create is finished could not be noted",
        format!(
            "The cluster is whole, and in the state. Until it is noted in AWS, another state's create of the same \
             suffix would take the cluster for one that was left unfinished: the next plan has the note as its only \
             change; apply it.\n\n{}",
            api(error)
        ),
    );
    found
}

/// Something has the cluster's names and is not known as the cluster's, so that a destroy would leave it.
pub(super) fn strangers(all: &[&Observation], suffix: &str) -> Diagnostics {
    let mut found = Diagnostics::new();
    let why = |one: &Observation| match &one.owner {
        Owner::Foreign(why) => why.clone(),
        Owner::Ours => "it is this cluster's".to_owned(),
    };
    for one in all {
        found.error(
            format!("{} is not known as this cluster's", one.address),
            format!(
                "{} has the name of a component of the cluster, but {}. It would stay while what belongs to it goes; \
                 such things are looked for before anything is removed. If it is this cluster's, put its tag \
                 back ({SUFFIX_TAG} = {suffix}, or the one that is named here); if not, rename it, or give that tag \
                 the value of whoever has it.",
                one.id, why(one)
            ),
        );
    }
    found
}

/// A writer of which no final snapshot can be had.
pub(super) fn unsaveable(writer: &Observation, state: &str) -> Diagnostics {
    let mut found = Diagnostics::new();
    found.error_at(
        Path::attributes("deletion.final_snapshot"),
        format!("RDS makes no final snapshot of {}", writer.address),
        format!(
            "It is {state}, and RDS makes snapshots of available instances only. Nothing was removed: what there is beside \
             it would go first. Have it available again; or, where another instance has the data that count, as after a \
             failover, delete this one yourself; or do without snapshots: set deletion.final_snapshot to false, apply \
             that (whatever else that apply says of the instance), then destroy. A destroy goes by what was last applied; \
             of a cluster that is tainted, take the mark away before: `terraform untaint`."
        ),
    );
    found
}

/// `refuse us-east-1/kms-alias` as it reads in a sentence.
pub(super) fn change_of(what: &str) -> &str {
    what.strip_prefix("refuse ").unwrap_or(what)
}

/// An apply was not finished, and has told the monitors to promote nothing.
pub(super) fn held() -> Diagnostics {
    let mut found = Diagnostics::new();
    found.warning(
        "Nothing is promoted until the next apply is done",
        "The monitors were told to wait while the databases are changed, and what AWS has begun goes on. An apply \
         that gets to its end lets them act again; without one, they do when timeouts.update has passed.",
    );
    found
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|one| one.to_uppercase().to_string()).unwrap_or_default();
    first + letters.as_str()
}

/// The world is not what the plan was made for.
pub(super) fn stale(details: &[String]) -> Diagnostics {
    Diagnostics::from_error(
        "The plan is stale: the cluster, or what is around it, has changed since it was made",
        format!(
            "Going on would do what the plan did not show: {}. Nothing was changed. Plan again, and apply \
             what you see then.",
            details.join("; ")
        ),
    )
}
