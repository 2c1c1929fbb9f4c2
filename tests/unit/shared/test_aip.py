"""The public protos follow Google's API Improvement Proposals (https://google.aip.dev), as far as descriptors show.

EXCEPTIONS names every element that breaks one of these rules, with the reason.
"""

import re
from collections.abc import Iterator

import pytest
from google.api.field_behavior_pb2 import REQUIRED, field_behavior
from google.api.field_info_pb2 import FieldInfo, field_info
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, MethodDescriptorProto

from scripts.api_docs import Comments, parse

MESSAGES, ENUMS, SERVICES, INSIDE = 4, 5, 6, 2
MACHINERY = re.compile(r"crease/(analysis|cleanup)/|/(intake|sweep)\.proto$")
FILES = [file for file in parse() if not MACHINERY.search(file.name)]
TYPES = {f"{file.package}.{message.name}": message for file in FILES for message in file.message_type}

# Rule: an element, or a pattern of elements, and why it stays.
EXCEPTIONS: dict[str, dict[str, str]] = {
    "142 time-field-names": {
        r".*\.\w+_at": "clients, SQL and dashboards have had these names since the first release",
        r"ExplainJobResponse\.since": "reads as the sentence beside it: waiting for X since T",
        r"LibraryFilter\.created_(from|before)": "the two ends of a half-open interval of created_at",
    },
    "133 response-message-name": {
        r"ShareService\.CreateShare": "this answer alone has the secret, beside the share",
    },
    "131 request-required-fields": {
        r"SessionService\.CreateSession": "each field has a default",
        r"UploadService\.SignLaunch": "machinery, under the name that analyzers of the last release call",
    },
    "158 request-and-response-fields": {
        r"UploadService\.ListOrphans": "deprecated: a stream; OrphanService.ListOrphans has pages",
    },
}


def methods() -> Iterator[tuple[str, MethodDescriptorProto, DescriptorProto]]:
    """Each RPC with its request."""
    for file in FILES:
        for service in file.service:
            for method in service.method:
                yield f"{service.name}.{method.name}", method, TYPES[method.input_type.lstrip(".")]


def fields() -> Iterator[tuple[str, FieldDescriptorProto]]:
    for name, message in TYPES.items():
        for field in message.field:
            yield f"{name.rpartition('.')[2]}.{field.name}", field


def named(message: DescriptorProto, name: str) -> FieldDescriptorProto | None:
    return next((field for field in message.field if field.name == name), None)


def time_field_names() -> Iterator[str]:
    """A time ends in `_time`."""
    for name, field in fields():
        if field.type_name == ".google.protobuf.Timestamp" and not re.search(r"[._]time$", name):
            yield name


def request_id_field() -> Iterator[str]:
    """What makes something new takes a request_id."""
    for name, method, request in methods():
        if method.name.startswith(("Create", "Initiate", "Reanalyze")) and not named(request, "request_id"):
            yield name


def response_message_name() -> Iterator[str]:
    """Create, Get (of a resource) and Update answer with the resource, Delete with nothing."""
    for name, method, _ in methods():
        if found := re.fullmatch(r"(Create|Update|Delete|Get)(\w+)", method.name):
            verb, resource = found.groups()
            is_resource = any(type_name.rpartition(".")[2] == resource for type_name in TYPES)
            if is_resource and method.output_type.rpartition(".")[2] != ("Empty" if verb == "Delete" else resource):
                yield name


def request_required_fields() -> Iterator[str]:
    """A request that names a resource marks the name as required; so do all requests but reads of lists."""
    for name, method, request in methods():
        is_free = method.name.startswith(("List", "Search", "Watch")) or not request.field
        if not is_free and not any(REQUIRED in field.options.Extensions[field_behavior] for field in request.field):
            yield name


def request_and_response_fields() -> Iterator[str]:
    """A list takes page_size and page_token, and its answer has the items first, then next_page_token."""
    for name, method, request in methods():
        if method.name.startswith(("List", "Search")):
            response = TYPES[method.output_type.lstrip(".")]
            has_pages = named(request, "page_size") and named(request, "page_token")
            items_first = response.field[0].label == FieldDescriptorProto.LABEL_REPEATED
            if not (has_pages and items_first and named(response, "next_page_token")) or method.server_streaming:
                yield name


def request_id_format() -> Iterator[str]:
    for name, field in fields():
        if field.name == "request_id" and field.options.Extensions[field_info].format != FieldInfo.UUID4:
            yield name


def java_and_csharp_options() -> Iterator[str]:
    """As buf does not check them: one class a message in Java, and the same namespace in C#."""
    for file in FILES:
        options, package = file.options, file.package.split(".")
        namespace = ".".join(word.capitalize() for word in package)
        expected = (f"dev.{file.package}", True, namespace)
        if (options.java_package, options.java_multiple_files, options.csharp_namespace) != expected:
            yield file.name
        if not options.java_outer_classname.endswith("Proto"):
            yield file.name


def has_comments() -> Iterator[str]:
    """Services, RPCs, enums, and messages but those that are named after their RPC."""
    for file in FILES:
        comments = Comments(file)
        for number, service in enumerate(file.service):
            for at, method in enumerate(service.method):
                if not comments.at(SERVICES, number, INSIDE, at):
                    yield f"{service.name}.{method.name}"
            if not comments.at(SERVICES, number):
                yield service.name
        for number, enum in enumerate(file.enum_type):
            if not comments.at(ENUMS, number):
                yield enum.name
        for number, message in enumerate(file.message_type):
            if not message.name.endswith(("Request", "Response")) and not comments.at(MESSAGES, number):
                yield message.name


RULES = {
    "142 time-field-names": time_field_names,
    "133 request-id-field": request_id_field,
    "133 response-message-name": response_message_name,
    "131 request-required-fields": request_required_fields,
    "158 request-and-response-fields": request_and_response_fields,
    "155 request-id-format": request_id_format,
    "191 java-and-csharp-options": java_and_csharp_options,
    "192 has-comments": has_comments,
}


@pytest.mark.parametrize("rule", RULES)
def test_each_breach_of_a_rule_has_its_reason(rule: str) -> None:
    """And no exception outlives its breach."""
    found = list(RULES[rule]())
    patterns = EXCEPTIONS.get(rule, {})
    assert [name for name in found if not any(re.fullmatch(pattern, name) for pattern in patterns)] == []
    assert [pattern for pattern in patterns if not any(re.fullmatch(pattern, name) for name in found)] == []
