"""The settings of S3. Credentials come as in every AWS client: environment, profile or the pod's role."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from services.settings import Settings

# The upper bound of signature version 4: one week.
UrlSeconds = Annotated[int, Field(gt=0, le=7 * 86400)]


class StorageSettings(Settings):
    # The region of the bucket.
    aws_region: str = Field(min_length=1, validation_alias="AWS_REGION")
    # The bucket of videos and artifacts.
    bucket: str = Field(min_length=3, validation_alias="S3_COACH_VIDEOS_BUCKET")
    # How long a signed PUT is valid.
    upload_url_seconds: UrlSeconds = Field(default=3600, validation_alias="S3_UPLOAD_URL_EXPIRES_SECONDS")
    # How long a signed GET is valid.
    download_url_seconds: UrlSeconds = 300
    # http(s)://host:port at which upload, clients and analyzers reach S3. Empty: AWS.
    s3_endpoint: str = Field(default="", pattern=r"^(https?://\S+)?$")
    # Whether URLs are host/bucket/key instead of bucket.host/key. Unset: only with CREASE_S3_ENDPOINT.
    s3_path_style: bool | None = None
    # The KMS key that encrypts objects. Empty: the bucket's default.
    s3_kms_key: str = Field(default="", pattern=r"^[A-Za-z0-9:/_-]*$")
    # The AWS account that must own the bucket, 12 digits. Empty: not checked.
    s3_bucket_owner: str = Field(default="", pattern=r"^(\d{12})?$")
    # PEM file of the authority of the endpoint's certificate. Unset: the system's authorities.
    s3_ca_file: Path | None = None
    # Concurrent calls to S3.
    s3_threads: PositiveInt = 16
    # How long a call to S3 may take, its retry included.
    s3_timeout_seconds: PositiveFloat = 10.0
    # How long S3 may take to assemble the parts of a video.
    s3_assembly_seconds: PositiveFloat = 120.0

    @property
    def addressing_style(self) -> Literal["path", "virtual"]:
        """botocore's addressing style. Never its `auto`, which signs for the global host: that one redirects PUTs."""
        path_style = bool(self.s3_endpoint) if self.s3_path_style is None else self.s3_path_style
        return "path" if path_style else "virtual"
