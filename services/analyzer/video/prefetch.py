"""Prepares the next picture in a second thread while the pose model works on the current one."""

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import islice
from typing import TypeVar

from services.analyzer.cpu_time import exclude_cpu_time

Item = TypeVar("Item")


@contextmanager
def prefetch(source: Generator[Item, None, None]) -> Iterator[Iterator[Item]]:
    """The same items: a thread fetches the first at once, and each next item when the caller takes one.

    So the caller still uses an item while the next one is made. The block's end closes the source.
    """
    with closing(source), ThreadPoolExecutor(1, "prefetch") as thread:
        fetched = thread.submit(_fetch_next, source)

        def items() -> Iterator[Item]:
            nonlocal fetched
            while item := fetched.result():
                fetched = thread.submit(_fetch_next, source)
                yield from item

        yield items()


def _fetch_next(source: Iterator[Item]) -> list[Item]:
    """One item, or an empty list at the end."""
    with exclude_cpu_time():
        return list(islice(source, 1))
