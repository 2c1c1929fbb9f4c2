"""The next item is made while the caller uses the last one; an error of the source reaches the caller."""

from collections.abc import Generator
from threading import Event

import pytest

from services.analyzer.video.prefetch import prefetch


def test_the_first_item_is_made_at_once_and_the_next_one_while_one_is_used() -> None:
    """Exactly one item is prefetched, in order."""
    made = [Event() for _ in range(4)]

    def source() -> Generator[int, None, None]:
        for k, event in enumerate(made):
            event.set()
            yield k

    with prefetch(source()) as items:
        assert made[0].wait(60)
        assert not made[1].is_set()
        for k in items:
            assert made[min(k + 1, 3)].wait(60)
            assert not any(event.is_set() for event in made[k + 2 :])


def test_leaving_the_block_early_closes_the_source() -> None:
    """The end of the block closes the source."""
    ended = []

    def source() -> Generator[int, None, None]:
        try:
            yield from range(100)
        finally:
            ended.append(True)

    with prefetch(source()) as items:
        next(iter(items))
    assert ended


def test_a_source_that_fails_fails_where_its_items_are_used() -> None:
    """The items before the error are delivered first."""

    def source() -> Generator[int, None, None]:
        yield 1
        raise ValueError("the second is broken")

    with prefetch(source()) as items:
        assert next(items) == 1
        with pytest.raises(ValueError, match="the second is broken"):
            next(items)
