"""The one place of `jobs` that holds boto3: a queue that takes up to ten messages at a time."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from services.jobs.settings import RelaySettings

MAX_MESSAGES = 10
# Together shorter than the relay's session may be idle: who waits for SQS must not lose its turn by that.
LIMITS = Config(connect_timeout=2, read_timeout=4, retries={"total_max_attempts": 1}, max_pool_connections=1)


class QueueAway(Exception):
    """SQS did not take a message; the same one may be taken later."""


@dataclass(frozen=True)
class Message:
    body: Mapping[str, Any]
    attributes: Mapping[str, str]


class Queue:
    def __init__(self, settings: RelaySettings) -> None:
        self._url = settings.queue_url
        endpoint = settings.sqs_endpoint or None
        self._client: Any = boto3.client("sqs", region_name=settings.region, endpoint_url=endpoint, config=LIMITS)

    def send(self, messages: Sequence[Message]) -> list[str]:
        """Sends up to MAX_MESSAGES. Returns the ids of the first ones that were taken, up to the first that was not.

        Raises QueueAway where none was.
        """
        entries = [_entry(str(number), message) for number, message in enumerate(messages)]
        try:
            reply = self._client.send_message_batch(QueueUrl=self._url, Entries=entries)
        except (BotoCoreError, ClientError) as error:
            raise QueueAway(str(error)) from error
        taken = {one["Id"]: one["MessageId"] for one in reply.get("Successful", ())}
        first = next((number for number in range(len(messages)) if str(number) not in taken), len(messages))
        if first == 0:
            raise QueueAway("; ".join(f"{one['Code']}: {one.get('Message', '')}" for one in reply.get("Failed", ())))
        return [taken[str(number)] for number in range(first)]


def _entry(key: str, message: Message) -> dict[str, Any]:
    attributes = {name: {"DataType": "String", "StringValue": value} for name, value in message.attributes.items()}
    return {"Id": key, "MessageBody": json.dumps(message.body), "MessageAttributes": attributes}
