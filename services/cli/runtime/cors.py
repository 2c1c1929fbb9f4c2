"""Asks S3, as a browser does before it sends a video, whether a page may: a preflight, which needs no key."""

import urllib3

from services.cli.runtime.interface import Check

NAME = "page uploads"
PREFLIGHT_SECONDS = 5.0
# The header of every part that a browser sends.
SENT_HEADER = "x-amz-checksum-sha256"


def check_uploads(page: str, s3: str, bucket: str) -> Check:
    """Whether the bucket lets browsers on the page send videos. `page`, `s3`: the origins that browsers see."""
    # The address of S3 names the bucket, or its paths do.
    place = f"{s3}/crease-doctor" if f"//{bucket}." in s3 else f"{s3}/{bucket}/crease-doctor"
    asked = {
        "Origin": page,
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": SENT_HEADER,
    }
    try:
        reply = urllib3.request("OPTIONS", place, headers=asked, timeout=PREFLIGHT_SECONDS, retries=False)
    except urllib3.exceptions.HTTPError as error:
        return Check(NAME, True, f"not checked: {s3} does not answer this machine: {error}", made=False)
    answer = reply.headers
    allows = (
        reply.status < 300
        and answer.get("access-control-allow-origin") in (page, "*")
        and _lists(answer.get("access-control-allow-methods", ""), "put")
        and _lists(answer.get("access-control-allow-headers", ""), SENT_HEADER)
    )
    detail = f"the bucket {bucket} {'lets' if allows else 'does not let'} browsers on {page} send videos"
    return Check(NAME, allows, detail, f"In a pod of upload: python -m services.upload allow-origin {page}")


def _lists(answer: str, wanted: str) -> bool:
    return not {"*", wanted}.isdisjoint(part.strip().lower() for part in answer.split(","))
