"""Makes text of people and of files safe to print: no control character moves the cursor or hides what follows."""

import codecs
import re

# Control characters except the newline, characters that change the direction of writing, and bytes of a file's name
# that are not UTF-8.
UNPRINTABLE = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


# For streams that cannot write a sign, such as ASCII: `open(..., errors=PLAIN_ERRORS)`.
PLAIN_ERRORS = "crease-plain"
PLAIN = str.maketrans({
    "°": " deg", "±": "+-", "−": "-", "–": "-", "—": "-", "…": "...", "“": '"', "”": '"', "‘": "'", "’": "'",
    "·": "-", "×": "x", "→": "->", "─": "-", "▶": ">", "│": "|", "\N{NO-BREAK SPACE}": " ",
})  # fmt: skip


def replace_unprintable(text: str) -> str:
    """The same text, with a replacement for each unprintable character."""
    return UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def one_line(text: str) -> str:
    """The same without line breaks, as for the name of a file."""
    return replace_unprintable(text).replace("\n", "\N{REPLACEMENT CHARACTER}")


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Words for signs that an encoding lacks, `?` for the rest."""
    assert isinstance(error, UnicodeEncodeError)  # noqa: S101 - the handler is for streams that are written
    lost = error.object[error.start : error.end].translate(PLAIN)
    return lost.encode(error.encoding, "replace").decode(error.encoding), error.end


codecs.register_error(PLAIN_ERRORS, _plain)
