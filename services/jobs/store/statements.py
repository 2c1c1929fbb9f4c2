"""Reads the SQL files beside this module. A statement that is longer than a screen stands in a file of its own."""

from pathlib import Path


def load(name: str, **parts: str) -> str:
    """The statement in `name`.sql, without its comments, with `{parts}` put in."""
    text = Path(__file__).with_name(f"{name}.sql").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("--")]
    return "\n".join(lines).format(**parts)
