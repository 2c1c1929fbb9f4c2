"""Writes the chart's README.md: every value with its meaning, kind and default. `make chart`.

meaning   the comment above the key in values.yaml; for a key that several programs have, the one of `jobs`
kind      values.schema.json
default   values.yaml
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import yaml

ROOT = Path(__file__).parent.parent
CHART = ROOT / "deploy" / "helm" / "crease"
PAGE = CHART / "README.md"

HEAD = """\
# The chart of Crease

Written by `make chart` from `values.yaml` and `values.schema.json`. A test compares it with them. Helm checks the
values against the schema and rejects an unknown key.

    helm install crease oci://REGISTRY/crease --version VERSION --namespace NAMESPACE --values my-values.yaml

Required are `database.secret`, `s3.bucket`, `s3.region` and `issuers`; for a trial `dev.embedded=true` alone. The
sizes in `ci/` of the source are examples. `docs/operating.md` describes installation, upgrades, alerts and repairs.

"""


@dataclass(frozen=True)
class Value:
    """One key of values.yaml, with its dots."""

    path: tuple[str, ...]
    meaning: str
    default: str

    @property
    def key(self) -> str:
        return ".".join(self.path)


def page() -> str:
    """The whole of the chart's README.md."""
    lines = ["| value | meaning | kind | default |", "|---|---|---|---|"]
    for value in values():
        default = f"`{value.default}`" if value.default else ""
        cells = (f"`{value.key}`", value.meaning, kind(schema_of(value.path)), default)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return HEAD + "\n".join(lines) + "\n"


def values() -> list[Value]:
    """Every key of values.yaml in its order; a group only where it has a comment of its own."""
    text = (CHART / "values.yaml").read_text()
    found = list(_values(cast(yaml.MappingNode, yaml.compose(text)), text.splitlines(), ()))
    commented = {value.path for value in found if value.meaning}
    # A key that several programs have is described once.
    return [
        replace(value, meaning=f"As `jobs.{value.path[1]}`.")
        if not value.meaning and len(value.path) == 2 and ("jobs", value.path[1]) in commented
        else value
        for value in found
    ]


def _values(node: yaml.MappingNode, lines: list[str], path: tuple[str, ...]) -> Iterator[Value]:
    for key, value in node.value:
        here, meaning = (*path, key.value), _comment(lines, key.start_mark.line)
        is_group = isinstance(value, yaml.MappingNode) and not value.flow_style and "properties" in schema_of(here)
        if value.start_mark.line < key.start_mark.line:
            # An alias stands for the node at its anchor.
            yield Value(here, f"As `{lines[value.start_mark.line].partition(':')[0]}`, each key of it.", "")
        elif is_group:
            if meaning:
                yield Value(here, meaning, "")
            yield from _values(value, lines, here)
        else:
            yield Value(here, meaning, _source(value))


def _comment(lines: list[str], number: int) -> str:
    """The comment directly above a line, on one line."""
    found: list[str] = []
    while number > 0 and lines[number - 1].strip().startswith("#"):
        number -= 1
        found.insert(0, lines[number].strip().removeprefix("#").strip())
    return " ".join(found)


def _source(node: yaml.Node) -> str:
    """A value on one line of YAML."""
    return yaml.serialize(_flowing(node), width=10_000).strip().removesuffix("\n...")


def _flowing(node: yaml.Node) -> yaml.Node:
    if isinstance(node, yaml.CollectionNode):
        node.flow_style = True
        for child in node.value:
            for one in child if isinstance(child, tuple) else (child,):
                _flowing(one)
    return node


def schema_of(path: tuple[str, ...]) -> Mapping[str, Any]:
    """The schema of a value."""
    schema = _schema()
    found = schema
    for name in path:
        found = _resolved(schema, found["properties"][name])
    return found


@cache
def _schema() -> Mapping[str, Any]:
    schema: Mapping[str, Any] = json.loads((CHART / "values.schema.json").read_text())
    return schema


def _resolved(schema: Mapping[str, Any], part: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in part:
        return part
    named: Mapping[str, Any] = schema["$defs"][part["$ref"].rpartition("/")[2]]
    return named


def kind(schema: Mapping[str, Any]) -> str:
    """What a value may be."""
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"] if one)
    if "anyOf" in schema or "description" in schema:
        return "Kubernetes quantity"
    words = {"string": "text", "integer": "number", "boolean": "`true`, `false`", "array": "list"}
    kinds = schema.get("type", "")
    return ", ".join(words.get(one, one) for one in ([kinds] if isinstance(kinds, str) else kinds))


if __name__ == "__main__":
    PAGE.write_text(page())
