"""The plan of a multipart upload, within S3's limits."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crease.jobs.v1.job_pb2 import VideoObject
from services.upload.s3 import parts
from services.upload.s3.parts import MAX_PART_BYTES, MAX_PARTS_PER_UPLOAD, MIB, MIN_PART_BYTES, UploadedPart


@given(st.integers(1, MAX_PART_BYTES * MAX_PARTS_PER_UPLOAD))
def test_every_length_is_covered_by_parts_that_s3_accepts(length: int) -> None:
    """8 to 64 MiB each but the last, which is not empty; never more than 10,000."""
    video = VideoObject(content_length=length, part_bytes=parts.part_bytes(length))
    count = parts.count(video)
    assert MIN_PART_BYTES <= video.part_bytes <= MAX_PART_BYTES
    assert video.part_bytes % MIB == 0
    assert 1 <= count <= MAX_PARTS_PER_UPLOAD
    assert (count - 1) * video.part_bytes + parts.length(video, count) == length
    assert 0 < parts.length(video, count) <= video.part_bytes


@pytest.mark.parametrize(
    ("length", "mib"), [(100_000_000, 8), (5_000_000_000, 8), (8_388_608_000, 8), (20 * 2**30, 21), (640 * 10**9, 64)]
)
def test_parts_grow_before_they_are_many(length: int, mib: int) -> None:
    """A thousand of 8 MiB, then larger ones."""
    assert parts.part_bytes(length) == mib * MIB


def test_a_video_in_one_put_has_no_parts() -> None:
    """A short video has a plan of zero parts."""
    assert parts.count(VideoObject(content_length=10)) == 0


def test_parts_that_are_short_or_absent_are_missing() -> None:
    """Of three parts, the second is short and the third is absent."""
    video = VideoObject(content_length=2 * MIN_PART_BYTES + 5, part_bytes=MIN_PART_BYTES)
    arrived = [UploadedPart(1, MIN_PART_BYTES, "e", ""), UploadedPart(2, MIN_PART_BYTES - 1, "e", "")]
    assert parts.missing(video, arrived) == [2, 3]
    assert (
        parts.missing(video, [arrived[0], UploadedPart(2, MIN_PART_BYTES, "e", ""), UploadedPart(3, 5, "e", "")]) == []
    )


def test_a_composite_checksum_is_the_hash_of_hashes() -> None:
    """As S3 computes it; empty if one part's checksum is unknown."""
    one, two = hashlib.sha256(b"1"), hashlib.sha256(b"2")
    whole = hashlib.sha256(one.digest() + two.digest()).hexdigest()
    assert parts.sha256_of([one.hexdigest(), two.hexdigest()]) == whole
    assert parts.sha256_of([one.hexdigest(), ""]) == ""
