"""Commands that run in the process of the tests, without the imports of a new one, and runs that need one; what they say."""

import io
import json
import subprocess
import sys
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


def ended_well(*arguments: str) -> dict:
    """The summary of a command that ends without a fault, as it prints it for programs."""
    said = embodichain(*arguments, "--json")
    assert said.code == 0, said.err
    return json.loads(said.out.splitlines()[-1])


def ran(*arguments: str) -> dict:
    """The summary of a run in a process of its own."""
    command = [sys.executable, "-m", "embodichain.cli", "run", *arguments, "--json"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])
