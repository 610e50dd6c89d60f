//! Documents of SSM Automation, schema 0.3 (Systems Manager guide, "Runbook schemas" and the reference of each
//! action): what CreateDocument takes.

use serde_json::{Map, Value};

use crate::services;

/// What a document may have, and what each of its parameters and steps.
const DOCUMENT: &str =
    "description schemaVersion assumeRole parameters variables mainSteps outputs files";
const PARAMETER: &str = "type description default allowedValues allowedPattern minItems maxItems minChars maxChars displayType";
const STEP: &str = "name action inputs outputs description onFailure onCancel isCritical isEnd nextStep maxAttempts \
                    timeoutSeconds";
const TYPES: [&str; 6] = ["String", "StringList", "Boolean", "Integer", "MapList", "StringMap"];
/// Actions of which this is known: what they must be given.
const ACTIONS: [(&str, &str); 6] = [
    ("aws:executeAwsApi", "Service Api"),
    ("aws:waitForAwsResourceProperty", "Service Api PropertySelector DesiredValues"),
    ("aws:assertAwsResourceProperty", "Service Api PropertySelector DesiredValues"),
    ("aws:invokeLambdaFunction", "FunctionName"),
    ("aws:branch", "Choices"),
    ("aws:sleep", "Duration"),
];
/// Names that AWS itself gives values to.
const GLOBALS: [&str; 5] = [
    "global:DATE",
    "global:DATE_TIME",
    "global:REGION",
    "global:ACCOUNT_ID",
    "automation:EXECUTION_ID",
];

type Checked = Result<(), String>;

/// A document that Systems Manager takes.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let document: Value =
        serde_json::from_str(text).map_err(|error| format!("it is no JSON: {error}"))?;
    let all = document.as_object().ok_or("it is no object")?;
    known(all, DOCUMENT, "the document")?;
    let parameters = all.get("parameters").and_then(Value::as_object).cloned().unwrap_or_default();
    for (name, parameter) in &parameters {
        check_parameter(name, parameter)?;
    }
    let steps = document["mainSteps"].as_array().filter(|all| !all.is_empty());
    let steps = steps.ok_or("mainSteps must hold a step")?;
    let names: Vec<&str> = steps.iter().filter_map(|step| step["name"].as_str()).collect();
    for (index, step) in steps.iter().enumerate() {
        check_step(step, &names, index)?;
    }
    let mut variables = Vec::new();
    mentioned(&document, &mut variables);
    for name in variables {
        let is_output = || {
            let (step, output) = name.split_once('.')?;
            let step = steps.iter().find(|one| one["name"] == step)?;
            gives(step, output).then_some(())
        };
        if !parameters.contains_key(&name) && !GLOBALS.contains(&&*name) && is_output().is_none() {
            return Err(format!("nothing gives {{{{ {name} }}}} a value"));
        }
    }
    for output in document["outputs"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let (step, name) = output.split_once('.').ok_or("an output is written step.Name")?;
        let step = steps.iter().find(|one| one["name"] == step);
        if !step.is_some_and(|step| gives(step, name)) {
            return Err(format!("no step gives the output {output}"));
        }
    }
    Ok(document)
}

fn known(all: &Map<String, Value>, members: &str, what: &str) -> Checked {
    let odd = all.keys().find(|key| !members.split(' ').any(|member| member == *key));
    odd.map_or(Ok(()), |key| Err(format!("{what} has no member {key}")))
}

/// Letters, digits and underscores, 3 to 128 of them.
fn is_name(text: &str) -> bool {
    let fits = |one: char| one.is_ascii_alphanumeric() || one == '_';
    (3..=128).contains(&text.len()) && text.chars().all(fits)
}

fn check_parameter(name: &str, parameter: &Value) -> Checked {
    let all = parameter.as_object().ok_or(format!("the parameter {name} is no object"))?;
    known(all, PARAMETER, &format!("the parameter {name}"))?;
    let kind = parameter["type"].as_str().unwrap_or_default();
    if !TYPES.contains(&kind) && !kind.starts_with("AWS::") {
        return Err(format!("the parameter {name} is of no type {kind:?}"));
    }
    let default = &parameter["default"];
    let fits = match kind {
        "Boolean" => default.is_boolean(),
        "Integer" => default.is_i64(),
        "StringList" | "MapList" => default.is_array(),
        "StringMap" => default.is_object(),
        _ => default.is_string(),
    };
    if !default.is_null() && !fits {
        return Err(format!("the default of the parameter {name} is no {kind}"));
    }
    let allowed = parameter["allowedValues"].as_array();
    if allowed.is_some_and(|all| !default.is_null() && !all.contains(default)) {
        return Err(format!("the default of the parameter {name} is not allowed"));
    }
    Ok(())
}

