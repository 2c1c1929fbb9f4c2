"""The settings of `upload`."""

from pathlib import Path

from pydantic import Field, PositiveFloat

from services.settings import ServerSettings
from services.upload.s3.parts import LARGEST_PART_BYTES, MOST_PARTS
from services.upload.s3.settings import StorageSettings


class UploadSettings(StorageSettings, ServerSettings):
    listen: str = "127.0.0.1:50052"
    # host:port
    jobs_endpoint: str
    jobs_timeout_seconds: PositiveFloat = 10.0
    # How `upload` proves itself to `jobs`.
    token_file: Path
    # The largest video taken; the bound is what S3's 10,000 parts hold.
    max_content_length: int = Field(5_000_000_000, gt=0, le=LARGEST_PART_BYTES * MOST_PARTS)
    # From here a video comes in parts. S3 takes no more than 5 GiB in one PUT.
    multipart_from_bytes: int = Field(100_000_000, gt=0, le=5 * 2**30)
    # How often health asks whether S3 answers.
    s3_check_seconds: PositiveFloat = 10.0
    # How often what S3 need not hold any more is looked for.
    sweep_seconds: PositiveFloat = 30.0
