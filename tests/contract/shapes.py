"""AWS's service models, as botocore carries them, and what contradicts them."""

import json
import re
import xml.etree.ElementTree as ElementTree

import botocore.session

import errors

NAMES = {"tagging": "resourcegroupstaggingapi"}
problems = []
session = botocore.session.get_session()


def model_of(service):
    """The model of a service, as IAM spells it."""
    return session.get_service_model(NAMES.get(service, service))


# Java's classes of Unicode, as far as the models use them.
CLASSES = {r"\p{L}": r"a-zA-Z\u00C0-\uFFDC", r"\p{Z}": r"\s", r"\p{N}": r"0-9"}


def local(tag):
    return tag.split("}")[-1]


def wire_names(shape, protocol):
    """The names that the members of a structure have in a request."""
    names = set()
    for name, member in shape.members.items():
        serialized = member.serialization
        if protocol == "ec2":
            given = serialized.get("queryName") or serialized.get("name", name)
            names.add(given[0].upper() + given[1:])
        else:
            names.add(serialized.get("name", name))
            names.add(name)
    return names


# What any operation may answer, by the "Common errors" of the services' API references; the models leave them out.
BOTH = {"InternalFailure", "ServiceUnavailable", "ThrottlingException"}
COMMON_IN_XML = BOTH | {
    "AccessDenied", "ExpiredToken", "InternalError", "InvalidClientTokenId", "InvalidParameterCombination",
    "InvalidParameterValue", "MissingParameter", "RequestLimitExceeded", "Throttling", "ValidationError",
}
COMMON_IN_JSON = BOTH | {
    "AccessDeniedException", "ExpiredTokenException", "UnrecognizedClientException", "ValidationException",
}


# What a model had and has no more, although nothing says that it is not answered: botocore 1.34.0 has it.
EARLIER = {("cloudwatch", "DeleteDashboards"): {"ResourceNotFound"}}


# AWS's own name of an action, with a letter more than its model's pattern has room for.
BEYOND = {"aws:waitForAwsResourceProperty"}


# The same of EC2, by its own page.
COMMON_IN_EC2 = {
    "AuthFailure", "InternalError", "InvalidParameter", "InvalidParameterCombination", "InvalidParameterValue",
    "MissingParameter", "RequestExpired", "RequestLimitExceeded", "Unavailable", "UnauthorizedOperation",
}


def check_error(operation, code, place):
    """The code of an error must be one that the operation has."""
    shapes = operation.error_shapes
    known = {shape.metadata.get("error", {}).get("code", shape.name) for shape in shapes}
    # Some services say on the wire what the shape is called.
    known |= {shape.name for shape in shapes if operation.service_model.metadata["protocol"] != "query"}
    known |= EARLIER.get((operation.service_model.service_name, operation.name), set())
    is_json = "json" in operation.service_model.metadata["protocol"]
    common = COMMON_IN_JSON if is_json else COMMON_IN_XML
    if operation.service_model.service_name == "ec2":
        known, common = set(errors.kept()["ec2"].get(operation.name, {})), COMMON_IN_EC2
    if code not in known | common:
        problems.append(f"{place} fails with {code}, none of {sorted(known)}")


def check_error_body(body, protocol, place):
    """What clients find the code and the message of an error by; of REST in JSON, a header has the code."""
    if protocol == "rest-json":
        fits = "message" in json.loads(body)
    elif protocol == "json":
        fits = {"__type", "message"} <= set(json.loads(body))
    else:
        parts = {local(one.tag) for one in ElementTree.fromstring(body).iter()}
        own = {"Errors", "RequestID"} if protocol == "ec2" else {"Type", "RequestId"}
        fits = own | {"Error", "Code", "Message"} <= parts
    if not fits:
        problems.append(f"{place} fails with {body!r}, which is no error of AWS's")


def check_required(names, shape, place):
    """What an answer must have; headers are not looked at."""
    for name in shape.required_members:
        if "location" not in shape.members[name].serialization and name not in names:
            problems.append(f"{place} answers without {name}, which AWS requires")


