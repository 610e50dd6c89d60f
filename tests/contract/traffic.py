"""Holds what the provider and its functions asked the sandbox for, and what it answered, against AWS's service models:
required parameters, lengths, ranges, patterns and values of requests; members of answers, those that AWS requires, their
types, lengths and patterns; codes of errors, and how they are told. CloudWatch's answers are looked at as trees, not as the
CBOR that is sent. Of calls that differ in nothing but numbers, the first was kept.
"""

import json
import xml.etree.ElementTree as ElementTree

from shapes import check_error, check_error_body, check_json, check_text, check_xml, local, model_of, problems

KEPT_OUT = "(kept out)"


def members(shape, protocol):
    """The members of a structure by every name that a request has for them."""
    named = {}
    for name, member in shape.members.items():
        given = member.serialization
        names = {name, given.get("name", name)}
        if protocol == "ec2":
            wire = given.get("queryName") or given.get("name", name)
            names = {wire[0].upper() + wire[1:]}
        for one in names:
            named[one] = (name, member)
    return named


def listed(value, shape):
    """The items of a list, without the names that the protocols put around them."""
    while isinstance(value, dict) and len(value) == 1:
        value = next(iter(value.values()))
    return value if isinstance(value, list) else [value]


def check_asked(value, shape, place, protocol):
    if value == KEPT_OUT or value is None:
        return
    kind = shape.type_name
    if kind == "structure":
        if not isinstance(value, dict):
            problems.append(f"{place} is {value!r}, which is no structure")
            return
        known, seen = members(shape, protocol), set()
        for name, item in value.items():
            if name not in known:
                problems.append(f"{place} has {name}, which AWS does not")
                continue
            seen.add(known[name][0])
            check_asked(item, known[name][1], f"{place}.{name}", protocol)
        for missing in set(shape.required_members) - seen:
            problems.append(f"{place} lacks {missing}, which AWS requires")
    elif kind == "list":
        items, limits = listed(value, shape), shape.metadata
        if not limits.get("min", 0) <= len(items) <= limits.get("max", len(items)):
            problems.append(f"{place} has {len(items)} items")
        for item in items:
            check_asked(item, shape.member, f"{place}[]", protocol)
    elif kind == "map":
        if set(value) == {"entry"}:
            value = {one["key"]: one["value"] for one in listed(value, shape)}
        for key, item in value.items():
            check_asked(key, shape.key, f"{place}, a key", protocol)
            check_asked(item, shape.value, f"{place}.{key}", protocol)
    elif kind == "string":
        check_text(value, shape, place) if isinstance(value, str) else problems.append(f"{place} is {value!r}")
    elif kind in ("integer", "long"):
        number, limits = int(value), shape.metadata
        if not limits.get("min", number) <= number <= limits.get("max", number):
            problems.append(f"{place} is {number}, not {limits.get('min')} to {limits.get('max')}")
    elif kind == "boolean" and value not in (True, False, "true", "false"):
        problems.append(f"{place} is {value!r}, which is no boolean")


def check_answered(exchange, operation, place):
    shape, body = operation.output_shape, exchange["answer"]
    if exchange["status"] >= 300:
        protocol = operation.service_model.metadata["protocol"]
        check_error(operation, exchange["error"], place)
        if exchange["service"] != "cloudwatch":
            check_error_body(body, protocol, place)
        return
    if shape is None or not body:
        return
    if exchange["is_json"]:
        if not shape.serialization.get("payload"):
            check_json(json.loads(body), shape, place)
        return
    root = ElementTree.fromstring(body)
    wrapper = shape.serialization.get("resultWrapper")
    for part in [child for child in root if local(child.tag) == wrapper] or [root]:
        check_xml(part, shape, place)


def check(paths):
    """How many exchanges were looked at."""
    exchanges = []
    for path in paths:
        with open(path, encoding="utf-8") as file:
            some = json.load(file)
        if len(some) < 500:
            problems.append(f"{path} has only {len(some)} calls")
        exchanges += some
    for exchange in exchanges:
        model = model_of(exchange["service"])
        operation = model.operation_model(exchange["operation"])
        place = f"{exchange['service']}:{exchange['operation']}"
        # Whatever is refused is well-formed all the same.
        if operation.input_shape is not None:
            check_asked(exchange["parameters"], operation.input_shape, place, model.metadata["protocol"])
        check_answered(exchange, operation, f"the answer of {place}")
    return len(exchanges)
