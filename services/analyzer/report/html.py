"""Writes one self-contained HTML file from a template, under a content security policy with its own hashes.

The policy allows the page's own style and script, images inside it, and a film beside it on disk; it names no host.
Every value is autoescaped: titles and names are untrusted input.
"""

import base64
import hashlib
import json
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"


def write_page(template: str, script: str | None = None, **values: object) -> str:
    """The page of a template that extends `page.html`. script: name of its script file, if it has one."""
    style = _own("page.css")
    program = _own(script) if script else None
    policy = f"default-src 'none'; style-src {_hash(style)}; img-src data:; base-uri 'none'; form-action 'none'"
    if program:
        policy += f"; script-src {_hash(program)}; media-src file:"
    page = _environment().get_template(template)
    return page.render(style=style, script=program, policy=policy, **values)


def data_block(value: object) -> Markup:
    """JSON for the inside of a script element, with every character escaped that could end the element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - escaped above


@cache
def _own(name: str) -> Markup:
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))  # noqa: S704 - our own file, and the policy has its hash


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _environment() -> Environment:
    loader = FileSystemLoader(TEMPLATES)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