def check_text(value, shape, place):
    limits = shape.metadata
    if not limits.get("min", 0) <= len(value) <= limits.get("max", len(value)):
        problems.append(f"{place} has {len(value)} characters, not {limits.get('min', 0)} to {limits.get('max')}")
    if shape.enum and value not in shape.enum:
        problems.append(f"{place} is {value!r}, none of {shape.enum}")
    pattern = limits.get("pattern")
    if value not in BEYOND and pattern:
        for name, signs in CLASSES.items():
            pattern = pattern.replace(name, signs)
        try:
            is_so = re.fullmatch(pattern, value, re.ASCII | re.DOTALL)
        except re.error as error:
            problems.append(f"{place}: its pattern {limits['pattern']} cannot be read: {error}")
            return
        if not is_so:
            problems.append(f"{place} is {value!r}, which is not {limits['pattern']}")


def check_size(count, shape, place):
    """A list that has to have something when it is asked with, such as targets of a rule, is answered empty."""
    if count > shape.metadata.get("max", count):
        problems.append(f"{place} has {count} items")


def check_answered_text(text, shape, place):
    """What is required and not there is answered empty. Route 53 answers with ids that begin with what they are of, as its
    reference shows; its model has them without.
    """
    if text:
        check_text(text.removeprefix("/hostedzone/") if shape.name == "ResourceId" else text, shape, place)


def check_xml(element, shape, place):
    if shape.type_name == "structure":
        members = {}
        for name, member in shape.members.items():
            members[member.serialization.get("name", name)] = member
            if member.type_name == "list" and member.serialization.get("flattened"):
                members[member.member.serialization.get("name", name)] = member
        given = {local(child.tag) for child in element}
        check_required({name for name, one in shape.members.items() if wire(name, one) in given}, shape, place)
        for child in element:
            name = local(child.tag)
            if name in ("requestId", "ResponseMetadata"):
                continue
            if name not in members:
                problems.append(f"{place} answers with {name}, which AWS does not")
            else:
                check_xml(child, members[name], f"{place}.{name}")
    elif shape.type_name == "list" and not shape.serialization.get("flattened"):
        wanted = shape.member.serialization.get("name", "member")
        check_size(len(element), shape, place)
        for child in element:
            if local(child.tag) != wanted:
                problems.append(f"{place} lists {local(child.tag)}, AWS lists {wanted}")
            check_xml(child, shape.member, f"{place}[]")
    elif shape.type_name == "list":
        check_xml(element, shape.member, f"{place}[]")
    elif shape.type_name == "map":
        for entry in element:
            for part in entry:
                check_xml(part, shape.key if local(part.tag) == "key" else shape.value, f"{place}.{local(part.tag)}")
    elif shape.type_name in NUMBERS:
        try:
            NUMBERS[shape.type_name](element.text)
        except (TypeError, ValueError):
            problems.append(f"{place} is {element.text!r}, which is no {shape.type_name}")
    elif shape.type_name == "boolean" and element.text not in ("true", "false"):
        problems.append(f"{place} is {element.text}, which is no boolean")
    elif shape.type_name == "timestamp" and not re.fullmatch(MOMENT, element.text or ""):
        problems.append(f"{place} is {element.text!r}, which is no moment")
    elif shape.type_name == "string":
        check_answered_text(element.text or "", shape, place)


def wire(name, member):
    """What a member is called in XML."""
    if member.type_name == "list" and member.serialization.get("flattened"):
        return member.member.serialization.get("name", name)
    return member.serialization.get("name", name)


# How the protocols write what is no text.
NUMBERS = {"integer": int, "long": int, "float": float, "double": float}
MOMENT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"
# What JSON has for each type; moments are seconds.
IN_JSON = {
    "structure": dict, "map": dict, "list": list, "string": str, "blob": str, "boolean": bool,
    "integer": int, "long": int, "float": (int, float), "double": (int, float), "timestamp": (int, float, str),
}


def check_json(value, shape, place):
    if value is None:
        return
    kind = shape.type_name
    is_number = not isinstance(value, bool) or kind == "boolean"
    if not isinstance(value, IN_JSON[kind]) or not is_number:
        problems.append(f"{place} is {value!r}, which is no {kind}")
    elif kind == "structure":
        check_required(value, shape, place)
        for name, item in value.items():
            if name not in shape.members:
                problems.append(f"{place} answers with {name}, which AWS does not")
            else:
                check_json(item, shape.members[name], f"{place}.{name}")
    elif kind == "list":
        check_size(len(value), shape, place)
        for item in value:
            check_json(item, shape.member, f"{place}[]")
    elif kind == "map":
        for key, item in value.items():
            check_json(key, shape.key, f"{place}, a key")
            check_json(item, shape.value, f"{place}.{key}")
    elif kind == "string":
        check_answered_text(value, shape, place)
