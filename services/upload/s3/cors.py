"""Lets the browsers of one page send and read objects: a CORS rule of the bucket.

python -m services.upload allow-origin https://crease.example.com
"""

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

RULE = "crease-page"
NO_RULES = "NoSuchCORSConfiguration"


def allow(client: "S3Client", bucket: str, origin: str) -> None:
    """Sets the rule for one origin, and keeps every rule of others. Raises ClientError, BotoCoreError."""
    rules = [rule for rule in _rules(client, bucket) if rule.get("ID") != RULE]
    rule = {
        "ID": RULE,
        "AllowedOrigins": [origin],
        "AllowedMethods": ["GET", "PUT"],
        "AllowedHeaders": ["*"],
        "ExposeHeaders": ["ETag"],
        "MaxAgeSeconds": 3600,
    }
    configuration: Any = {"CORSRules": [*rules, rule]}
    client.put_bucket_cors(Bucket=bucket, CORSConfiguration=configuration)


def _rules(client: "S3Client", bucket: str) -> list[Any]:
    try:
        return list(client.get_bucket_cors(Bucket=bucket)["CORSRules"])
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") == NO_RULES:
            return []
        raise
