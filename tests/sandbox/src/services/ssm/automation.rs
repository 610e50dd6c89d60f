//! Automations: a document is executed step after step, each call with the rights of whoever started it, or of the
//! role that the document assumes.

use serde_json::{Value, json};

use super::{documents, schema};
use crate::{
    Sandbox, dispatch,
    dispatch::Invoke,
    iam::{Need, Principal},
    request::{Failure, Reply, Request, arn},
    world::World,
};

pub(crate) const EXECUTION: &str = "ssm-automation";
/// Between two looks of a step that waits, in milliseconds.
const POLL: u64 = 10_000;
/// How long a step waits that does not say it, in seconds (aws-facts 9).
const PATIENCE: u64 = 3600;

fn invalid(why: impl Into<String>) -> Failure {
    Failure::new("InvalidAutomationExecutionParametersException", why)
}

pub(super) fn on_start(world: &World, request: &Request) -> Vec<Need> {
    let name = request.text("DocumentName").unwrap_or("*");
    let version = request.text("DocumentVersion").unwrap_or("$DEFAULT");
    let resource = request.arn("ssm", &format!("automation-definition/{name}:{version}"));
    let record = world.get(&request.region, documents::DOCUMENT, name);
    let mut needs = vec![Need::new("", resource).on(record)];
    if let Some(role) = role(request) {
        needs
            .push(Need::new("iam:PassRole", role).with("iam:PassedToService", "ssm.amazonaws.com"));
    }
    needs
}

fn role(request: &Request) -> Option<String> {
    let given = request.get("Parameters")["AutomationAssumeRole"][0].as_str();
    given.filter(|role| !role.is_empty()).map(str::to_owned)
}

pub(super) fn start(world: &mut World, request: &Request) -> Reply {
    let name = request.required("DocumentName")?.to_owned();
    let missing = || {
        let message = format!("Automation definition {name} could not be found.");
        Failure::new("AutomationDefinitionNotFoundException", message)
    };
    let record = world.get(&request.region, documents::DOCUMENT, &name).ok_or_else(missing)?;
    if record["Status"] == "Creating" {
        return Err(missing());
    }
    let number = record["DefaultVersion"].as_str().unwrap_or("1").to_owned();
    let version = documents::version_of(record, &number).ok_or_else(missing)?;
    let text = version["Content"].as_str().unwrap_or_default();
    let document: Value = serde_json::from_str(text).unwrap_or_default();
    let parameters = bound(&document, request.get("Parameters"))?;
    let principal = match role(request) {
        None => request.principal.clone(),
        Some(role) => {
            let name = role.rsplit('/').next().unwrap_or_default().to_owned();
            crate::iam::role_principal(&name)
        }
    };
    let id = world.uuid();
    let execution = json!({
        "AutomationExecutionId": id, "DocumentName": name, "DocumentVersion": number,
        "AutomationExecutionStatus": "InProgress", "ExecutionStartTime": request.now.as_seconds(),
        "Parameters": request.get("Parameters"), "StepExecutions": [], "ExecutedBy": request.principal.arn,
        "_arn": arn("ssm", &request.region, &format!("automation-execution/{id}")), "_account": true,
        "_document": document, "_values": parameters, "_principal": [
            principal.arn, principal.kind, principal.name, principal.id,
        ],
    });
    world.put(&request.region, EXECUTION, &id, execution);
    Ok(json!({"AutomationExecutionId": id, "_automation": id}))
}

/// The values of a document's parameters: given ones are lists of texts, whatever their type.
fn bound(document: &Value, given: &Value) -> Result<Value, Failure> {
    let empty = serde_json::Map::new();
    let parameters = document["parameters"].as_object().unwrap_or(&empty);
    let given = given.as_object().unwrap_or(&empty);
    if let Some(odd) = given.keys().find(|name| !parameters.contains_key(*name)) {
        return Err(invalid(format!("Parameter \"{odd}\" is not defined in the document.")));
    }
    let mut values = json!({});
    for (name, parameter) in parameters {
        let value = match given.get(name) {
            None if parameter["default"].is_null() => {
                return Err(invalid(format!("Parameter \"{name}\" requires a value.")));
            }
            None => parameter["default"].clone(),
            Some(list) => {
                let text = list[0].as_str().unwrap_or_default();
                match parameter["type"].as_str() {
                    Some("Boolean") => Value::Bool(text == "true"),
                    Some("StringList") => list.clone(),
                    _ => text.into(),
                }
            }
        };
        let allowed = parameter["allowedValues"].as_array();
        if allowed.is_some_and(|all| !all.contains(&value)) {
            return Err(invalid(format!("Parameter \"{name}\" has a value that is not allowed.")));
        }
        let pattern = parameter["allowedPattern"].as_str();
        let fits = |pattern: &str| {
            let text = value.as_str().unwrap_or_default();
            regex_lite::Regex::new(pattern).is_ok_and(|one| one.is_match(text))
        };
        if pattern.is_some_and(|pattern| !fits(pattern)) {
            return Err(invalid(format!("Parameter \"{name}\" does not match its pattern.")));
        }
        values[name] = value;
    }
    Ok(values)
}

