//! What the other region says of a cluster when one of its regions does not answer: at 3 a.m., that is what somebody
//! wants to know who runs a plan.

use super::{explain, flow::Trouble};
use crate::{
    aws::ErrorClass,
    cluster::{Spec, failover::Phase, names::Name},
    components::{Env, ledger},
    plugin::Diagnostics,
};

/// What kept a look from succeeding, with what the other region's monitors have written down.
pub(super) async fn trouble(env: &Env, spec: &Spec, trouble: &Trouble, doing: &str) -> Diagnostics {
    let found = explain::trouble(trouble, doing);
    let Trouble::Api(error) = trouble else { return found };
    if error.class != ErrorClass::Transient {
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
    let said = ledger::read(env, other, &Name::Ledger.of(&spec.suffix)).await;
    let known = match said {
        Err(_) => format!("{other} did not say either what it knows of the cluster."),
        Ok(said) => match Phase::parse(&said.phase) {
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
        "{known} Nothing was changed. Wait until {lost} answers: a plan that knows half of the cluster would be wrong \
         about the other half."
    );
    let mut all = Diagnostics::new();
    for one in found.iter() {
        all.error(one.summary.clone(), format!("{}\n\n{text}", one.detail));
    }
    all
}
