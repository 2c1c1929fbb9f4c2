"""Every number has all its parts, and only the registry names it."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import accuracy, accuracy_motions
from services.analyzer.biomechanics.measurement import measure
from services.analyzer.biomechanics.model import MetricSpec
from services.analyzer.biomechanics.registry import METRICS, SPECS, guidance
from services.naming import DISCIPLINES
from services.rules.numbers import NUMBERS, Better, Unit
from testing.data.motions import KNOWN_ANSWERS
from testing.data.videos import ROOT

ANALYZER = ROOT / "services" / "analyzer"
REGISTRY = ANALYZER / "biomechanics" / "registry.py"
each_number = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def literals(path: Path) -> Iterator[str]:
    """The string literals of a Python module, docstrings included; the text of any other file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield text
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_only_the_registry_names_a_number() -> None:
    """No other module, template or script of the analyzer has a number's name in a string."""
    files = [path for pattern in ("*.py", "*.html", "*.js") for path in ANALYZER.rglob(pattern) if path != REGISTRY]
    assert len(files) > 50
    named = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in files
        for literal in literals(path)
        for name in SPECS
        if name in literal
    ]
    assert named == []


@each_number
def test_a_number_has_its_known_answer(spec: MetricSpec) -> None:
    """Its motion in testing/data/motions.py gives its answer; for a number that no film gives, its reason."""
    known = KNOWN_ANSWERS[spec.name]
    metric = measure(known.poses(), [], known.discipline).everything[spec.name]
    assert metric.absent_reason == spec.absent_reason
    if spec.absent_reason is None:
        assert metric.value == pytest.approx(known.answer, rel=0.05, abs=1e-6)


@each_number
def test_a_number_has_its_docs_and_its_accuracy(spec: MetricSpec) -> None:
    """docs/metrics.md defines it and has a row with its measured error, which `make accuracy` measures."""
    page = accuracy.DOCS.read_text(encoding="utf-8")
    start, end = accuracy.table(page)
    assert f"**`{spec.name}`**" in page[:start]
    row = {
        "front_knee_brace_score": "front knee, smallest",
        "front_knee_at_contact": "at contact and release",
        "front_knee_at_release": "at contact and release",
        "hip_shoulder_separation_timing": "timings given",
    }.get(spec.name, spec.name)
    assert row in page[start:end]
    rows = Path(accuracy_motions.__file__).read_text(encoding="utf-8")
    constant = next(name for name, value in vars(accuracy_motions).items() if value is spec)
    assert rows.count(constant) > 1, "imported, and used in a row"


@each_number
def test_a_number_has_its_words(spec: MetricSpec) -> None:
    """A label, a meaning, a unit and a caption for each picture."""
    assert spec.label
    assert spec.meaning
    assert spec.unit in Unit
    assert spec.disciplines
    assert spec.annotation is None or spec.annotation.caption.count("{}") == 1


@pytest.mark.parametrize("spec", METRICS, ids=lambda spec: spec.name)
@pytest.mark.parametrize("discipline", DISCIPLINES)
def test_a_scored_number_has_its_scale_and_its_fault(spec: MetricSpec, discipline: str) -> None:
    """In each discipline that measures it; a number that no film gives has neither."""
    guide = guidance(discipline)
    mark = guide.mark(spec.name)
    assert (spec.name in guide.scales) == (mark is not None) == (spec.absent_reason is None)
    assert mark is None or mark.at_least == (spec.better is Better.HIGHER)


@each_number
def test_an_annotated_number_has_its_joints(spec: MetricSpec) -> None:
    """Each reading carries the landmarks that it was computed from, around its moments."""
    known = KNOWN_ANSWERS[spec.name]
    for trace in measure(known.poses(), [], known.discipline).traces:
        assert (spec.name in trace.joints) == (spec.absent_reason is None)
        assert all(len(entry.names) > 0 for entry in trace.joints.get(spec.name, ()))


def test_the_schema_has_every_scored_number() -> None:
    """docs/results.schema.json lists the keys of `metrics` in the order of the registry."""
    schema = json.loads((ROOT / "docs" / "results.schema.json").read_text(encoding="utf-8"))
    metrics = schema["properties"]["metrics"]
    assert metrics["required"] == list(metrics["properties"]) == [spec.name for spec in METRICS]


def test_the_words_are_of_the_same_numbers() -> None:
    """services/rules/numbers.py has no word for a number that was removed, and no two numbers share a name."""
    assert set(NUMBERS) == set(SPECS)
    assert len({number.label for number in NUMBERS.values()}) == len(NUMBERS)


@each_number
def test_a_number_has_one_name_in_plots_pictures_and_captions(spec: MetricSpec) -> None:
    """Each text about a number begins with its label."""
    texts = [
        *([spec.curve.title] if spec.curve else []),
        *([spec.annotation.caption] if spec.annotation else []),
        *([spec.worst_moment.caption] if spec.worst_moment else []),
    ]
    assert [text for text in texts if not text.lower().startswith(spec.label.lower())] == []


def test_every_known_answer_is_of_a_number() -> None:
    """No motion is left over from a number that was removed."""
    assert set(KNOWN_ANSWERS) == set(SPECS)