pub(super) fn get(world: &mut World, request: &Request) -> Reply {
    let id = request.required("AutomationExecutionId")?;
    let missing = || {
        let message = format!("Automation execution {id} could not be found.");
        Failure::new("AutomationExecutionNotFoundException", message)
    };
    let record = world.get(&request.region, EXECUTION, id).ok_or_else(missing)?;
    Ok(json!({"AutomationExecution": crate::world::shown(record)}))
}

/// An execution from its beginning to its end.
pub(crate) async fn execute(sandbox: Sandbox, region: String, id: String) {
    let Some(record) = sandbox.with(|world| world.get(&region, EXECUTION, &id).cloned()) else {
        return;
    };
    let part = |index: usize| record["_principal"][index].as_str().unwrap_or_default().to_owned();
    let principal = Principal {
        arn: part(0),
        kind: if part(1) == "role" { "role" } else { "user" },
        name: part(2),
        id: part(3),
        ..Principal::default()
    };
    let mut values = record["_values"].clone();
    values["global:REGION"] = region.as_str().into();
    values["global:ACCOUNT_ID"] = crate::ACCOUNT.into();
    values["automation:EXECUTION_ID"] = id.as_str().into();
    let mut run = Run { sandbox, region, id, principal, values, critical: None };
    let failure = run.steps(&record["_document"]).await.err().or(run.critical.take());
    let outputs = record["_document"]["outputs"].as_array().into_iter().flatten();
    let outputs: serde_json::Map<String, Value> = outputs
        .filter_map(Value::as_str)
        .map(|name| {
            let value = &run.values[name];
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            (name.to_owned(), json!([text]))
        })
        .collect();
    run.note(|record, now| {
        record["AutomationExecutionStatus"] =
            if failure.is_some() { "Failed" } else { "Success" }.into();
        record["FailureMessage"] = failure.into();
        record["Outputs"] = outputs.into();
        record["ExecutionEndTime"] = now.into();
    });
}

struct Run {
    sandbox: Sandbox,
    region: String,
    id: String,
    principal: Principal,
    /// What `{{ … }}` stand for.
    values: Value,
    /// Why the execution ends as failed, whatever comes after (SSM guide, `isCritical`: true unless the step says
    /// otherwise or goes on by `Continue`).
    critical: Option<String>,
}

impl Run {
    fn note(&self, change: impl FnOnce(&mut Value, f64)) {
        self.sandbox.with(|world| {
            let now = world.now.as_seconds();
            if let Some(record) = world.get_mut(&self.region, EXECUTION, &self.id) {
                change(record, now);
            }
        });
    }

    async fn steps(&mut self, document: &Value) -> Result<(), String> {
        let steps = document["mainSteps"].as_array().cloned().unwrap_or_default();
        let named = |name: &str| steps.iter().position(|one| one["name"] == name);
        let mut at = 0;
        while let Some(step) = steps.get(at) {
            let name = step["name"].as_str().unwrap_or_default();
            let done = self.step(step).await;
            let (status, why) = match &done {
                Ok(_) => ("Success", Value::Null),
                Err(why) => ("Failed", why.as_str().into()),
            };
            self.note(|record, _| {
                let told = json!({
                    "StepName": name, "Action": step["action"], "StepStatus": status, "FailureMessage": why,
                });
                if let Some(all) = record["StepExecutions"].as_array_mut() {
                    all.push(told);
                }
            });
            // It goes on, and counts as failed in the end all the same.
            let goes_on = step["onFailure"] == "Continue";
            if let Err(why) = &done
                && step["isCritical"].as_bool().unwrap_or(!goes_on)
            {
                self.critical.get_or_insert_with(|| format!("Step {name} failed: {why}"));
            }
            let next = match (done, step["onFailure"].as_str()) {
                (Ok(next), _) => next,
                (Err(_), Some("Continue")) => None,
                (Err(why), Some(on)) if on.starts_with("step:") => {
                    let to = on.trim_start_matches("step:");
                    Some(named(to).map(|_| to.to_owned()).ok_or(why)?)
                }
                (Err(why), _) => return Err(format!("Step {name} failed: {why}")),
            };
            if step["isEnd"] == true {
                break;
            }
            let next = next.or_else(|| step["nextStep"].as_str().map(str::to_owned));
            at = next.as_deref().and_then(named).unwrap_or(at + 1);
        }
        Ok(())
    }

