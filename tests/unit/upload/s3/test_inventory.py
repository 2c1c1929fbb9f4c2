"""The comparison of S3 with the rows, in pages."""

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crease.cleanup.v1.cleanup_pb2 import KeptVideo
from crease.upload.v1.upload_pb2 import Orphan
from services.upload.s3 import inventory
from services.upload.s3.inventory import Position
from services.upload.s3.storage import Item

T = TypeVar("T")
# Folders of which one begins the other, siblings on both sides of a slash, keys in no folder, texts beyond ASCII.
FOLDERS = [f"coach_plus/coach/{owner}/s/{video}" for owner in ("c", "c-d", "é") for video in ("v", "v-w", "v.w")]
KEYS = st.sampled_from([f"{folder}/{name}" for folder in FOLDERS for name in ("original.mp4", "a/b", "😀")] + FOLDERS)
ARTIFACTS = st.lists(KEYS, max_size=2, unique=True)
JOBS = st.builds(KeptVideo, job_id=st.uuids().map(str), s3_key=KEYS, is_verified=st.booleans(), artifacts=ARTIFACTS)


class Bucket:
    """Objects, uploads and rows, which list as S3 and jobs do: in byte order, after a text."""

    def __init__(self, objects: Iterable[str], uploads: Iterable[str], jobs: Iterable[KeptVideo]) -> None:
        self._objects = [Item(key) for key in sorted(set(objects), key=str.encode)]
        self._uploads = [Item(key, str(number)) for number, key in enumerate(sorted(uploads, key=str.encode))]
        self._jobs = sorted(jobs, key=lambda job: (job.s3_key.encode(), job.job_id))

    def compare(self, after: str) -> AsyncIterator[tuple[str, list[Orphan]]]:
        return inventory.compare(
            _later([item for item in self._objects if item.key > after]),
            _later([item for item in self._uploads if item.key > after]),
            _later([job for job in self._jobs if job.s3_key > after]),
        )

    async def page(self, after: Position, size: int) -> tuple[list[Orphan], Position]:
        return await inventory.read_page(self.compare(inventory.before_folder(after)), after, size)


async def _later(items: Sequence[T]) -> AsyncIterator[T]:
    for item in items:
        yield item


@given(st.lists(KEYS), st.lists(KEYS), st.lists(JOBS), st.integers(1, 4), st.integers(1, 3))
@settings(deadline=None)
async def test_pages_of_any_size_have_each_orphan_once(
    objects: list[str], uploads: list[str], jobs: list[KeptVideo], size: int, folders: int
) -> None:
    """Together they are the whole list, in its order; no page is larger than requested, and the pages end."""
    bucket = Bucket(objects, uploads, jobs)
    whole = [orphan async for _, found in bucket.compare("") for orphan in found]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inventory, "MAX_FOLDERS", folders)
        listed: list[Orphan] = []
        after: Position = ()
        for _ in range(len(whole) + len(FOLDERS) * 4 + 1):
            page, after = await bucket.page(after, size)
            assert len(page) <= size
            listed += page
            if not after:
                break
    assert after == ()
    assert listed == whole


async def test_an_orphan_that_appears_between_pages_moves_no_other() -> None:
    """The next page begins after the last orphan, not after a number of them."""
    keys = [f"{FOLDERS[0]}/{name}" for name in "bcd"]
    first, after = await Bucket(keys, [], []).page((), 2)
    second, _ = await Bucket([f"{FOLDERS[0]}/a", *keys], [], []).page(after, 2)
    assert [orphan.s3_key for orphan in (*first, *second)] == keys
