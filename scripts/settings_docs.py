"""Writes docs/settings.md: every variable of the environment that a program reads. `make settings`.

name, default, unit   the classes of settings
meaning               the comment above the field, in the class or in the nearest one that it extends
chart value           the templates of the chart: which key of values.yaml a variable is made of
"""

import ast
import enum
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from services.analyzer.settings import Settings as AnalyzerSettings
from services.analyzer.settings import WorkerSettings
from services.controller.settings import KubernetesSettings, LocalSettings
from services.controller.settings import Settings as ControllerSettings
from services.jobs.settings import DatabaseSettings, JobsSettings, RelaySettings
from services.settings import FromJson, ServerSettings, Settings
from services.upload.settings import UploadSettings
from services.web.settings import WebSettings

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "settings.md"
TEMPLATES = ROOT / "deploy" / "helm" / "crease" / "templates"
MANIFEST = ROOT / "services" / "controller" / "kubernetes" / "job_manifest.py"

HEAD = """\
# Settings

Written by `make settings` from the classes of settings, the comments in them and the chart's templates. A test
compares it with them.

A program reads its settings from the environment, once, at its start. A missing or wrong one ends the program with
exit code 78 and one line that names it. A setting without a default is required.

The last column names the key of `values.yaml` that sets the variable. *chart*: the chart sets it from the release
itself. *controller*: the controller sets it for the analyzer. `PROGRAM.extraEnv` and `analyzer.environment` take any
variable that has no key of its own.
"""

PROGRAMS: dict[str, type[Settings]] = {
    "jobs": JobsSettings,
    "jobs migrate": DatabaseSettings,
    "jobs relay": RelaySettings,
    "upload": UploadSettings,
    "web": WebSettings,
    "controller (local)": LocalSettings,
    "controller (kubernetes)": KubernetesSettings,
    "analyzer (one file)": AnalyzerSettings,
    "analyzer (pod)": WorkerSettings,
}
SECTIONS: tuple[tuple[str, type[Settings]], ...] = (
    ("Every server", ServerSettings),
    ("Jobs", JobsSettings),
    ("Jobs relay", RelaySettings),
    ("Upload", UploadSettings),
    ("Web", WebSettings),
    ("Controller", ControllerSettings),
    ("Controller, analyses as processes of a laptop", LocalSettings),
    ("Controller, analyses in Kubernetes", KubernetesSettings),
    ("Analyzer, one file or a pod", AnalyzerSettings),
    ("Analyzer, a pod", WorkerSettings),
)
# Where a chart's component gets variables that have no key of their own.
COMPONENTS = {
    "jobs": "jobs",
    "jobs migrate": "jobs",
    "jobs relay": "relay",
    "upload": "upload",
    "web": "web",
    "controller (kubernetes)": "controller",
}
# Variables that a program reads by other means than a class of settings: name, meaning, default, program.
OTHERS: tuple[tuple[str, str, str, str], ...] = (
    ("CREASE_JOBS_ENDPOINT", "host:port of jobs. Unset: the services of `crease up`.", "", "crease"),
    ("CREASE_UPLOAD_ENDPOINT", "host:port of upload.", "", "crease"),
    ("CREASE_TOKEN_FILE", "File with the person's token.", "", "crease"),
    ("CREASE_DEBUG", "1: print the traceback of an unexpected error.", "", "crease"),
    ("CREASE_MINISTACK_PYTHON", "Python that has the laptop's S3 server.", "`.venv-ministack/bin/python`", "crease up"),
    ("BIND_HOST", "Set by `crease up`. 127.0.0.1: the S3 server takes no other Host than this and localhost.", "",
     "crease up, trial"),
    ("PAGE_ORIGIN", "Set by `crease up`: the page whose browsers may call the S3 server.", "", "crease up"),
    ("MEDIAPIPE_POSE_MODEL_PATH", "Pose model of the analyses.", "the one that `make setup` built", "crease up"),
    ("XDG_STATE_HOME", "Folder in which the state folder lies.", "`~/.local/state`", "crease"),
    ("USER", "Name in the reason that `crease drain` records.", "`an unknown user`", "crease"),
    ("DISPLAY", "Set: a report is opened in the browser.", "", "crease"),
    ("WAYLAND_DISPLAY", "Set: a report is opened in the browser.", "", "crease"),
    ("PATH", "Where programs are found; given to the analyzers of a laptop.", "", "crease up, controller (local)"),
    ("PYTHONPATH", "Given to the S3 server of a trial.", "", "trial"),
    ("CREASE_TRIAL_PASSWORD", "Password of the PostgreSQL of a trial.", "", "trial"),
    ("S3_COACH_VIDEOS_BUCKET", "Bucket that a trial makes.", "", "trial"),
    ("AWS_ACCESS_KEY_ID", "Access key, as every AWS client reads it.", "the pod's role", "upload, jobs relay, trial"),
    ("AWS_SECRET_ACCESS_KEY", "Its secret.", "the pod's role", "upload, jobs relay, trial"),
    ("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "PEM file of the authorities that signed the servers' certificates.",
     "gRPC's own", "every program"),
    ("CREASE_CRASH_AT", "For tests only: the failpoint at which the controller kills itself.", "", "controller"),
)  # fmt: skip