    /// Does a step; where it leads to, if it says so itself.
    async fn step(&mut self, step: &Value) -> Result<Option<String>, String> {
        let inputs = self.filled(&step["inputs"]);
        match step["action"].as_str().unwrap_or_default() {
            "aws:executeAwsApi" => {
                let answer = self.call(&inputs)?;
                self.keep(step, &answer)?;
            }
            "aws:waitForAwsResourceProperty" => self.wait(step, &inputs).await?,
            "aws:assertAwsResourceProperty" if self.holds(&inputs)? => {}
            "aws:assertAwsResourceProperty" => return Err("the property is something else".into()),
            "aws:invokeLambdaFunction" => self.invoke(step, &inputs).await?,
            "aws:branch" => return Ok(Some(chosen(&inputs)?)),
            other => return Err(format!("the sandbox does not execute {other}")),
        }
        Ok(None)
    }

    fn keep(&mut self, step: &Value, answer: &Value) -> Result<(), String> {
        let name = step["name"].as_str().unwrap_or_default();
        for output in step["outputs"].as_array().into_iter().flatten() {
            let selector = output["Selector"].as_str().unwrap_or_default();
            let found = selected(answer, selector)
                .ok_or_else(|| format!("the answer has nothing at {selector}"))?;
            let fits = match output["Type"].as_str() {
                Some("StringMap") => found.is_object(),
                Some("MapList" | "StringList") => found.is_array(),
                Some("Boolean") => found.is_boolean(),
                Some("Integer") => found.is_i64(),
                _ => found.is_string(),
            };
            if !fits {
                return Err(format!("what is at {selector} is of another type"));
            }
            let key = format!("{name}.{}", output["Name"].as_str().unwrap_or_default());
            self.values[key] = found;
        }
        Ok(())
    }

    fn call(&self, inputs: &Value) -> Result<Value, String> {
        let mut parameters = inputs.clone();
        let own = ["Service", "Api", "PropertySelector", "DesiredValues"];
        let members = parameters.as_object_mut().ok_or("there are no inputs")?;
        members.retain(|name, _| !own.contains(&name.as_str()));
        let text = |name: &str| inputs[name].as_str().unwrap_or_default().to_owned();
        let (service, api) = (text("Service"), text("Api"));
        let is_ec2 = service == "ec2";
        let parameters = if is_ec2 { as_ec2_takes(&parameters) } else { parameters };
        let reply = self.sandbox.with(|world| {
            if world.down.contains(&self.region) {
                return Err(Failure::new("ServiceUnavailable", "the region does not answer"));
            }
            dispatch::act(world, &self.principal, &self.region, &service, &api, &parameters)
        });
        let answer = reply.map_err(|failure| {
            format!(
                "An error occurred ({}) when calling the {api} operation: {}",
                failure.code, failure.message
            )
        })?;
        let answer = crate::world::shown(&answer);
        Ok(if is_ec2 { as_ec2_is_told(&answer) } else { answer })
    }

    fn holds(&self, inputs: &Value) -> Result<bool, String> {
        let selector = inputs["PropertySelector"].as_str().unwrap_or_default();
        let found = selected(&self.call(inputs)?, selector);
        let desired = inputs["DesiredValues"].as_array();
        Ok(found.is_some_and(|found| desired.is_some_and(|all| all.contains(&found))))
    }

    async fn wait(&self, step: &Value, inputs: &Value) -> Result<(), String> {
        let patience = step["timeoutSeconds"].as_u64().unwrap_or(PATIENCE);
        let end = self.sandbox.now().plus_seconds(patience);
        while !self.holds(inputs)? {
            if self.sandbox.now() >= end {
                return Err(format!("it did not come about within {patience} seconds"));
            }
            self.sandbox.pass(POLL).await;
        }
        Ok(())
    }

    async fn invoke(&mut self, step: &Value, inputs: &Value) -> Result<(), String> {
        let name = inputs["FunctionName"].as_str().unwrap_or_default();
        let payload = match &inputs["InputPayload"] {
            Value::Null => {
                let text = inputs["Payload"].as_str().unwrap_or("{}");
                serde_json::from_str(text)
                    .map_err(|error| format!("Payload is no JSON: {error}"))?
            }
            object => object.clone(),
        };
        let kind = inputs["InvocationType"].as_str().unwrap_or("RequestResponse");
        let parameters = json!({"FunctionName": name, "InvocationType": kind, "Payload": payload});
        let reply = self.sandbox.with(|world| {
            dispatch::act(world, &self.principal, &self.region, "lambda", "Invoke", &parameters)
        });
        let reply = reply.map_err(|failure| failure.message)?;
        let invoke = Invoke {
            function: reply["_invoke"].as_str().unwrap_or_default().to_owned(),
            payload: reply["_payload"].clone(),
            is_event: kind == "Event",
        };
        let invoked = self.sandbox.invoke(invoke).await;
        let (status, is_answer) = (invoked.status, invoked.is_answer());
        let body = String::from_utf8_lossy(&invoked.body).into_owned();
        if !is_answer {
            return Err(format!("the function failed: {body}"));
        }
        let key = |output: &str| format!("{}.{output}", step["name"].as_str().unwrap_or_default());
        self.values[key("StatusCode")] = status.into();
        self.values[key("Payload")] = body.into();
        Ok(())
    }

