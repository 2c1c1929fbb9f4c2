"""The cluster of KUBECONFIG with the images loaded: `make e2e` provides both."""

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster import Release, in_a_namespace


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker("e2e")
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(scope="session", autouse=True)
def _cluster() -> None:
    assert os.environ.get("KUBECONFIG"), "KUBECONFIG is not set: run these tests with `make e2e`"


@pytest.fixture(scope="session")
def release() -> Iterator[Release]:
    """One release shared by the tests that do not change it."""
    with in_a_namespace("nets") as made:
        made.install()
        yield made


@pytest.fixture
def other() -> Iterator[Release]:
    """A release for one test, not yet installed."""
    with in_a_namespace("pavilion") as made:
        yield made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and call.when != "teardown":
        for name in ("release", "other"):
            made = getattr(item, "funcargs", {}).get(name)
            if made is not None:
                report.sections.append(("kept", f"logs and events: {made.keep_logs(f'{item.name}-{name}')}"))
    return report
