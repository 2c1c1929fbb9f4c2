"""Requests and calls made from the descriptors, so that a new RPC is covered without being named."""

from collections.abc import Mapping
from typing import Any

import grpc
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from services.jobs.__main__ import SERVICES

RPCS: dict[str, MethodDescriptor] = {
    f"{service.name}/{method.name}": method for service in SERVICES for method in service.methods
}
# The etag of the values is that of an S3 object; a session and a player have their own.
UPDATES = ("SessionService/UpdateSession", "PlayerService/UpdatePlayer")
# Longer than any answer takes; a stream that has nothing to say yet is cut off by it.
STREAM_SECONDS = 5
CALL_SECONDS = 60


def request(rpc: str, values: Mapping[str, Any]) -> Message:
    """The RPC's request, each field that `values` names filled in, at every depth."""
    message = GetMessageClass(RPCS[rpc].input_type)()
    fill(message, {name: value for name, value in values.items() if rpc not in UPDATES or name != "etag"})
    return message


def fill(message: Message, values: Mapping[str, Any]) -> None:
    """Fills in each field that `values` names, at every depth."""
    for field in message.DESCRIPTOR.fields:
        if field.name in values:
            value = values[field.name]
            if isinstance(value, Message):
                getattr(message, field.name).CopyFrom(value)
            elif field.is_repeated:
                getattr(message, field.name).extend(value)
            else:
                setattr(message, field.name, value)
        elif (inner_type := _own_message(field)) is not None:
            inner = GetMessageClass(inner_type)()
            fill(inner, values)
            if inner.ByteSize():
                getattr(message, field.name).CopyFrom(inner)


def _own_message(field: Any) -> Descriptor | None:
    """The type of a single field that holds a message of our own protos.

    The stubs give a field two types, of the C and of the Python implementation: hence Any.
    """
    inner: Descriptor | None = field.message_type
    return inner if inner is not None and not field.is_repeated and inner.full_name.startswith("crease.") else None


def _unchanged(body: bytes) -> bytes:
    return body


def send(channel: grpc.Channel, rpc: str, message: Message | bytes, metadata: Any) -> str:
    """Makes the call; returns its status code's name, OK for a stream that begins or waits."""
    method = RPCS[rpc]
    path = f"/{method.containing_service.full_name}/{method.name}"
    body = message if isinstance(message, bytes) else message.SerializeToString()
    try:
        if method.server_streaming:
            stream: Any = channel.unary_stream(path, _unchanged, _unchanged)(
                body, metadata=metadata, timeout=STREAM_SECONDS
            )
            next(stream, None)
            stream.cancel()
        else:
            channel.unary_unary(path, _unchanged, _unchanged)(body, metadata=metadata, timeout=CALL_SECONDS)
    except grpc.RpcError as error:
        waits = method.server_streaming and error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        return "OK" if waits else str(error.code().name)
    return "OK"