    /// A tree with all `{{ … }}` filled in; what stands for a whole text keeps its type.
    fn filled(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.filled_text(text),
            Value::Array(all) => all.iter().map(|one| self.filled(one)).collect(),
            Value::Object(all) => {
                all.iter().map(|(key, one)| (key.clone(), self.filled(one))).collect()
            }
            other => other.clone(),
        }
    }

    fn filled_text(&self, text: &str) -> Value {
        let names: Vec<&str> = schema::names_in(text).collect();
        if let [name] = names[..]
            && text.starts_with("{{")
            && text.ends_with("}}")
        {
            return self.values[name].clone();
        }
        let mut filled = text.to_owned();
        for name in names {
            let value = &self.values[name];
            let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            for written in [format!("{{{{ {name} }}}}"), format!("{{{{{name}}}}}")] {
                filled = filled.replace(&written, &shown);
            }
        }
        filled.into()
    }
}

fn chosen(inputs: &Value) -> Result<String, String> {
    for choice in inputs["Choices"].as_array().into_iter().flatten() {
        let Some(wanted) = choice.get("StringEquals") else {
            return Err("the sandbox compares texts only".into());
        };
        if choice["Variable"] == *wanted {
            return Ok(choice["NextStep"].as_str().unwrap_or_default().to_owned());
        }
    }
    inputs["Default"].as_str().map(str::to_owned).ok_or_else(|| "no choice fits".into())
}

/// What a path as `$.DBInstances[0].DBInstanceStatus` leads to. Lists of the query protocols have a level more
/// here than in AWS's models.
fn selected(answer: &Value, selector: &str) -> Option<Value> {
    let mut at = answer;
    for part in selector.strip_prefix("$.")?.split('.') {
        let (name, index) = part.split_once('[').map_or((part, None), |(a, b)| (a, Some(b)));
        at = list_of(at.get(name)?);
        if let Some(index) = index {
            at = at.get(index.strip_suffix(']')?.parse::<usize>().ok()?)?;
        }
    }
    Some(at.clone())
}

fn list_of(value: &Value) -> &Value {
    match value.as_object() {
        Some(all) if all.len() == 1 => {
            all.values().next().filter(|only| only.is_array()).unwrap_or(value)
        }
        _ => value,
    }
}

/// Parameters of EC2's models, as its protocol writes them.
fn as_ec2_takes(parameters: &Value) -> Value {
    let filters = parameters["Filters"].as_array().into_iter().flatten();
    let filter = |one: &Value| json!({"Name": one["Name"], "Value": one["Values"]});
    let filters: Vec<Value> = filters.map(filter).collect();
    let mut all = parameters.clone();
    if let Some(members) = all.as_object_mut() {
        members.remove("Filters");
        members.insert("Filter".into(), filters.into());
    }
    all
}

/// An answer of EC2's as its models have it.
fn as_ec2_is_told(answer: &Value) -> Value {
    match answer {
        Value::Object(all) if all.len() == 1 && all.contains_key("item") => {
            as_ec2_is_told(&all["item"])
        }
        Value::Object(all) => {
            let renamed = all.iter().map(|(name, value)| {
                let mut letters = name.chars();
                let first = letters.next().map(|one| one.to_ascii_uppercase()).into_iter();
                let name: String = first.chain(letters).collect();
                let name = if name == "SecurityGroupInfo" { "SecurityGroups".into() } else { name };
                (name, as_ec2_is_told(value))
            });
            Value::Object(renamed.collect())
        }
        Value::Array(all) => all.iter().map(as_ec2_is_told).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_through_lists_of_both_kinds() {
        let answer = json!({"DBInstances": {"DBInstance": [{"Endpoint": {"Address": "db"}}]}, "Events": [1]});
        let found = |path| selected(&answer, path);
        assert_eq!(found("$.DBInstances[0].Endpoint.Address"), Some(json!("db")));
        assert_eq!(found("$.Events"), Some(json!([1])));
        assert_eq!(found("$.DBInstances[1]"), None);
        assert_eq!(found("$.Other"), None);
        let told = as_ec2_is_told(&json!({"securityGroupInfo": {"item": [{"groupId": "sg-1"}]}}));
        assert_eq!(selected(&told, "$.SecurityGroups[0].GroupId"), Some(json!("sg-1")));
    }
}
