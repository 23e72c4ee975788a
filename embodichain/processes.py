"""Processes: fresh interpreters that run one function each, guests that run foreign programs, and signals to the right process.

A fresh interpreter imports nothing of the calling program.

`multiprocessing` imports the caller's main module again in every process that it spawns. A script without a guard around its last
lines then starts itself again, and a program on standard input cannot be found at all. A process started here takes only the
caller's search path and the function to run, so it can be started from a script, a notebook or a pipe.
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
import time
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
    "end_group",
    "exit_code",
    "run",
    "send_signal",
]

Result = TypeVar("Result")

_LOOK_S = 0.005
"""Interval at which the end of a program is looked for [s]."""
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from embodichain.processes import run; run(int(sys.argv[2]))"


class ProcessDied(EmbodiChainError):
    """A process ended before it had answered; the message says how."""


class Child:
    """A process that runs `function(pipe, *arguments)`: `pipe` is its end of a connection, and `self.pipe` the other end.

    The function must be importable by its module and name, and so must the classes of its arguments; given as "package.module:name"
    it is imported only in that process. The process is killed when this object is garbage-collected or the program ends. Its
    standard input is empty. Used by one thread at a time. Raises ConfigError when the function lives in the main module, which is
    not imported there.
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
        with contextlib.suppress(BrokenPipeError):  # it ended at once; its exit code says why
            for part in packed:
                self.pipe.send_bytes(part)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def exitcode(self) -> int | None:
        """The exit code of the process, the negative number of a signal that killed it, or None while it lives."""
        return self._process.poll()

    def is_alive(self) -> bool:
        """Whether the process has not ended."""
        return self.exitcode is None

    def join(self, timeout_s: float | None = None) -> int | None:
        """Waits for the end of the process, `timeout_s` [s] at most; returns its exit code, or None when it is still alive."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def terminate(self) -> None:
        """Sends SIGTERM; does nothing when the process has ended."""
        self._process.terminate()

    def kill(self) -> None:
        """Sends SIGKILL; does nothing when the process has ended."""
        self._process.kill()


def call(function: Callable[..., Result], *arguments: object) -> Result:
    """Returns the result of `function(*arguments)` in a process of its own; blocks until it is there.

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
    except Exception as error:  # sent to the caller, who decides
        answer = (error, None)
    pipe.send(answer)


def run(descriptor: int) -> None:
    """The main function of a child: receives its function from the pipe behind the file descriptor, and calls it."""
    pipe = Connection(descriptor)
    packed, arguments = pipe.recv_bytes(), pipe.recv_bytes()  # both before the import, which takes seconds: the caller waits
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
"""Environment variables that point to our packages, and are not passed to a guest."""
_MOST_WORDS = 1 << 20
"""Size of a guest's output on disk above which `Guest.forget` drops it [bytes]."""


class Guest:
    """A program in another interpreter, connected by a pair of sockets; the number of its socket is its last argument.

    It runs in a session of its own, so no interrupt of the terminal reaches it. It is killed, with its whole session, when this
    object is garbage-collected or the program ends. Nothing is ever written to its standard input, which closes when this process
    ends in any way: a guest that watches it leaves nothing behind. Used by one thread at a time.

    Args:
        command: Program and arguments.
        environment: Additional variables; those that point to our packages are left out.

    Raises OSError when there is no such program.
    """

    wire: socket.socket
    """Our end of the connection."""

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
        """Waits for its end, `timeout_s` [s] at most; returns the exit code, minus the number of a signal, or None if it lives."""
        deadline = time.monotonic() + timeout_s
        while (code := exit_code(self._process)) is None and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
        return code

    def last_words(self, most: int = 400) -> str:
        """The end of its standard error, as one line of at most `most` characters; empty after it was ended."""
        if self._log.closed:
            return ""
        size = os.fstat(self._log.fileno()).st_size
        begin = max(0, size - 4 * most)  # a character has at most four bytes
        return " ".join(os.pread(self._log.fileno(), size - begin, begin).decode(errors="replace").split())[-most:]

    def forget(self) -> None:
        """Drops its output if that is large. Call it regularly, because some programs print at every step."""
        if not self._log.closed and os.fstat(self._log.fileno()).st_size > _MOST_WORDS:
            self._log.truncate(0)

    def end(self, grace_s: float = 0.0) -> None:
        """Closes the socket, and kills the program if it has not ended by itself within `grace_s` [s]; safe to call twice."""
        self.wire.close()
        if grace_s > 0.0:
            self.join(grace_s)
        self._forgotten()


def exit_code(process: subprocess.Popen[bytes]) -> int | None:
    """The exit code of a program, minus the number of a signal; None while it runs.

    Its status is not collected, so that its number, which is that of its group, cannot become another's before `end_group`.
    """
    if process.returncode is not None:
        return process.returncode
    found = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    if found is None:
        return None
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Kills a program that was started in a session of its own, with its children, even if it has ended itself.

    Does nothing once its status was collected, since its number may be another's by then.
    """
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _see_off(process: subprocess.Popen[bytes], wire: socket.socket, log: IO[bytes]) -> None:
    end_group(process)
    if process.stdin is not None:
        process.stdin.close()
    wire.close()
    log.close()
