"""Finds numbers in a message that its enums do not define: proto3 keeps them, and a handler would ignore them."""

from functools import cache

from google.protobuf.descriptor import Descriptor, EnumDescriptor
from google.protobuf.message import Message


def unknown_enum(message: Message) -> tuple[str, EnumDescriptor] | None:
    """The path of the first field with an undefined number, and its enum; None if there is none."""
    if not _has_enums(message.DESCRIPTOR):
        return None
    for field, value in message.ListFields():
        items = list(value) if field.is_repeated else [value]
        for index, item in enumerate(items):
            path = f"{field.name}[{index}]" if field.is_repeated else field.name
            if field.enum_type is not None and item not in field.enum_type.values_by_number:
                return path, field.enum_type
            inner = unknown_enum(item) if field.message_type is not None else None
            if inner is not None:
                return f"{path}.{inner[0]}", inner[1]
    return None


@cache
def _has_enums(descriptor: Descriptor) -> bool:
    """Whether messages of a type can hold one of our enums. Google's types, such as Struct, hold none."""
    if not descriptor.full_name.startswith("crease."):
        return False
    return any(
        field.enum_type is not None or (field.message_type is not None and _has_enums(field.message_type))
        for field in descriptor.fields
    )
