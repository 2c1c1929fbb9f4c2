"""Writes docs/api.md, the contracts of the protos and the callers of each RPC: `python -m scripts.api_docs`.

protoc reads the comments, because generated code has none. The callers come from the tables that the servers enforce.
"""

import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from google.api.field_behavior_pb2 import FieldBehavior, field_behavior
from google.api.field_info_pb2 import FieldInfo, field_info
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from grpc_tools import protoc  # type: ignore[import-untyped]

from services.authorization import Table
from services.jobs.domain import authorization as jobs_rights
from services.upload import authorization as upload_rights

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "api.md"
RIGHTS: Table = {**upload_rights.TABLE, **jobs_rights.TABLE}

HEAD = """\
# API

Written by `python -m scripts.api_docs` from `protos/` and the authorization tables of the servers. A test compares
it with them.

| caller | authentication |
|---|---|
| person | `authorization: Bearer <JWT>` of the identity provider; ownership of the session or job decides further |
| service:RIGHT | `authorization: Bearer <JWT>` of a service that may RIGHT; its owners decide further |
| upload, controller | `authorization: Bearer <JWT>` of the cluster, for the program's ServiceAccount |
| pod | `authorization: Bearer <JWT>` of the cluster, for the analyzer's ServiceAccount, bound to the pod |
| lease | `authorization: Lease <secret>`, from StartLaunch |
| share | `authorization: Share <secret>`, from CreateShare |

A service that acts for an owner sends `crease-on-behalf-of: coach:ID` or `org:ID`, with the id of a session's owner.
CreateSession needs it; it limits every other call to that owner. A service that forwards a person's token calls as that
person.

[clients.md](clients.md) describes tokens, deadlines, errors and the sequence of calls.
A call without a valid token fails with UNAUTHENTICATED, a call by any other caller with PERMISSION_DENIED.
"""
# Field numbers of descriptor.proto, which form the path of a comment.
MESSAGES, ENUMS, SERVICES, INSIDE = 4, 5, 6, 2
KINDS = {number: name.removeprefix("TYPE_").lower() for name, number in FieldDescriptorProto.Type.items()}


class Comments:
    """The leading comments of a file, by the path of the declaration."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self._texts = {tuple(at.path): at.leading_comments for at in file.source_code_info.location}

    def at(self, *path: int) -> str:
        """The comment on one line; empty without one."""
        return " ".join(self._texts.get(path, "").split())


def page() -> str:
    """The whole of docs/api.md."""
    parsed = parse()
    parts = [HEAD, *summary(parsed)]
    for file in parsed:
        parts += [*services(file), *messages(file), *enums(file)]
    return "\n".join(parts)


def parse() -> list[FileDescriptorProto]:
    """Our protos with their comments, in the order in which a client needs them."""
    protos = ROOT / "protos"
    names = sorted(str(path.relative_to(protos)) for path in (protos / "crease").rglob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "set")
        command = ["protoc", f"-I{protos}", f"-I{files('grpc_tools') / '_proto'}", "--include_source_info"]
        if protoc.main([*command, f"--descriptor_set_out={out}", *names]) != 0:
            raise SystemExit("protoc failed on the protos; its message is above")
        found = FileDescriptorSet.FromString(out.read_bytes()).file
    areas = ["upload", "jobs", "events", "cleanup", "analysis"]
    return sorted(found, key=lambda file: (areas.index(file.package.split(".")[1]), file.name))


def summary(parsed: list[FileDescriptorProto]) -> Iterator[str]:
    """The table of callers."""
    yield "## Callers\n"
    yield "| RPC | callers |\n|---|---|"
    for file in parsed:
        for service in file.service:
            for rpc in service.method:
                yield f"| `{file.package}.{service.name}/{rpc.name}` | {callers(file, service.name, rpc.name)} |"
    yield ""


def callers(file: FileDescriptorProto, service: str, rpc: str) -> str:
    return ", ".join(sorted(RIGHTS[f"/{file.package}.{service}/{rpc}"]))


def services(file: FileDescriptorProto) -> Iterator[str]:
    comments = Comments(file)
    for number, service in enumerate(file.service):
        yield f"## {file.package}.{service.name}\n\n{comments.at(SERVICES, number)}\n"
        for at, rpc in enumerate(service.method):
            stream = "stream of " if rpc.server_streaming else ""
            yield f"### {rpc.name}\n"
            yield f"{_short(rpc.input_type)} → {stream}{_short(rpc.output_type)}."
            yield f"Callers: {callers(file, service.name, rpc.name)}.\n"
            yield f"{comments.at(SERVICES, number, INSIDE, at)}\n"


def messages(file: FileDescriptorProto) -> Iterator[str]:
    comments = Comments(file)
    for number, message in enumerate(file.message_type):
        yield f"#### {message.name}\n"
        if comment := comments.at(MESSAGES, number):
            yield f"{comment}\n"
        if message.field:
            yield "| field | type | |\n|---|---|---|"
        for at, field in enumerate(message.field):
            comment = " ".join(filter(None, (_behavior(field), comments.at(MESSAGES, number, INSIDE, at))))
            yield f"| `{field.name}` | {_type(message, field)} | {_cell(comment)} |"
        yield ""


def enums(file: FileDescriptorProto) -> Iterator[str]:
    comments = Comments(file)
    for number, enum in enumerate(file.enum_type):
        yield f"#### {enum.name}\n\n{comments.at(ENUMS, number)}\n"
        yield from _values(enum, comments, number)
        yield ""


def _values(enum: EnumDescriptorProto, comments: Comments, number: int) -> Iterator[str]:
    yield "| value | |\n|---|---|"
    for at, value in enumerate(enum.value):
        yield f"| `{value.name}` = {value.number} | {_cell(comments.at(ENUMS, number, INSIDE, at))} |"


def _type(message: DescriptorProto, field: FieldDescriptorProto) -> str:
    name = _short(field.type_name) if field.type_name else KINDS[field.type]
    entry = next((inner for inner in message.nested_type if inner.name == name), None)
    if entry is not None and entry.options.map_entry:
        return f"map of {_type(entry, entry.field[0])} to {_type(entry, entry.field[1])}"
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"list of {name}"
    return f"optional {name}" if field.proto3_optional else name


def _behavior(field: FieldDescriptorProto) -> str:
    """`Required.`, `Output only.`, a format such as `UUID4.`, or nothing."""
    names = [FieldBehavior.Name(number) for number in field.options.Extensions[field_behavior]]
    words = [name.replace("_", " ").capitalize() for name in names]
    if form := field.options.Extensions[field_info].format:
        words.append(FieldInfo.Format.Name(form))
    return " ".join(f"{word}." for word in words)


def _short(full_name: str) -> str:
    return full_name.rpartition(".")[2]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page())
