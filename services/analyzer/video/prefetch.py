"""Gets the next picture, with all that is done on its way, while the model looks at this one."""

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import islice
from typing import TypeVar

from services.analyzer.cpu_time import aside

Item = TypeVar("Item")


@contextmanager
def ahead(source: Generator[Item, None, None]) -> Iterator[Iterator[Item]]:
    """The same items: a thread of its own gets the first at once, and each next one when the caller takes one.

    So an item is still in use while the next one is made. The source is closed in the end.
    """
    with closing(source), ThreadPoolExecutor(1, "ahead") as thread:
        coming = thread.submit(_next, source)

        def items() -> Iterator[Item]:
            nonlocal coming
            while got := coming.result():
                coming = thread.submit(_next, source)
                yield from got

        yield items()


def _next(source: Iterator[Item]) -> list[Item]:
    """One item, or none at the end."""
    with aside():
        return list(islice(source, 1))
