"""The settings of S3. Credentials come as in every AWS client: environment, profile or the pod's role."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from services.settings import Settings

# Signature v4 signs nothing for longer than a week.
UrlSeconds = Annotated[int, Field(gt=0, le=7 * 86400)]


class StorageSettings(Settings):
    aws_region: str = Field(min_length=1, validation_alias="AWS_REGION")
    bucket: str = Field(min_length=3, validation_alias="S3_COACH_VIDEOS_BUCKET")
    upload_url_seconds: UrlSeconds = Field(3600, validation_alias="S3_UPLOAD_URL_EXPIRES_SECONDS")
    download_url_seconds: UrlSeconds = 300
    # http(s)://host:port, as clients and analyzers reach it too; empty: AWS.
    s3_endpoint: str = Field("", pattern=r"^(https?://\S+)?$")
    # host/bucket/key instead of bucket.host/key. Unset: no on AWS, yes for another s3_endpoint.
    s3_path_style: bool | None = None
    # The KMS key that objects are encrypted with; empty: as the bucket says.
    s3_kms_key: str = Field("", pattern=r"^[A-Za-z0-9:/_-]*$")
    # The account that must own the bucket; empty: any.
    s3_bucket_owner: str = Field("", pattern=r"^(\d{12})?$")
    # PEM file of the authority that signed the endpoint's certificate; unset: those of the system.
    s3_ca_file: Path | None = None
    # Calls to S3 at one time, and how long one may take with its second try.
    s3_threads: PositiveInt = 16
    s3_timeout_seconds: PositiveFloat = 10.0
    # How long S3 may take to put the parts of a video together.
    s3_assembly_seconds: PositiveFloat = 120.0

    @property
    def addressing_style(self) -> Literal["path", "virtual"]:
        """botocore's word for it. Never its `auto`: that signs for the global host, which redirects PUTs elsewhere."""
        path_style = bool(self.s3_endpoint) if self.s3_path_style is None else self.s3_path_style
        return "path" if path_style else "virtual"
