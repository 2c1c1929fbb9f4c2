"""CommandError: one sentence for the user and one exit code for scripts."""

from services.rules.exit_codes import BAD_INPUT, INTERNAL, UNAVAILABLE, USAGE

__all__ = ["BAD_INPUT", "INTERNAL", "INTERRUPTED", "UNAVAILABLE", "UNHEALTHY", "USAGE", "CommandError"]

# `doctor` found a fault, or `admin orphans` found an orphan.
UNHEALTHY = 1
# 128 + SIGINT.
INTERRUPTED = 130


class CommandError(Exception):
    """Stops a command. `sentence` says what failed, why, and what the user can do."""

    def __init__(self, sentence: str, exit_code: int = INTERNAL, *, is_refusal: bool = False) -> None:
        """`is_refusal`: a service rejected the request, and rejects the same request again."""
        super().__init__(sentence)
        self.sentence = sentence
        self.exit_code = exit_code
        self.is_refusal = is_refusal
