"""`embodichain`: the table of commands. Each command is imported only when it is called, so that help is fast."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from embodichain import __version__
from embodichain.errors import ConfigError, EmbodiChainError, UsageError
from embodichain.extras import explained
from embodichain.registry import Registry


@dataclass(frozen=True, slots=True)
class Command:
    """A command: its function ("module:function", called with the arguments), a one-line summary, and the extra that it needs."""

    target: str
    summary: str
    extra: str

    def load(self) -> Callable[[list[str]], int]:
        """Imports the function."""
        module, _, function = self.target.partition(":")
        return getattr(importlib.import_module(module), function)


COMMANDS: dict[str, Command] = {
    "run": Command(
        "learner.commands.run:main", "stream experience from simulation into a learner, evaluate it and write a report", "learn"
    ),
    "serve": Command(
        "learner.commands.serve:main",
        "serve a trained policy to robots over openpi's websocket protocol",
        "serve",
    ),
    "eval": Command(
        "learner.commands.eval:main",
        "judge a trained policy in held-out scenes, in and out of distribution",
        "serve",
    ),
    "export": Command(
        "learner.commands.policy:main",
        "write the policy of a run as one file, or episodes as a LeRobot, robomimic or RoboTwin data set",
        "serve",
    ),
    "encoder": Command(
        "learner.commands.encoder:main",
        "train the image encoder on its own rendered stream: `encoder train`",
        "learn",
    ),
    "segmenter": Command(
        "learner.commands.segmenter:main", "train the finder of objects on its own rendered stream: `segmenter train`", "learn"
    ),
    "codec": Command(
        "learner.commands.codec:main", "train a codec of frames on its own rendered stream: `codec train vae`", "learn"
    ),
    "report": Command(
        "learner.commands.report:main",
        "write a run's report.html again from its folder",
        "learn",
    ),
    "efficiency": Command(
        "learner.commands.efficiency:main", "fit what runs reached against the experience that their iterations took in", "learn"
    ),
    "sweep": Command(
        "learner.commands.sweep:main", "run a recipe under several bounds on reads, with several seeds, and draw the law", "cluster"
    ),
    "trace": Command(
        "learner.commands.trace:trace", "from a sample of a run back to its scene, assets, licences and a film of it", "learn"
    ),
    "replay": Command("learner.commands.trace:replay", "simulate an episode again from its record, to the bit", "learn"),
    "list": Command(
        "learner.commands.names:main",
        "list recipes, tasks, robots, physics, model families and asset categories",
        "",
    ),
    "asset": Command(
        "embodichain.commands.assets:main", "build simulation-ready USD assets, validate, compare and show them", "assets"
    ),
    "reach": Command(
        "embodichain.commands.reach:reach",
        "build a robot's reachability table and draw it",
        "sim",
    ),
    "robot": Command(
        "embodichain.commands.robots:robot", "say what a robot's file holds and which tasks it can do: `robot check FILE`", "sim"
    ),
    "scene": Command(
        "learner.commands.scene:main", "sample, pack, compare, make again, play and judge scenes: `scene sample`", "sim"
    ),
    "tasks": Command(
        "embodichain.commands.worlds:tasks",
        "play tasks and make pictures and videos of them: `tasks show`",
        "sim",
    ),
    "physics": Command(
        "embodichain.commands.physics:physics", "try whether a physics keeps what every world promises: `physics check`", "sim"
    ),
    "view": Command("learner.commands.view:main", "show an asset, a robot, a scene or an episode in the browser", "exchange"),
    "watch": Command(
        "embodichain.commands.operations:watch", "show runs on a page as they go, and their figures to Prometheus", "cluster"
    ),
    "doctor": Command(
        "embodichain.commands.operations:doctor", "look whether this machine, or a cluster, has what a run needs", "sim"
    ),
    "plan": Command(
        "embodichain.commands.operations:plan", "say from measured rates which side would wait, and which E to expect", "sim"
    ),
    "chaos": Command(
        "embodichain.commands.operations:chaos", "kill, stop and starve what a run is made of, and say what it cost", "sim"
    ),
    "ring": Command(
        "embodichain.commands.rings:ring",
        "watch a ring of a running job: `ring top PATH`",
        "sim",
    ),
    "ledger": Command(
        "embodichain.commands.rings:ledger", "prove from a run's ledger that no trajectory was read too often", "sim"
    ),
}

_LOADED: Registry[Callable[[list[str]], int]] = Registry(
    "command",
    "embodichain.commands",
    {name: command.target for name, command in COMMANDS.items()},
    "`embodichain --help` explains each",
)
"""The functions behind the commands, including those that installed distributions add."""


@contextmanager
def announced(text: str) -> Iterator[None]:
    """Shows `text` on a terminal until the block ends, because simulator and learner take seconds to load."""
    shown = sys.stderr.isatty()
    if shown:
        print(text, end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def help_text() -> str:
    """The overview: usage, and one line for each command."""
    lines = ["usage: embodichain COMMAND [OPTIONS]", "", "commands:"]
    lines += [f"  {name:<10} {command.summary}" for name, command in COMMANDS.items()]
    if added := [offer for offer in _LOADED.offers() if offer.name not in COMMANDS]:
        lines += ["", "commands of installed distributions:"]
        lines += [f"  {offer.name:<10} {offer.summary} ({offer.distribution})" for offer in added]
    return "\n".join([*lines, "", "`embodichain COMMAND --help` explains a command. `embodichain run tiny_cpu` is the demo."])


def complain(error: EmbodiChainError, *, as_json: bool) -> None:
    """Prints one line on standard error for people, or one JSON object on standard output for programs."""
    line = " ".join(str(error).split())
    if as_json:
        import json

        with suppress(OSError):  # `_delivered` sees it as well
            print(json.dumps({"error": line}))
    else:
        print(f"embodichain: error: {line}", file=sys.stderr)


_SHORT = ("-h", "--help", "help", "-V", "--version")
"""Words that are answered without a command."""


def _unread() -> int:
    """Ends quietly when the reader of the output, such as `head`, has closed the pipe; the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _delivered(code: Any) -> Any:
    """The exit code, once all that was printed has left this process: its exit could only tell of a failure in a traceback."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return _unread()
    except OSError as error:
        _unread()
        if not code:
            complain(EmbodiChainError(f"standard output: {error.strerror}"), as_json=False)
        return code or 2
    return code


def _open_streams() -> None:
    """Opens the null device in place of every standard stream that was closed when this process began.

    The next file to be opened, such as a ledger, would otherwise get the stream's number, and whatever libraries print there.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            setattr(sys, name, os.fdopen(number, "w" if number else "r"))
    if hasattr(sys.stdout, "reconfigure"):  # names of files need not be text
        sys.stdout.reconfigure(errors="backslashreplace")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. User errors end with one line on standard error and exit code 2, Ctrl-C with 130."""
    _open_streams()
    try:
        code = _ended(list(sys.argv[1:] if argv is None else argv))
    except SystemExit as ended:  # help, or a misused option
        raise SystemExit(_delivered(ended.code)) from None
    return _delivered(code)


def _ended(arguments: list[str]) -> int:
    """Runs one command and says what was wrong; the exit code."""
    as_json, shows_trace = "--json" in arguments, os.environ.get("EMBODICHAIN_TRACEBACK") == "1"
    try:
        return _run(arguments)
    except BrokenPipeError:
        return _unread()
    except KeyboardInterrupt:
        if as_json:
            complain(EmbodiChainError("interrupted"), as_json=True)
        print("embodichain: interrupted", file=sys.stderr)
        return 130
    except (EmbodiChainError, OSError, MemoryError) as error:
        if shows_trace:
            raise
        complain(_told(error), as_json=as_json)
        if isinstance(error, UsageError):
            raise SystemExit(2) from None
        return 2


def _told(error: EmbodiChainError | OSError | MemoryError) -> EmbodiChainError:
    """An error as the user, who can mend it, is told of it: a folder for a file, a full disk, a port in use, too little memory."""
    if isinstance(error, EmbodiChainError):
        return error
    if isinstance(error, MemoryError):
        return EmbodiChainError(f"there is not enough memory ({str(error) or 'for what was asked'}): ask for less")
    where = f"{error.filename}: " if error.filename is not None else ""
    return EmbodiChainError(f"{where}{error.strerror or error}")


def _run(arguments: list[str]) -> int:
    """Runs one command; raises what is wrong with it."""
    # Set before any numeric library loads: threads that spin at OpenMP barriers starve the simulation workers beside them, and then
    # themselves (an encoder pass took 12 times as long beside two busy workers on two cores).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Python would search this folder for `python -m embodichain.cli`; package.module:Name may be there. Workers get this path too.
    try:
        here = os.getcwd()  # noqa: PTH109 (importing pathlib would cost help a tenth)
    except OSError:  # the folder is gone: nothing can be in it
        here = ""
    if not {"", here} & set(sys.path):
        sys.path.append(here)
    for word in arguments:
        if any("\ud800" <= letter <= "\udfff" for letter in word):
            raise UsageError(f"{word!r} is not UTF-8, and files that name it could not be written: rename it")
    if arguments[:1] == ["--json"] and arguments[1:2] and arguments[1] in _SHORT:
        arguments = arguments[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(help_text())
        return 0
    if arguments == ["--json"]:
        import json

        print(json.dumps({"commands": {name: command.summary for name, command in COMMANDS.items()}}))
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"embodichain {__version__}")
        return 0
    if arguments[0] == "--json":  # accepted before and after the command
        arguments = [*arguments[1:], "--json"]
    name, *rest = arguments
    if "EMBODICHAIN_LOG" in os.environ:
        from embodichain.progress import log_as_json

        log_as_json()
    _LOADED.check(name)
    with explained(COMMANDS[name].extra if name in COMMANDS else ""):
        with announced(f"{name}: loading"):
            command = _LOADED.get(name)
        if not callable(command):
            raise ConfigError(f"command {name!r} is no command: {command!r} is not a function of the arguments")
        return command(rest)


if __name__ == "__main__":
    sys.exit(main())