fn check_step(step: &Value, names: &[&str], index: usize) -> Checked {
    let all = step.as_object().ok_or("a step is no object")?;
    let name = step["name"].as_str().unwrap_or_default();
    known(all, STEP, &format!("the step {name}"))?;
    if !is_name(name) || names.iter().position(|one| *one == name) != Some(index) {
        return Err(format!("the step's name {name:?} is taken, or none"));
    }
    let action = step["action"].as_str().unwrap_or_default();
    let Some((_, needed)) = ACTIONS.iter().find(|(one, _)| *one == action) else {
        return Err(format!("the sandbox has no action {action:?}"));
    };
    let inputs = &step["inputs"];
    if let Some(missing) = needed.split(' ').find(|one| inputs[*one].is_null()) {
        return Err(format!("the step {name} has no {missing}"));
    }
    for next in next_steps(step) {
        if !names.contains(&next) {
            return Err(format!("the step {name} leads to {next}, which there is not"));
        }
    }
    if let Some(failure) = step["onFailure"].as_str() {
        let leads = failure.strip_prefix("step:");
        if !["Abort", "Continue"].contains(&failure) && !leads.is_some_and(|to| names.contains(&to))
        {
            return Err(format!("the step {name} has an odd onFailure"));
        }
    }
    if let (Some(service), Some(api)) = (inputs["Service"].as_str(), inputs["Api"].as_str()) {
        check_call(name, service, api)?;
    }
    let outputs = step["outputs"].as_array().into_iter().flatten();
    for output in outputs {
        let selector = output["Selector"].as_str().unwrap_or_default();
        let kind = output["Type"].as_str().unwrap_or("String");
        if output["Name"].as_str().is_none()
            || !selector.starts_with("$.")
            || !TYPES.contains(&kind)
        {
            return Err(format!("the step {name} has an odd output"));
        }
    }
    Ok(())
}

/// Systems Manager knows the names of all APIs; the sandbox those that it has.
fn check_call(step: &str, service: &str, api: &str) -> Checked {
    let found = services::find(service);
    let has =
        |one: &&services::Service| one.operations.iter().any(|operation| operation.name == api);
    if found.filter(has).is_none() {
        return Err(format!("the step {step} calls {service} {api}, which there is not"));
    }
    Ok(())
}

/// Where a step leads to by name.
fn next_steps(step: &Value) -> Vec<&str> {
    let choices = step["inputs"]["Choices"].as_array().into_iter().flatten();
    let choices = choices.filter_map(|choice| choice["NextStep"].as_str());
    let others = [&step["nextStep"], &step["inputs"]["Default"]];
    choices.chain(others.into_iter().filter_map(Value::as_str)).collect()
}

/// Whether a step has an output of that name: its own, or what its action always gives.
fn gives(step: &Value, output: &str) -> bool {
    let own = step["outputs"].as_array().into_iter().flatten();
    let is_invoked = step["action"] == "aws:invokeLambdaFunction";
    own.into_iter().any(|one| one["Name"] == output)
        || (is_invoked && ["StatusCode", "FunctionError", "LogResult", "Payload"].contains(&output))
}

/// The names in all `{{ … }}`.
fn mentioned(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::String(text) => into.extend(names_in(text).map(str::to_owned)),
        Value::Array(all) => all.iter().for_each(|one| mentioned(one, into)),
        Value::Object(all) => all.values().for_each(|one| mentioned(one, into)),
        _ => {}
    }
}

pub(super) fn names_in(text: &str) -> impl Iterator<Item = &str> {
    text.split("{{").skip(1).filter_map(|rest| Some(rest.split_once("}}")?.0.trim()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document() -> Value {
        json!({
            "schemaVersion": "0.3", "assumeRole": "{{ Role }}",
            "parameters": {"Role": {"type": "String", "default": ""}},
            "mainSteps": [{
                "name": "Look", "action": "aws:executeAwsApi",
                "inputs": {"Service": "rds", "Api": "DescribeDBInstances"},
                "outputs": [{"Name": "Status", "Selector": "$.DBInstances[0].DBInstanceStatus", "Type": "String"}],
            }],
            "outputs": ["Look.Status"],
        })
    }

    #[test]
    fn what_is_whole_is_taken_and_anything_odd_is_not() {
        assert!(parse(&document().to_string()).is_ok());
        type Change = fn(&mut Value);
        let odd: [(Change, &str); 12] = [
            (|one| one["author"] = "x".into(), "no member author"),
            (|one| one["mainSteps"] = json!([]), "must hold a step"),
            (|one| one["mainSteps"][0]["name"] = "a b".into(), "is taken, or none"),
            (|one| one["mainSteps"][0]["action"] = "aws:run".into(), "no action"),
            (|one| one["mainSteps"][0]["inputs"]["Api"] = Value::Null, "has no Api"),
            (|one| one["mainSteps"][0]["inputs"]["Api"] = "Describe".into(), "which there is not"),
            (|one| one["mainSteps"][0]["nextStep"] = "Then".into(), "leads to Then"),
            (
                |one| one["mainSteps"][0]["inputs"]["X"] = "{{ Who }}".into(),
                "gives {{ Who }} a value",
            ),
            (|one| one["mainSteps"][0]["outputs"][0]["Type"] = "Text".into(), "odd output"),
            (|one| one["outputs"] = json!(["Look.Nothing"]), "no step gives"),
            (|one| one["parameters"]["Role"]["type"] = "Text".into(), "of no type"),
            (|one| one["parameters"]["Role"]["default"] = 1.into(), "is no String"),
        ];
        for (change, words) in odd {
            let mut one = document();
            change(&mut one);
            let why = parse(&one.to_string()).unwrap_err();
            assert!(why.contains(words), "{why:?} lacks {words:?}");
        }
    }
}
