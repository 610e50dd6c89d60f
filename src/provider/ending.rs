//! How a run ends: everything is done, some of it, or nothing is left; and the state that is kept then.

use std::time::Duration;

use super::{
    apply::Run,
    explain::{self, Doing},
    flow::{Look, Opened, session},
    read::warnings,
    state::{Kept, as_promised, broken_promises, observed},
};
use crate::{
    cluster::{names::final_snapshot, roles::INCOMPLETE},
    components::{Owner, db_instance::DbInstance, kms_key::KmsKey},
    executor::Claim,
    plugin::{CancellationToken, Diagnostics, Outcome, Value},
};

/// How long the look after a failure may take in real time, so that an interrupt ends soon.
pub(super) const LAST_LOOK: Duration = Duration::from_millis(3500);
/// How long it may take where nobody waits for the end: the keys of a large account are many.
const THOROUGH_LOOK: Duration = Duration::from_secs(120);

impl Run<'_> {
    /// What is kept of the object that the state has.
    fn kept_before(&self) -> Kept {
        let object = match self.doing {
            Doing::Create => None,
            Doing::Update | Doing::Destroy => Kept::parse(&self.input.private).object,
        };
        let account = Some(self.env.scope.account.clone());
        Kept { object, account, ..Kept::default() }.marked()
    }

    /// Everything is done.
    pub(super) async fn reached(
        &self,
        claim: &Claim,
        opened: Opened,
        mut found: Diagnostics,
    ) -> Outcome {
        let kept = Kept { cluster_id: Some(claim.cluster_id.clone()), ..self.kept_before() };
        if self.doing == Doing::Create {
            let (suffix, id) = (self.spec.suffix.to_string(), claim.cluster_id.clone());
            self.configured.memory().finished.insert(suffix, id);
        }
        let mut state = observed(&self.arguments, &opened);
        if let Err(error) = claim.complete(&self.env).await {
            // An error would have Terraform rebuild what is whole.
            found.extend(explain::unnoted(&error));
            state = state.with("status", Value::string(INCOMPLETE));
        }
        // A drill may have ended meanwhile. What the plan said is promised; the next read tells of the drill.
        let planned = self.input.planned.as_ref().map(|planned| planned.get("recovery"));
        if let Some(planned) = planned.filter(|planned| planned.is_wholly_known()) {
            state = state.with("recovery", planned.clone());
        }
        if let Some(planned) = &self.input.planned {
            let broken = broken_promises(planned, &state);
            if self.doing == Doing::Create {
                // An error would have Terraform rebuild what is whole: the next read tells.
                state = as_promised(planned, &state);
            } else if !broken.is_empty() {
                found.extend(explain::moved_meanwhile(&broken));
                found.extend(warnings(&opened));
            }
        }
        Outcome { state: Some(state), private: kept.to_private(), diagnostics: found }
    }

    /// What there is after something went wrong. The look is a new one: the run's own session has ended.
    pub(super) async fn partial(&self, mut found: Diagnostics) -> Outcome {
        found.say_in_errors(self.doing.next_step());
        let session = session(self.configured, CancellationToken::new(), self.spec.timeouts.read);
        let env = self.env.with_session(session);
        let id = env.scope.cluster_id.clone();
        let mut kept = Kept { cluster_id: id.clone(), ..self.kept_before() };
        let look = Opened::look(&env, &self.spec, id, Look::Lenient);
        let seen = tokio::select! {
            biased;
            seen = look => seen.ok(),
            () = self.patience() => None,
        };
        let state = match seen {
            Some(opened) => {
                let state = observed(&self.arguments, &opened);
                let is_complete = opened.claim.is_none_or(|claim| claim.is_complete);
                // A create that gets here has not finished it, whoever has.
                kept.is_unfinished = self.doing == Doing::Create || !is_complete;
                // However much of it there is: that it is finished, another apply has to note.
                if !is_complete { state.with("status", Value::string(INCOMPLETE)) } else { state }
            }
            None => {
                found.warning(
                    "What exists by now could not be looked at",
                    "The state keeps what was known before; the next plan reads all of it.",
                );
                kept.is_unfinished =
                    self.doing == Doing::Create || Kept::parse(&self.input.private).is_unfinished;
                match &self.input.prior {
                    Some(prior) => prior.clone(),
                    None => self.blank(),
                }
            }
        };
        Outcome { state: Some(state), private: kept.to_private(), diagnostics: found }
    }

    /// Ends when what comes last has had its time: little of it once somebody waits for the end.
    pub(super) async fn patience(&self) {
        if self.env.session.stopped().is_none() {
            let stopped = self.env.session.cancel.cancelled();
            let _ = tokio::time::timeout(THOROUGH_LOOK, stopped).await;
        }
        tokio::time::sleep(LAST_LOOK).await;
    }

    /// A state of a create of which nothing is known but that it was begun.
    fn blank(&self) -> Value {
        let empty = || Value::string_map::<String, String>([]);
        self.schema
            .with_defaults(&self.schema.arguments_of(&self.arguments))
            .with("id", Value::string(self.spec.suffix.as_str()))
            .with("components", empty())
            .with("arns", empty())
            .with("tags_all", Value::string_map(self.spec.tags.clone()))
            .with("status", Value::string(INCOMPLETE))
            .with("pending_changes", Value::strings::<String>([]))
    }

    /// What a destroy leaves that stopped after the monitors were told of it.
    pub(super) async fn remaining(&self, found: Diagnostics) -> Outcome {
        let mut outcome = self.partial(found).await;
        let components = outcome.state.as_ref().map(|state| state.get("components"));
        let is_database = |address: &String| address.ends_with(&format!("/{}", DbInstance::KIND));
        if let Some(Value::Mapping(left)) = components
            && left.keys().any(is_database)
        {
            outcome.diagnostics.extend(explain::told_to_go());
        }
        outcome.private.clone_from(&self.input.private);
        outcome
    }

    /// Nothing is left.
    pub(super) fn gone(&self, mut found: Diagnostics, opened: &Opened) -> Outcome {
        let kept_id = opened.env.scope.cluster_id.clone();
        let mut left = vec![format!(
            "the KMS keys in {}, {} and {}, which AWS deletes after 7 days (their aliases are gone)",
            self.spec.primary.region, self.spec.dr.region, self.spec.failover.witness_region
        )];
        if self.spec.deletion.final_snapshot {
            let id = kept_id.unwrap_or_default();
            let name = final_snapshot(&self.spec.suffix, &id);
            left.push(format!(
                "the snapshot {name}, which was asked for: to restore from it, cancel the deletion of its \
                 {} within these 7 days",
                KmsKey::KIND
            ));
        }
        if self.spec.database.monitoring_interval > 0 {
            left.push(
                "the log group RDSOSMetrics, which all instances of the account share".into(),
            );
        }
        let theirs = opened.inventory.all().filter(|one| one.owner != Owner::Ours);
        let theirs: Vec<_> = theirs.map(|one| one.address.to_string()).collect();
        if !theirs.is_empty() {
            left.push(format!(
                "what has the cluster's names and is somebody else's by its tags: {}",
                theirs.join(", ")
            ));
        }
        found.warning(
            format!("Nothing of the cluster {} is left", self.spec.suffix),
            format!(
                "Every service was looked at again. Still there, as it must be: {}.",
                left.join("; ")
            ),
        );
        Outcome { state: None, private: Vec::new(), diagnostics: found }
    }
}
