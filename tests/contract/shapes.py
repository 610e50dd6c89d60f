"""AWS's service models, as botocore carries them, and what contradicts them."""

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


def check_xml(element, shape, place):
    if shape.type_name == "structure":
        members = {}
        for name, member in shape.members.items():
            members[member.serialization.get("name", name)] = member
            if member.type_name == "list" and member.serialization.get("flattened"):
                members[member.member.serialization.get("name", name)] = member
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


def check_json(value, shape, place):
    if value is None:
        return
    if shape.type_name == "structure":
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
