"""The queue that a relay sends to, read as its consumer reads it."""

from dataclasses import dataclass, field
from typing import Any

import boto3

from testing.servers.s3 import Endpoint


@dataclass
class Queue:
    """`received`: the ids of the events whose message arrived."""

    client: Any
    url: str
    received: set[str] = field(default_factory=set)

    def receive(self) -> None:
        """Takes all messages that are there."""
        while found := self.client.receive_message(
            QueueUrl=self.url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        ).get("Messages", ()):
            for message in found:
                self.received.add(message["MessageAttributes"]["ce-id"]["StringValue"])
                self.client.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])


def make_queue(server: Endpoint) -> Queue:
    """A new queue; the S3 server of a laptop serves SQS, too."""
    client = boto3.client(
        "sqs", endpoint_url=server.url, region_name=server.region, aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
    )  # fmt: skip
    return Queue(client, client.create_queue(QueueName="chaos")["QueueUrl"])