Row = tuple[str, ...]


@dataclass(frozen=True)
class Variable:
    """One setting as one program has it. `default` is empty where there is none."""

    name: str
    meaning: str
    unit: str
    default: str


def page() -> str:
    """The whole of docs/settings.md."""
    parts = [HEAD]
    printed: set[Variable] = set()
    for title, kind in SECTIONS:
        new = [variable for variable in variables(kind) if variable not in printed]
        printed |= {*new}
        rows = [_row(variable) for variable in new]
        parts += [f"## {title}\n", _table(("variable", "meaning", "unit", "default", "program", "chart value"), rows)]
    others = [(f"`{name}`", meaning, default or "-", program) for name, meaning, default, program in OTHERS]
    parts += ["## Read without a class of settings\n", _table(("variable", "meaning", "default", "program"), others)]
    return "\n".join(parts)


def variables(kind: type[Settings]) -> list[Variable]:
    """The settings of a class, its own and those that it inherits."""
    return [
        Variable(variable_of(name, field), meaning(kind, name), unit(name, field), default(field))
        for name, field in kind.model_fields.items()
    ]


def variable_of(name: str, field: FieldInfo) -> str:
    """The name in the environment."""
    return str(field.validation_alias or f"CREASE_{name.upper()}")


def meaning(kind: type[Settings], name: str) -> str:
    """The comment above a field; empty where no class has one."""
    found = (_comments(one).get(name, "") for one in kind.__mro__ if issubclass(one, Settings))
    return next(filter(None, found), "")


@cache
def _comments(kind: type[Settings]) -> dict[str, str]:
    """The comment directly above each field of a class, on one line."""
    lines = textwrap.dedent(inspect.getsource(kind)).splitlines()
    [node] = ast.parse("\n".join(lines)).body
    found = {}
    for field in ast.iter_child_nodes(node):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            above = reversed(lines[: field.lineno - 1])
            comment = [*takewhile(lambda line: line.startswith("#"), (line.strip() for line in above))]
            found[field.target.id] = " ".join(line.removeprefix("#").strip() for line in reversed(comment))
    return found


# The end of a field's name that states its unit.
UNITS = {
    "seconds": "seconds",
    "bytes": "bytes",
    "content_length": "bytes",
    "pixels": "pixels",
    "frames": "frames",
    "share": "0 to 1",
    "endpoint": "address",
    "listen": "address",
}


def unit(name: str, field: FieldInfo) -> str:
    """The unit of a number, else the form of the value."""
    for end, word in UNITS.items():
        if name.endswith(end):
            return word
    if any(data is FromJson for data in field.metadata):
        return "JSON"
    checks = {getattr(getattr(data, "func", None), "__name__", "") for data in field.metadata}
    if checks & {"_bytes", "_cores"} or "_cores" in str(field.annotation):
        return "Kubernetes quantity"
    return _form(field.annotation)


def _form(annotation: Any) -> str:
    kinds = {kind for kind in get_args(annotation) if kind is not type(None)} or {annotation}
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, enum.StrEnum):
        return ", ".join(f"`{value}`" for value in annotation)
    for kind, word in (
        (bool, "`true`, `false`"),
        (Path, "path"),
        (SecretStr, "secret"),
        (int, "number"),
        (float, "number"),
    ):
        if kind in kinds:
            return word
    return "text"


