"""Which errors each operation of the sandbox may answer with: `tests/fixtures/errors.json`, from which the tests of failing
calls draw. Of EC2, whose model has none, they are written there by hand, by the page "Error codes for the Amazon EC2 API";
the others are what botocore has.
"""

import json
import os
import pathlib

FILE = pathlib.Path(__file__).parent.parent / "fixtures" / "errors.json"


def declared(operation):
    """The codes of an operation as they are on the wire, each with its HTTP status."""
    found = {}
    for shape in operation.error_shapes:
        error = shape.metadata.get("error", {})
        fault = 500 if shape.metadata.get("fault") else 400
        found[error.get("code", shape.name)] = error.get("httpStatusCode", fault)
    return dict(sorted(found.items()))


def shown(table):
    """One operation in a line."""
    services = []
    for service, operations in table.items():
        lines = ",\n".join(f"    {json.dumps(name)}: {json.dumps(codes)}" for name, codes in operations.items())
        services.append(f"  {json.dumps(service)}: {{\n{lines}\n  }}")
    return "{\n" + ",\n".join(services) + "\n}\n"


def kept():
    return json.loads(FILE.read_text(encoding="utf-8"))


def check(operations, model_of, problems):
    """Holds the file against botocore; with UPDATE_ERRORS, writes it anew."""
    table = {"ec2": kept()["ec2"]}
    for service, names in sorted(operations.items()):
        if service != "ec2":
            model = model_of(service)
            table[service] = {name: declared(model.operation_model(name)) for name in sorted(names)}
    if os.environ.get("UPDATE_ERRORS"):
        FILE.write_text(shown(table), encoding="utf-8")
    if kept() != table:
        problems.append(f"{FILE.name} is not what botocore has: UPDATE_ERRORS=1 writes it")
    for name in sorted(set(operations["ec2"]) - set(table["ec2"])):
        problems.append(f"{FILE.name} has nothing of ec2:{name}")
