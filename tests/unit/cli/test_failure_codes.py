"""services/rules/failure_codes.py knows every code that a program can give a failed job."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.rules.failure_codes import FAILURE_CODES, Fault
from testing.servers.programs import ROOT

CODE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")
# Reasons of UNAVAILABLE: `upload` changes no job and the client calls again.
TRANSIENT = {"S3_AWAY", "VIDEO_NOT_ASSEMBLED"}


def parse(folder: str) -> Iterator[ast.Module]:
    for path in sorted(Path(ROOT, "services", folder).rglob("*.py")):
        yield ast.parse(path.read_text())


def code(node: ast.expr) -> str:
    """The code that a string constant spells; empty for any other expression."""
    is_code = isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value)
    return str(node.value) if is_code and isinstance(node, ast.Constant) else ""


def name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def analyzer_codes() -> Iterator[tuple[str, str]]:
    """The class of an error and its code, wherever the analyzer makes one: BadInput("NOT_A_VIDEO", …)."""
    errors = ast.parse(Path(ROOT, "services", "analyzer", "errors.py").read_text())
    classes = {node.name for node in errors.body if isinstance(node, ast.ClassDef)}
    for module in parse("analyzer"):
        for call in (node for node in ast.walk(module) if isinstance(node, ast.Call)):
            if call.args and code(call.args[0]) and name(call.func) in classes | {"__init__"}:
                yield name(call.func), code(call.args[0])


def jobs_codes() -> set[str]:
    """The codes that `jobs` assigns: failure_code=… and the table of endings."""
    found = set()
    for module in parse("jobs"):
        for node in ast.walk(module):
            if isinstance(node, ast.keyword) and node.arg == "failure_code":
                found.add(code(node.value))
            elif isinstance(node, ast.Call) and name(node.func) == "Rule":
                found |= {code(argument) for argument in node.args}
                found |= {name(argument) for argument in node.args if name(argument).isupper()}
    return found - {""}


def upload_codes() -> set[str]:
    """The codes of a video that `upload` rejects."""
    found = set()
    for module in parse("upload"):
        strings = {code(node) for node in ast.walk(module) if isinstance(node, ast.Constant)}
        found |= {text for text in strings if text.startswith("VIDEO_") or text in ("NOT_A_VIDEO", "S3_AWAY")}
    return found - TRANSIENT


def test_every_code_of_the_analyzer_is_in_the_table() -> None:
    """An error that says BadInput, and no other, is the fault of the video."""
    found = set(analyzer_codes())
    assert {"NOT_A_VIDEO", "CRASHED", "UNEXPECTED", "KILLED", "REFUSED", "IMAGE", "SERVICE_AWAY"} <= {
        text for _, text in found
    }
    assert {text for _, text in found} <= FAILURE_CODES.keys()
    for error, text in found:
        assert (FAILURE_CODES[text].fault == Fault.INPUT) == (error == "BadInput"), text


def test_every_code_of_jobs_is_in_the_table() -> None:
    """Those of the table of endings, of expiry and of dead letters."""
    found = jobs_codes()
    assert {"BAD_INPUT", "DISRUPTED", "DEADLINE", "UPLOAD_EXPIRED", "DEAD_LETTERED"} <= found
    assert found <= FAILURE_CODES.keys()


def test_every_code_of_upload_is_in_the_table() -> None:
    """Those of the checks of an uploaded object."""
    found = upload_codes()
    assert {"VIDEO_MISSING", "VIDEO_INCOMPLETE", "NOT_A_VIDEO"} <= found
    assert found <= FAILURE_CODES.keys()


def test_no_code_of_the_table_is_unused() -> None:
    """A code that no program can give a job leaves the table."""
    assert FAILURE_CODES.keys() == {text for _, text in analyzer_codes()} | jobs_codes() | upload_codes()


def test_the_documentation_lists_every_code_of_a_video() -> None:
    """docs/files.md: code, sentence and advice, as in the table."""
    rows = re.findall(
        r"^\| `([A-Z_]+)` \| (.+?) \| (.+?) \|$", Path(ROOT, "docs", "files.md").read_text(), re.MULTILINE
    )
    videos = {code: entry for code, entry in FAILURE_CODES.items() if entry.fault == Fault.INPUT}
    assert {code: (sentence, advice) for code, sentence, advice in rows} == {
        code: (entry.sentence, entry.advice) for code, entry in videos.items()
    }


@pytest.mark.parametrize("text", FAILURE_CODES)
def test_every_code_has_advice_and_the_exit_code_of_its_fault(text: str) -> None:
    """65 for the video and for no other fault."""
    entry = FAILURE_CODES[text]
    assert entry.sentence.endswith(".")
    assert entry.advise("j-1").endswith(".")
    assert "{" not in entry.advise("j-1")
    assert (entry.exit_code == 65) == (entry.fault == Fault.INPUT)