def default(field: FieldInfo) -> str:
    """The default, as the environment would have it; empty where the setting is required."""
    if field.default_factory is not None:
        name = getattr(field.default_factory, "__name__", "")
        return "`{}`" if name == "dict" else "the host's name"
    value = field.default
    if value is PydanticUndefined:
        return ""
    if value is None or value in ("", ()):
        return "empty"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{' '.join('python' if one == sys.executable else str(one) for one in value)}`"
    if isinstance(value, Path):
        return f"`{value.relative_to(ROOT) if value.is_relative_to(ROOT) else value}`"
    return f"`{value:.10g}`" if isinstance(value, float) else f"`{value}`"


def _row(variable: Variable) -> Row:
    programs = [program for program, kind in PROGRAMS.items() if variable in variables(kind)]
    values = list(dict.fromkeys(chart_value(variable.name, program) for program in programs))
    return (
        f"`{variable.name}`",
        variable.meaning,
        variable.unit,
        variable.default or "*required*",
        ", ".join(programs),
        ", ".join(value for value in values if value != "-") or "-",
    )


def chart_value(name: str, program: str) -> str:
    """The keys of values.yaml that a variable of a program is made of."""
    if program.startswith("analyzer"):
        return "*controller*" if f'"{name}"' in MANIFEST.read_text() else "`analyzer.environment`"
    component = COMPONENTS.get(program)
    if component is None:
        return "-"
    expression = _expressions(component).get(name)
    if expression is None:
        return f"`{component}.extraEnv`" if program != "jobs migrate" else "-"
    return ", ".join(f"`{key}`" for key in _keys(expression)) or "*chart*"


@cache
def _expressions(component: str) -> dict[str, str]:
    """What a component's template makes each variable of, as the template writes it."""
    shared = (TEMPLATES / "_helpers.tpl").read_text()
    text = (TEMPLATES / f"{component}.yaml").read_text() + _block(shared, "crease.program")
    if "crease.databaseEnv" in text:
        text += _block(shared, "crease.databaseEnv")
    found: dict[str, str] = {}
    name, conditions = "", [""]
    for line in text.splitlines():
        if item := re.match(r"\s*- (\{?)name: (\w+)", line):
            is_whole, name = bool(item[1]), item[2]
            if f'ne $program "{component}"' not in "".join(conditions):
                found[name] = "".join(conditions) + line
            name = "" if is_whole else name
        elif re.match(r"\s*(- |\{\{-)", line):
            name = ""
        if name in found:
            found[name] += line
        for opened, _ in re.findall(r"\{\{-? *(?:((?:if|with|range|define) [^}]*)|(end)\b)", line):
            conditions = [*conditions, opened] if opened else conditions[:-1]
    return found


def _block(text: str, name: str) -> str:
    """The body of `define "name"`."""
    return text.partition(f'define "{name}"')[2].partition('{{- define "')[0]


def _keys(expression: str) -> Sequence[str]:
    """The keys of values.yaml in an expression and in the definitions that it includes."""
    shared = (TEMPLATES / "_helpers.tpl").read_text()
    found = re.findall(r"\.Values\.([\w.]+)", expression)
    for included in re.findall(r'include "([\w.]+)"', expression):
        if included not in ("crease.name", "crease.endpoint"):
            found += _keys(_block(shared, included))
    return list(dict.fromkeys(key for key in found if key != "dev.embedded"))


def _table(head: Row, rows: Sequence[Row]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def read_directly() -> Iterator[tuple[str, Path]]:
    """Every variable that a module reads from os.environ by a literal name, with the module."""
    for module in sorted((ROOT / "services").rglob("*.py")):
        for node in ast.walk(ast.parse(module.read_text())):
            name = _name_read(node)
            if name is not None:
                yield name, module


def _name_read(node: ast.AST) -> str | None:
    match node:
        case ast.Call(
            func=ast.Attribute(value=ast.Attribute(attr="environ"), attr="get"), args=[ast.Constant(value), *_]
        ):
            return str(value)
        case ast.Subscript(value=ast.Attribute(attr="environ"), slice=ast.Constant(value), ctx=ast.Load()):
            return str(value)
        case _:
            return None


if __name__ == "__main__":
    PAGE.write_text(page())
