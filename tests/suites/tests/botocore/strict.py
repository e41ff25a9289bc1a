"""Reads answers more strictly than botocore, which leaves out in silence what its model of EC2 does not know."""

from datetime import datetime
from xml.etree import ElementTree

# Of the answer itself. EC2 writes `return` also where the model has none.
OUTER = {"requestId", "return"}
# Values that EC2 sends although the model does not list them.
UNLISTED = {("status", "pending"), ("platform", "windows")}


def attach(client):
    """Makes each answer to this client raise AssertionError unless all of it is in the model."""
    client.meta.events.register("before-parse.ec2", read)


def read(operation_model, response_dict, **_):
    """Compares one answer with the operation's output shape."""
    if response_dict["status_code"] != 200:
        return
    root = ElementTree.fromstring(response_dict["body"])
    assert bare(root) == f"{operation_model.name}Response", f"root element {root.tag}"
    inner = [child for child in root if bare(child) not in OUTER]
    shape = operation_model.output_shape
    if shape is None:
        assert not inner, f"{operation_model.name} answers nothing, but there is {[bare(child) for child in inner]}"
    else:
        structure(shape, inner, operation_model.name)


def structure(shape, children, path):
    members = {member.serialization.get("name", name): member for name, member in shape.members.items()}
    names = [bare(child) for child in children]
    assert len(names) == len(set(names)), f"{path}: an element twice in {names}"
    for child in children:
        name = bare(child)
        assert name in members, f"{path}/{name}: the model has only {sorted(members)}"
        value(members[name], child, f"{path}/{name}")


def value(shape, element, path):
    if shape.type_name == "structure":
        structure(shape, list(element), path)
    elif shape.type_name == "list":
        for child in element:
            assert bare(child) == shape.member.serialization.get("name", "member"), f"{path}/{bare(child)}"
            value(shape.member, child, path)
    else:
        assert not len(element), f"{path} is a {shape.type_name} with elements in it"
        scalar(shape, element.text or "", path)


def scalar(shape, text, path):
    if shape.type_name == "boolean":
        assert text in ("true", "false"), f"{path}: {text!r} is no boolean"
    elif shape.type_name in ("integer", "long"):
        int(text)
    elif shape.type_name in ("float", "double"):
        float(text)
    elif shape.type_name == "timestamp":
        datetime.fromisoformat(text.replace("Z", "+00:00"))
    elif getattr(shape, "enum", None):
        known = text in shape.enum or (path.rpartition("/")[2], text) in UNLISTED
        assert known, f"{path}: {text!r} is none of {shape.enum}"


def bare(element):
    """An element's name without its namespace."""
    return element.tag.rpartition("}")[2]
