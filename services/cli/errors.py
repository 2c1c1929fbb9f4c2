"""What stops a command: one sentence for the user, one exit code for scripts. Nothing else ever reaches the screen."""

USAGE = 2
# The numbers of sysexits.h, as the analyzer uses them.
BAD_VIDEO = 65
AWAY = 69
FAILED = 70


class Trouble(Exception):
    """`sentence` says what is wrong and, where the user can do something about it, what."""

    def __init__(self, sentence: str, exit_code: int = FAILED, *, is_refusal: bool = False) -> None:
        """`is_refusal`: a service answered that what was asked for cannot be, now or later."""
        super().__init__(sentence)
        self.sentence = sentence
        self.exit_code = exit_code
        self.is_refusal = is_refusal
