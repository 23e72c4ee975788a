"""Writes the reference pages that are generated: commands, options, and one page for each public package.

Run by `make docs`. Commands and options come from the real parsers, in the environment that runs EmbodiChain. The pages of packages
hold only names and `:::` lines, which mkdocstrings fills in later from the sources, without importing them.
"""

from __future__ import annotations

import argparse
import ast
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from embodichain import cli  # noqa: E402
from embodichain.command_line import Parser  # noqa: E402
from learner.runs.catalog import RECIPES  # noqa: E402
from learner.runs.option_help import all_options  # noqa: E402

OUT = ROOT / "docs" / "reference"
FAMILIES = {"CLWM": "tiny_cpu", "LingBot-VA": "lingbot_va_cpu", "X-WAM": "x_wam_cpu", "CoWVLA": "cowvla_cpu"}
"""A recipe of each model family: its configuration has that family's options."""
DATA_SETS = ("lerobot", "robomimic", "robotwin")
"""First words of `export` that have options of their own."""


def main() -> None:
    """Writes every page, and removes pages of packages that are gone."""
    os.environ["COLUMNS"] = "110"  # argparse wraps help at the width of the terminal
    for old in (OUT / "api").glob("*.md"):
        old.unlink()
    for name, text in pages().items():
        target = OUT / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """The text of each generated page by its path below `docs/reference`."""
    return {"commands.md": _commands(), "options.md": _options(), **_packages()}


# ------------------------------------------------------------------------------------------------------------ commands


@contextmanager
def _caught(found: list[Parser]) -> Iterator[None]:
    """Meanwhile a parser that would print its help is noted in `found` instead."""
    print_help = Parser.print_help

    def note(self: Parser, file: object = None) -> None:
        found.append(self)

    Parser.print_help = note
    try:
        yield
    finally:
        Parser.print_help = print_help


def parsers_of(name: str) -> list[Parser]:
    """The parser of a command, then those of its subcommands and of its other forms."""
    found: list[Parser] = []
    with _caught(found):
        for words in ([name], *([name, form] for form in DATA_SETS if name == "export")):
            with suppress(SystemExit):
                cli.main([*words, "--help"])
    return [one for parser in found for one in _with_subcommands(parser)]


def _with_subcommands(parser: Parser) -> list[Parser]:
    inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return [parser, *(one for action in inner for name in action.choices for one in _with_subcommands(action.choices[name]))]


def _commands() -> str:
    parts = [
        "# Commands",
        "What each command prints with `--help`, taken from its parser. `run --help-all` has more: see [options](options.md).",
    ]
    for name, command in cli.COMMANDS.items():
        extra = f" It needs the extra `{command.extra}`." if command.extra else ""
        parts += [f"## embodichain {name}", f"{command.summary[0].upper()}{command.summary[1:]}.{extra}"]
        for place, parser in enumerate(parsers_of(name)):
            parts += [*([f"### {parser.prog}"] if place else []), f"```text\n{parser.format_help().strip()}\n```"]
    return "\n\n".join(parts) + "\n"


# ------------------------------------------------------------------------------------------------------------- options


def _options() -> str:
    (run,) = parsers_of("run")
    parts = [
        "# Options by level",
        "A run has one complete configuration, made by a recipe. What can be changed comes in two levels.",
        "## First level: the short options of `run`",
        f"```text\n{run.format_help().strip()}\n```",
        "## Second level: every value by its dotted name",
        "Underscores may be written as hyphens. Defaults are those of the recipe named; `embodichain run RECIPE --help-all` prints "
        "them for any other. A YAML file for `--config` holds the same values, nested.",
    ]
    for family, recipe in FAMILIES.items():
        config = RECIPES.get(recipe)()
        if family == "CLWM":
            parts += [f"### Recipe `{recipe}` ({family})", f"```text\n{all_options(config)}\n```"]
        else:
            text = all_options(config.learner.agent.model, "learner.agent.model.")
            parts += [f"### Model of `{recipe}` ({family})", f"```text\n{text}\n```"]
    return "\n\n".join(parts) + "\n"


# ------------------------------------------------------------------------------------------------------------ packages


def rooms() -> list[str]:
    """Every public package and module, as "embodichain.ring"."""
    return [f"{package}.{room}" for package in ("embodichain", "learner") for room in _names(package) if room != "commands"]


def _packages() -> dict[str, str]:
    listed = "\n".join(f"- [`{room}`](api/{room}.md): {_first_line(room)}" for room in rooms())
    index = (
        "# Public packages\n\nA public name has one path: the package below whose `__all__` lists it. "
        f"What is not listed may change without notice.\n\n{listed}\n"
    )
    return {"packages.md": index} | {f"api/{room}.md": _page(room) for room in rooms()}


def _page(room: str) -> str:
    own = {"members": "false", "show_root_heading": "false", "show_root_toc_entry": "false"}
    parts = [f"# {room}", "\n".join([f"::: {room}", "    options:", *(f"      {key}: {value}" for key, value in own.items())])]
    for name in _names(room):
        inner = f"{room}.{name}"
        if _file(inner) is None:
            parts.append(f"::: {inner}")
        else:
            parts.append(f"::: {inner}\n    options:\n      show_submodules: true")
    return "\n\n".join(parts) + "\n"


def _file(module: str) -> Path | None:
    """The source file of a module; None when there is no module of that name."""
    path = ROOT.joinpath(*module.split("."))
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)


def _tree(module: str) -> ast.Module:
    file = _file(module)
    if file is None:
        raise SystemExit(f"docs: no source file of {module}")
    return ast.parse(file.read_text(encoding="utf-8"))


def _names(module: str) -> list[str]:
    """What the `__all__` of a module lists, read from its source; empty where there is none."""
    for node in _tree(module).body:
        if isinstance(node, ast.Assign) and [t.id for t in node.targets if isinstance(t, ast.Name)] == ["__all__"]:
            return list(ast.literal_eval(node.value))
    return []


def _first_line(module: str) -> str:
    return (ast.get_docstring(_tree(module)) or "").partition("\n")[0].replace("<", "&lt;")


if __name__ == "__main__":
    main()
