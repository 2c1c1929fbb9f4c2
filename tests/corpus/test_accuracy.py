"""docs/metrics.md is true: every row that it calls held is measured again, and holds."""

from collections.abc import Callable, Iterator

import pytest

from bench import accuracy
from bench.accuracy_claims import Claim
from bench.accuracy_motions import on_motions
from services.analyzer.settings import BUILT_MODEL

Group = Callable[[], Iterator[Claim]]
needs_model = pytest.mark.skipif(not BUILT_MODEL.exists(), reason=f"the pose model is not built: {BUILT_MODEL.name}")


def documented() -> dict[str, bool]:
    """The rows of the table, and whether each is documented as held."""
    page = accuracy.DOCS.read_text()
    start, end = accuracy.table(page)
    rows = [row.split(" | ") for row in page[start:end].splitlines()[2:] if row]
    return {cells[0].removeprefix("| "): cells[3] == "yes" for cells in rows}


def check(group: Group) -> None:
    rows = documented()
    measured = list(group())
    assert measured
    for claim in measured:
        assert claim.name in rows, f"not in docs/metrics.md, which `make accuracy` writes: {claim}"
        assert claim.ok or not rows[claim.name], f"docs/metrics.md calls it held: {claim}"


@pytest.mark.slow
def test_numbers_of_known_motions_are_as_documented() -> None:
    """Every number, at every rate, mirrored, off square, with noise and gaps."""
    check(on_motions)


@pytest.mark.slow
@needs_model
@pytest.mark.parametrize("group", accuracy.GROUPS[1:], ids=lambda group: group.__name__)
def test_numbers_of_real_landmarks_are_as_documented(group: Group) -> None:
    """The shipped batter, and real people if the corpus is present."""
    if group in accuracy.NEED_CORPUS and not accuracy.CORPUS.exists():
        pytest.skip("the corpus of real videos is missing")
    check(group)
