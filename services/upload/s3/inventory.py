"""Finds orphans: lists S3 and the rows of jobs in the byte order of their keys, and merges them folder by folder.

A folder holds everything of one video: `coach_plus/{owner_type}/{owner_id}/{session_id}/{video_id}/`.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import TypeVar

from crease.cleanup.v1.cleanup_pb2 import KeptVideo
from crease.upload.v1.upload_pb2 import Orphan
from services.naming import launch_artifacts_prefix
from services.upload.s3.storage import Item

FOLDER_DEPTH = 5
T = TypeVar("T")
Folder = tuple[str, list[T]]
# Where a page begins: before a folder, or after one orphan of it (folder, s3_key, kind, job_id); empty: at the first
# folder. Texts sort like their bytes.
Position = tuple[()] | tuple[str] | tuple[str, str, int, str]
# A page ends after so many folders, so that it takes seconds in any bucket.
MAX_FOLDERS = 500


def folder_of(key: str) -> str:
    """The video folder of a key, with a slash at the end; the key itself if it lies in none."""
    names = key.split("/")
    return "/".join(names[:FOLDER_DEPTH]) + "/" if len(names) > FOLDER_DEPTH else key


def compare_folder(objects: Sequence[Item], uploads: Sequence[Item], kept: Sequence[KeptVideo]) -> Iterable[Orphan]:
    """The orphans of one folder: what only S3 or only the rows have. Two uploads under one key are one orphan."""
    videos = {job.s3_key for job in kept}
    needed = videos.union(*(job.artifacts for job in kept))
    running = tuple(launch_artifacts_prefix(job.s3_key, job.job_id, job.open_launch) for job in kept if job.open_launch)
    for found in objects:
        if found.key not in needed and not found.key.startswith(running):
            yield Orphan(kind=Orphan.KIND_OBJECT, s3_key=found.key, content_length=found.content_length)
    for key in {upload.key for upload in uploads} - videos:
        yield Orphan(kind=Orphan.KIND_PARTS, s3_key=key)
    there = {found.key for found in objects}
    for job in kept:
        if job.is_verified and job.s3_key not in there:
            yield Orphan(kind=Orphan.KIND_VIDEO_MISSING, s3_key=job.s3_key, job_id=job.job_id)
        for key in job.artifacts:
            if key not in there:
                yield Orphan(kind=Orphan.KIND_ARTIFACT_MISSING, s3_key=key, job_id=job.job_id)


async def folders(items: AsyncIterator[T], key: Callable[[T], str]) -> AsyncIterator[Folder[T]]:
    """Groups items, sorted by key, into folders."""
    name, group = "", list[T]()
    async for item in items:
        if folder_of(key(item)) != name:
            if group:
                yield name, group
            name, group = folder_of(key(item)), []
        group.append(item)
    if group:
        yield name, group


async def compare(
    objects: AsyncIterator[Item], uploads: AsyncIterator[Item], kept: AsyncIterator[KeptVideo]
) -> AsyncIterator[Folder[Orphan]]:
    """The orphans of each folder, sorted. Memory holds one folder of each side."""
    sides = [
        folders(objects, lambda item: item.key),
        folders(uploads, lambda item: item.key),
        folders(kept, lambda job: job.s3_key),
    ]
    heads = [await anext(side, None) for side in sides]
    while any(heads):
        name = min((head[0] for head in heads if head), key=str.encode)
        groups = [head[1] if head and head[0] == name else [] for head in heads]
        found = compare_folder(*groups)  # type: ignore[arg-type]  # one list of each type
        yield name, sorted(found, key=lambda orphan: position(name, orphan))
        for index, side in enumerate(sides):
            head = heads[index]
            if head and head[0] == name:
                heads[index] = await anext(side, None)


def position(folder: str, orphan: Orphan) -> tuple[str, str, int, str]:
    """Where the page begins that follows an orphan."""
    return folder, orphan.s3_key, orphan.kind, orphan.job_id


def before_folder(after: Position) -> str:
    """A text below every key of the folder in which a page begins, to list from."""
    return after[0][:-1] if after else ""


async def read_page(
    folders: AsyncIterator[Folder[Orphan]], after: Position, size: int
) -> tuple[list[Orphan], Position]:
    """At most `size` orphans after a position, of at most MAX_FOLDERS folders, and where the next page begins.

    folders: from that position's folder on, or from before it. The position is empty after the last page.
    """
    orphans: list[Orphan] = []
    last, count = after, 0
    async for name, found in folders:
        if after and name < after[0]:
            continue
        if count == MAX_FOLDERS:
            return orphans, (name,)
        count += 1
        for orphan in found:
            if position(name, orphan) <= after:
                continue
            if len(orphans) == size:
                return orphans, last
            orphans.append(orphan)
            last = position(name, orphan)
    return orphans, ()
