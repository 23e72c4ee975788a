"""Fresh interpreters that run one function each and import nothing of the program that starts them; guests: programs of others; and
signals that reach the process they are meant for, and no other.

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
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, NamedTuple, TypeVar, cast

from embodichain.errors import ConfigError, EmbodiChainError

__all__ = [
    "Child",
    "Guest",
    "Identity",
    "ProcessDied",
    "call",
    "run",
    "send_signal",
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


class Identity(NamedTuple):
    """Which process it is. A number alone does not say that: the system gives it to another process when the first has ended."""

    pid: int
    """Process id, in the namespace of process ids `namespace`."""
    start: int
    """When it started [clock ticks since boot]; -1 when /proc does not tell, and then it is never found."""
    namespace: int
    """Inode of its namespace of process ids; in another one the same number means another process."""

    @classmethod
    def own(cls) -> Identity:
        """That of the calling process."""
        return cls(pid=os.getpid(), start=_start("self"), namespace=_namespace())

    def send_signal(self, number: int) -> bool:
        """Sends a signal to this process, which must be of this machine; False when it has ended, or cannot be reached from here.

        Raises PermissionError when it belongs to another user.
        """
        if not self.namespace == _namespace() >= 0:
            return False
        return send_signal(self.pid, number, is_meant=lambda: _start(self.pid) == self.start >= 0)


def send_signal(pid: int, number: int, *, is_meant: Callable[[], bool]) -> bool:
    """Sends a signal to the process `pid` if that is the one which is meant; False when it is not, or has ended.

    The process is taken hold of first. What `is_meant` then finds out about its number is true of the process that is signalled,
    though it may end meanwhile and its number be given to another. Raises PermissionError when it belongs to another user.
    """
    try:
        process = os.pidfd_open(pid)
    except (OSError, ValueError):  # there is no such process, or the system (before Linux 5.3) cannot take hold of one
        return False
    try:
        if not is_meant():
            return False
        signal.pidfd_send_signal(process, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(process)
    return True


def _start(pid: int | str) -> int:
    """When a process started [clock ticks since boot], from /proc; -1 for none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return -1
    return int(text[text.rindex(b")") + 2 :].split()[19])  # its name, in parentheses, may hold blanks and parentheses itself


def _namespace() -> int:
    """Inode of this process's namespace of process ids; -1 when /proc does not tell."""
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return -1


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()


_OURS = ("PYTHONPATH", "PYTHONHOME")
"""Environment variables that say where our packages are, which are not a guest's."""
_MOST_WORDS = 1 << 20
"""Bytes of a guest's words that may lie on the disk when `Guest.forget` is asked."""


class Guest:
    """A program in somebody else's interpreter, at the other end of a pair of sockets whose number is its last argument.

    It runs in a session of its own, so no interrupt of the terminal reaches it, and it is killed, with all of its session, when
    this object is forgotten or the program ends. Nothing is ever written to its standard input, which ends when this process does,
    however that comes about: a guest that minds it leaves nothing behind. One thread at a time may use a Guest.

    Args:
        command: Program and arguments.
        environment: Variables beside ours; those that name our packages are left out.

    Raises OSError when there is no such program.
    """

    wire: socket.socket
    """Our end of the conversation."""

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str]) -> None:
        self.wire, theirs = socket.socketpair()
        self._log = tempfile.TemporaryFile("a+b")  # noqa: SIM115 closed when the guest is seen off
        inherited = {name: value for name, value in os.environ.items() if name not in _OURS}
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [*command, str(theirs.fileno())],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=self._log,
                    pass_fds=(theirs.fileno(),),
                    env={**inherited, **environment},
                    start_new_session=True,
                )
        except OSError:
            self.wire.close()
            self._log.close()
            raise
        self._forgotten = weakref.finalize(self, _see_off, self._process, self.wire, self._log)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def join(self, timeout_s: float) -> int | None:
        """Waits `timeout_s` [s] at most for its end; the exit code, the negative number of a signal, or None when it lives on."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        return self._process.poll()

    def last_words(self, most: int = 400) -> str:
        """The end of what it said on standard error, as one line of at most so many characters; empty once it was seen off."""
        if self._log.closed:
            return ""
        size = os.fstat(self._log.fileno()).st_size
        begin = max(0, size - 4 * most)  # bytes of the longest characters
        return " ".join(os.pread(self._log.fileno(), size - begin, begin).decode(errors="replace").split())[-most:]

    def forget(self) -> None:
        """Drops what it said when that takes room: ask now and then, for some say the same with every step."""
        if not self._log.closed and os.fstat(self._log.fileno()).st_size > _MOST_WORDS:
            self._log.truncate(0)

    def end(self, grace_s: float = 0.0) -> None:
        """Closes the wire, and kills what has not ended by itself within `grace_s` [s]; safe to call twice."""
        self.wire.close()
        if grace_s > 0.0:
            self.join(grace_s)
        self._forgotten()


def _see_off(process: subprocess.Popen[bytes], wire: socket.socket, log: IO[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # its own children too, whether or not it has ended
    process.wait()
    if process.stdin is not None:
        process.stdin.close()
    wire.close()
    log.close()
