"""Fresh interpreters that run one function each and import nothing of the program that starts them.

`multiprocessing` imports the caller's main module again in every process that it spawns. A script without a guard around its last
lines then starts itself again, and a program on standard input cannot be found at all. What is started here takes the caller's
search path and the function to run, and nothing else, so it can be started from a script, a notebook or a pipe alike.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import multiprocessing
import operator
import pickle
import subprocess
import sys
import weakref
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TypeVar, cast

from embodichain.errors import ConfigError, EmbodiChainError

__all__ = [
    "Child",
    "ProcessDied",
    "call",
    "run",
]

Result = TypeVar("Result")

_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from embodichain.processes import run; run(int(sys.argv[2]))"


class ProcessDied(EmbodiChainError):
    """A process ended before it had answered; the message says how."""


class Child:
    """A process that runs `function(pipe, *arguments)`: `pipe` is its end of a connection whose other end is `self.pipe`.

    The function must be importable by its module and name, and so must the classes of its arguments; given as "package.module:name"
    it is imported in that process alone. The process is killed when
    this object is forgotten or the program ends; its standard input is empty. One thread at a time may use a Child.

    Raises ConfigError when the function lives in the main module, which is not imported there.
    """

    pipe: Connection

    def __init__(self, function: Callable[..., None] | str, *arguments: object, name: str = "") -> None:
        if not isinstance(function, str):
            function = f"{function.__module__}:{function.__qualname__}"
        module, _, called = function.partition(":")
        if module == "__main__":
            raise ConfigError(f"{called} lives in the program that was started: move it into a module")
        self.name = name or called
        self.pipe, theirs = multiprocessing.Pipe()
        with theirs:
            command = [sys.executable, "-c", _START, json.dumps(sys.path), str(theirs.fileno())]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),))
        self._forgotten = weakref.finalize(self, _kill, self._process)
        packed = (pickle.dumps((module, called)), pickle.dumps(arguments))
        with contextlib.suppress(BrokenPipeError):  # it ended at once: its exit code tells
            for part in packed:
                self.pipe.send_bytes(part)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def exitcode(self) -> int | None:
        """What the process ended with, the negative number of a signal that killed it, or None while it lives."""
        return self._process.poll()

    def is_alive(self) -> bool:
        """Whether the process has not ended."""
        return self.exitcode is None

    def join(self, timeout_s: float | None = None) -> int | None:
        """Waits for the end of the process, `timeout_s` at most; its exit code, or None when it lives on."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def terminate(self) -> None:
        """Sends SIGTERM; nothing when the process is gone."""
        self._process.terminate()

    def kill(self) -> None:
        """Sends SIGKILL; nothing when the process is gone."""
        self._process.kill()


def call(function: Callable[..., Result], *arguments: object) -> Result:
    """What `function(*arguments)` returns in a process of its own; blocks until it does.

    Raises what the function raises, and ProcessDied when the process ends without an answer.
    """
    child = Child(_answer, function, arguments)
    try:
        error, result = child.pipe.recv()
    except EOFError:
        raise ProcessDied(f"the process of {function.__qualname__} ended with {child.join()} and gave no answer") from None
    finally:
        child.pipe.close()
        child.join()
    if error is not None:
        raise error
    return cast(Result, result)


def _answer(pipe: Connection, function: Callable[..., object], arguments: tuple[object, ...]) -> None:
    try:
        answer = (None, function(*arguments))
    except Exception as error:  # the caller is told, and decides
        answer = (error, None)
    pipe.send(answer)


def run(descriptor: int) -> None:
    """The life of a child: takes what it is to do from the pipe behind the file descriptor, and does it."""
    pipe = Connection(descriptor)
    packed, arguments = pipe.recv_bytes(), pipe.recv_bytes()  # both before the import, which may take seconds: the caller waits
    module, name = pickle.loads(packed)
    function = operator.attrgetter(name)(importlib.import_module(module))
    function(pipe, *pickle.loads(arguments))


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()
