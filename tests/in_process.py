"""Commands that run in the process of the tests: what they say and how they end, without the imports of a new process."""

import io
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple

from embodichain import cli


class Said(NamedTuple):
    """What a command printed, what it complained about, and its exit code."""

    code: object
    out: str
    err: str


def embodichain(*arguments: str) -> Said:
    """Runs `embodichain` with these arguments."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code: object = cli.main([*arguments])
        except SystemExit as ended:
            code = ended.code
    return Said(code, out.getvalue(), err.getvalue())
