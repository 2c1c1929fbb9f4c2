"""Defines what the client and the server of the sandbox share: messages, picture slots and exit statuses.

    client ──request [task, arguments, limits, picture_bytes] (with two descriptors: a socket, the slots)──▶ server
    client ◀──────────── messages on the socket, each JSON with one of these keys ─────────── worker, guard
    client ─────────── one byte for each slot that is free again ─────────▶ worker

| key | value |
|---|---|
| alive | the worker makes progress, without an item |
| missing | beside the first `alive`: what the kernel lacks to confine the worker |
| item, slot, shape | an item of the task, and where its picture lies in shared memory |
| result | the task's return value; the worker is done |
| refused | [code, message] of BadInput; the worker is done |
| internal_error | a traceback of our own code; the worker is done |
| exited | from the guard: the worker's exit status, negative for a signal; no other message follows |
"""

import json
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

# Pictures in shared memory: two that the caller borrows, and one that the worker fills ahead.
SLOTS = 3
# The stamps of 432,000 frames, the default limit, have at most 10 MB.
MAX_MESSAGE_BYTES = 64 << 20
# Exit status of a worker that fails in our own code, so that the file is not blamed.
INTERNAL_ERROR_STATUS = 70
Message = dict[str, Any]
# In quotes, because Python 3.11 cannot subscript the class at run time.
MessageConnection: TypeAlias = "Connection[Any, Any]"


def send(connection: MessageConnection, message: Message) -> None:
    """Send one message."""
    connection.send_bytes(json.dumps(message).encode())


def receive(connection: MessageConnection) -> Message:
    """Receive one message. Raises EOFError or OSError when the other side has ended or the message is too large."""
    message: Message = json.loads(connection.recv_bytes(MAX_MESSAGE_BYTES))
    return message
