"""What stops a command: one sentence for the user, one exit code for scripts. Nothing else ever reaches the screen."""

from services import exit_codes

USAGE = exit_codes.USAGE
BAD_VIDEO = exit_codes.BAD_INPUT
AWAY = exit_codes.UNAVAILABLE
FAILED = exit_codes.INTERNAL


class Trouble(Exception):
    """`sentence` says what is wrong and, where the user can do something about it, what."""

    def __init__(self, sentence: str, exit_code: int = FAILED, *, is_refusal: bool = False) -> None:
        """`is_refusal`: a service answered that what was asked for cannot be, now or later."""
        super().__init__(sentence)
        self.sentence = sentence
        self.exit_code = exit_code
        self.is_refusal = is_refusal
