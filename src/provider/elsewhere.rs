//! What the other region says of a cluster when one of its regions does not answer: at 3 a.m., that is what somebody
//! wants to know who runs a plan.

use std::time::Duration;

use super::{explain, flow::Trouble};
use crate::{
    aws::ErrorClass,
    cluster::{Spec, failover::Phase, names::Name},
    components::{Env, ledger},
    plugin::Diagnostics,
};

/// How long the other region is waited for.
const LONGEST: Duration = Duration::from_secs(20);

/// What kept a look from succeeding, with what the other region's monitors have written down.
pub(super) async fn trouble(env: &Env, spec: &Spec, trouble: &Trouble, doing: &str) -> Diagnostics {
    let found = explain::trouble(trouble, doing);
    let Trouble::Api(error) = trouble else { return found };
    // What is changed in one region for all of them says nothing of that region.
    let is_global = ["iam", "route53", "sts"].contains(&error.api.service);
    if error.class != ErrorClass::Transient || is_global {
        return found;
    }
    let (primary, dr) = (&spec.primary.region, &spec.dr.region);
    let silent = &*error.api.region;
    let (lost, other) = if silent == primary {
        (primary, dr)
    } else if silent == dr {
        (dr, primary)
    } else {
        return found;
    };
    let table = Name::Ledger.of(&spec.suffix);
    let said = tokio::time::timeout(LONGEST, ledger::read(env, other, &table)).await;
    let known = match said {
        Err(_) => format!("{other} did not say in time what it knows of the cluster."),
        Ok(Err(error)) => {
            format!("{other} could not be asked what it knows of the cluster: {error}.")
        }
        // Its monitors guard the writer that was made there, and note a failover to the other region only so.
        Ok(Ok(said)) if other == primary && said.is_closed => format!(
            "By the monitors in {other}, applications are kept out of its writer: {lost} has probably been promoted."
        ),
        Ok(Ok(said)) if other == primary && Phase::parse(&said.phase) == Some(Phase::Normal) => {
            format!("By the monitors in {other}, applications may write there.")
        }
        Ok(Ok(said)) => match Phase::parse(&said.phase) {
            Some(Phase::Promoted) => format!(
                "By the monitors in {other}, the cluster has failed over: the instance there takes writes, and the name \
                 leads to it."
            ),
            Some(Phase::Promoting | Phase::Accepted) => {
                format!("By the monitors in {other}, a failover to it is under way.")
            }
            Some(Phase::Diverged) => format!(
                "By the monitors in {other}, two instances take writes: somebody has to decide which of them counts."
            ),
            Some(Phase::Destroying) => {
                format!("By the monitors in {other}, the cluster is being removed.")
            }
            Some(Phase::Normal) => {
                format!("By the monitors in {other}, nothing has failed over.")
            }
            None => format!("{other} has no record of its monitors."),
        },
    };
    let text = format!(
        "{known} Wait until {lost} answers: a plan that knows half of the cluster would be wrong \
         about the other half."
    );
    let mut all = Diagnostics::new();
    for one in found.iter() {
        all.error(one.summary.clone(), format!("{}\n\n{text}", one.detail));
    }
    all
}
