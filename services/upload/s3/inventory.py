"""Finds orphans: lists S3 and the rows of jobs in the byte order of their keys, and merges them folder by folder.

A folder holds everything of one video: `coach_plus/{owner_type}/{owner_id}/{session_id}/{video_id}/`.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import TypeVar

from crease.jobs.v1.sweep_pb2 import KeptVideo
from crease.upload.v1.upload_pb2 import Orphan
from services.naming import launch_artifacts_prefix
from services.upload.s3.storage import Item

FOLDER_DEPTH = 5
T = TypeVar("T")
Folder = tuple[str, list[T]]


def folder_of(key: str) -> str:
    """The video folder of a key, with a slash at the end; the key itself if it lies in none."""
    names = key.split("/")
    return "/".join(names[:FOLDER_DEPTH]) + "/" if len(names) > FOLDER_DEPTH else key


def compare_folder(objects: Sequence[Item], uploads: Sequence[Item], kept: Sequence[KeptVideo]) -> Iterable[Orphan]:
    """The orphans of one folder: what only S3 or only the rows have."""
    videos = {job.s3_key for job in kept}
    needed = videos.union(*(job.artifacts for job in kept))
    running = tuple(launch_artifacts_prefix(job.s3_key, job.job_id, job.open_launch) for job in kept if job.open_launch)
    for found in objects:
        if found.key not in needed and not found.key.startswith(running):
            yield Orphan(kind=Orphan.KIND_OBJECT, s3_key=found.key, content_length=found.content_length)
    for upload in uploads:
        if upload.key not in videos:
            yield Orphan(kind=Orphan.KIND_PARTS, s3_key=upload.key)
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
) -> AsyncIterator[Orphan]:
    """The orphans of all folders. Memory holds one folder of each side."""
    sides = [
        folders(objects, lambda item: item.key),
        folders(uploads, lambda item: item.key),
        folders(kept, lambda job: job.s3_key),
    ]
    heads = [await anext(side, None) for side in sides]
    while any(heads):
        name = min((head[0] for head in heads if head), key=str.encode)
        groups = [head[1] if head and head[0] == name else [] for head in heads]
        for orphan in compare_folder(*groups):  # type: ignore[arg-type]  # one list of each type
            yield orphan
        for index, side in enumerate(sides):
            head = heads[index]
            if head and head[0] == name:
                heads[index] = await anext(side, None)
