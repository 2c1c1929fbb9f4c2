"""The settings of `web`."""

from pathlib import Path
from typing import Self

from pydantic import Field, PositiveFloat, model_validator

from services.settings import Issuers, WatchedSettings

BUILT_HTMX = Path(__file__).parents[2] / "build" / "htmx"


class WebSettings(WatchedSettings):
    # host:port at which the page is served.
    listen: str = "127.0.0.1:50060"
    # The page's address as browsers have it, such as https://crease.example.com. Requests for another Host are refused.
    origin: str = Field(pattern=r"^https?://[^/\s]+$")
    # The address at which browsers reach S3, such as https://bucket.s3.eu-west-1.amazonaws.com.
    s3_origin: str = Field(pattern=r"^https?://[^/\s]+$")
    # host:port of jobs, https:// before it for TLS.
    jobs_endpoint: str
    # host:port of upload, https:// before it for TLS.
    upload_endpoint: str
    # Set on a laptop: the folder with the key of cookies and the key of the next sign-in.
    sign_in_folder: Path | None = None
    # With CREASE_SIGN_IN_FOLDER: file with the token of the one person who signs in there.
    token_file: Path | None = None
    # Trusted token issuers of people, whose tokens a login in front of the page hands on.
    issuers: Issuers = ()
    # The audience that every token must name.
    audience: str = "crease"
    # Seconds for which an issuer's last keys stay valid while it publishes none.
    issuer_keys_seconds: PositiveFloat = 86400.0
    # Where a visitor without a valid token signs in; the path to come back to is appended. Empty: a sentence says so.
    login_url: str = ""
    # Folder with htmx.js and sse.js.
    htmx_folder: Path = BUILT_HTMX
    # How long open answers may take to finish after SIGTERM.
    drain_seconds: PositiveFloat = 2.0

    @model_validator(mode="after")
    def _has_one_way_in(self) -> Self:
        if bool(self.sign_in_folder) == bool(self.issuers):
            raise ValueError("set either CREASE_SIGN_IN_FOLDER or CREASE_ISSUERS")
        if bool(self.sign_in_folder) != bool(self.token_file):
            raise ValueError("CREASE_SIGN_IN_FOLDER and CREASE_TOKEN_FILE belong together")
        return self
