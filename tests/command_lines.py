"""Whether the real parsers take a command line that some file tells people, or programs, to type. Nothing is done but parsing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from embodichain import cli
from embodichain.command_line import Parser
from learner.runs.catalog import RECIPES

_DRY = ("run", "sweep")
"""Commands that resolve dotted options beside their parser's; both can say what they would do, and do nothing."""


class _Parsed(BaseException):
    """A command's parser has read all its words; `rest` are those that it did not know."""

    def __init__(self, rest: list[str]) -> None:
        super().__init__()
        self.rest = rest


@contextmanager
def _parsing_only() -> Iterator[None]:
    """Meanwhile a command ends with `_Parsed` where it would begin to work. A subcommand's parser runs inside its command's."""
    parse_known_args, depth = Parser.parse_known_args, 0

    def parsed(self: Parser, args=None, namespace=None):
        nonlocal depth
        depth += 1
        try:
            found = parse_known_args(self, args, namespace)
        finally:
            depth -= 1
        if depth:
            return found
        raise _Parsed(found[1])

    Parser.parse_known_args = parsed
    try:
        yield
    finally:
        Parser.parse_known_args = parse_known_args


def check_command(words: Sequence[str], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Fails unless `words`, which begin with "embodichain", are a command with options that it has and values that it takes.

    Files that a reader has by then are made in `folder`: a place for every word that looks like a path.
    """
    name, *rest = words[1:]
    if name in ("--help", "list"):
        assert cli.main([name, *rest]) == 0
        return
    assert name in cli.COMMANDS, f"there is no command {name!r}"
    monkeypatch.chdir(folder)
    rest = [_there(word, folder) for word in rest]
    if name == "run" and rest and not rest[0].startswith("-"):
        RECIPES.check(rest[0])
    if name in _DRY and not {"--resume", "--static", "--help"} & set(rest):
        code = cli.main([name, *rest, "--dry-run"])
        assert code == 0, capsys.readouterr().err
        return
    with _parsing_only():
        try:
            code = cli.main([name, *rest])
        except _Parsed as parsed:
            unknown = [word for word in parsed.rest if word.startswith("-") and not (name in _DRY and "." in word)]
            assert not unknown, f"{name} has no {unknown[0]}"
            assert name in _DRY or not parsed.rest, f"{name} takes no {parsed.rest[0]!r}"
        except SystemExit as ended:
            assert ended.code == 0 and ("--help" in rest), capsys.readouterr().err
        else:
            raise AssertionError(capsys.readouterr().err or f"{name} ended with {code} before it had parsed its words")


def _there(word: str, folder: Path) -> str:
    """The word, a path being in `folder` and there."""
    if word.startswith("-") or "/" not in word or "://" in word or "=" in word or " " in word:
        return word
    path = folder / word.lstrip("/")
    if path.suffix in (".json", ".yaml", ".usd", ".obj"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    elif path.suffix == ".xml":
        path.parent.mkdir(parents=True, exist_ok=True)
        from embodichain import robots

        path.write_text(robots.get("dual_piper").mjcf)
    else:
        path.mkdir(parents=True, exist_ok=True)
        (path / "config.yaml").touch()  # of a run
    return word.lstrip("/")
