"""Sends messages to SQS in batches of up to ten. Only this module of `jobs` imports boto3."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from services.jobs.settings import RelaySettings

MAX_MESSAGES = 10
# Together shorter than IDLE_SECONDS of the relay: a relay that waits for SQS must not lose its session.
LIMITS = Config(connect_timeout=2, read_timeout=4, retries={"total_max_attempts": 1}, max_pool_connections=1)


class QueueUnavailable(Exception):
    """SQS did not accept a message; a retry may succeed."""


@dataclass(frozen=True)
class Message:
    body: Mapping[str, Any]
    attributes: Mapping[str, str]


class Queue:
    def __init__(self, url: str, settings: RelaySettings) -> None:
        self._url = url
        endpoint = settings.sqs_endpoint or None
        self._client: Any = boto3.client("sqs", region_name=settings.region, endpoint_url=endpoint, config=LIMITS)

    def send(self, messages: Sequence[Message]) -> list[str]:
        """Sends up to MAX_MESSAGES. Returns the ids of the accepted messages before the first rejected one.

        Raises QueueUnavailable if SQS rejected the first message.
        """
        entries = [_entry(str(number), message) for number, message in enumerate(messages)]
        try:
            reply = self._client.send_message_batch(QueueUrl=self._url, Entries=entries)
        except (BotoCoreError, ClientError) as error:
            raise QueueUnavailable(str(error)) from error
        accepted = {entry["Id"]: entry["MessageId"] for entry in reply.get("Successful", ())}
        first = next((number for number in range(len(messages)) if str(number) not in accepted), len(messages))
        if first == 0:
            failed = reply.get("Failed", ())
            raise QueueUnavailable("; ".join(f"{entry['Code']}: {entry.get('Message', '')}" for entry in failed))
        return [accepted[str(number)] for number in range(first)]


def _entry(key: str, message: Message) -> dict[str, Any]:
    attributes = {name: {"DataType": "String", "StringValue": value} for name, value in message.attributes.items()}
    return {"Id": key, "MessageBody": json.dumps(message.body), "MessageAttributes": attributes}
