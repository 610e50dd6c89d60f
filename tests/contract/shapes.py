"""AWS's service models, as botocore carries them, and what contradicts them."""

import json
import xml.etree.ElementTree as ElementTree

import botocore.session

NAMES = {"tagging": "resourcegroupstaggingapi"}
problems = []
session = botocore.session.get_session()


def model_of(service):
    """The model of a service, as IAM spells it."""
    return session.get_service_model(NAMES.get(service, service))


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


def check_error(operation, code, place):
    """The code of an error must be one that the operation has. EC2's model knows none."""
    shapes = operation.error_shapes
    known = {shape.metadata.get("error", {}).get("code", shape.name) for shape in shapes}
    # Some services say on the wire what the shape is called.
    known |= {shape.name for shape in shapes if operation.service_model.metadata["protocol"] != "query"}
    is_json = "json" in operation.service_model.metadata["protocol"]
    common = COMMON_IN_JSON if is_json else COMMON_IN_XML
    if operation.service_model.service_name != "ec2" and code not in known | common:
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
        for child in element:
            if local(child.tag) != wanted:
                problems.append(f"{place} lists {local(child.tag)}, AWS lists {wanted}")
            check_xml(child, shape.member, f"{place}[]")
    elif shape.type_name in ("integer", "long"):
        int(element.text)
    elif shape.type_name == "boolean" and element.text not in ("true", "false"):
        problems.append(f"{place} is {element.text}, which is no boolean")
    elif shape.type_name == "string" and shape.enum and element.text not in shape.enum:
        problems.append(f"{place} is {element.text!r}, none of {shape.enum}")


def wire(name, member):
    """What a member is called in XML."""
    if member.type_name == "list" and member.serialization.get("flattened"):
        return member.member.serialization.get("name", name)
    return member.serialization.get("name", name)


def check_json(value, shape, place):
    if value is None:
        return
    if shape.type_name == "structure":
        check_required(value, shape, place)
        for name, item in value.items():
            if name not in shape.members:
                problems.append(f"{place} answers with {name}, which AWS does not")
            else:
                check_json(item, shape.members[name], f"{place}.{name}")
    elif shape.type_name == "list":
        for item in value:
            check_json(item, shape.member, f"{place}[]")
    elif shape.type_name in ("integer", "long") and not isinstance(value, int):
        problems.append(f"{place} is {value!r}, which is no integer")
    elif shape.type_name == "string" and not isinstance(value, str):
        problems.append(f"{place} is {value!r}, which is no string")
    enum = getattr(shape, "enum", None)
    if enum and isinstance(value, str) and value not in enum:
        problems.append(f"{place} is {value!r}, none of {enum}")
