"""What the documentation tells a reader to type runs here, its links lead somewhere, and its reference has every public name."""

import ast
import importlib.util
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import get_type_hints
from xml.etree import ElementTree

import pytest
from command_lines import check_command

from embodichain.isaac.worlds import INTERPRETER

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(path for folder in (".", "tutorials", "how-to", "concepts") for path in (DOCS / folder).glob("*.md"))
PAGES.append(DOCS / "reference" / "files.md")
_BLOCK = re.compile(r"(?P<slow><!-- slow -->\n)?^(?P<indent> *)```(?P<kind>\w+)\n(?P<text>.*?)^ *```$", re.DOTALL | re.MULTILINE)
_SNIPPET = re.compile(r'^--8<-- "([^":]+)(?::(\d+):(\d+))?"$')


def blocks(page: Path, kind: str, *, slow: bool = False) -> list[str]:
    """The fenced blocks of a kind in a page, those marked slow or the others."""
    found = _BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [match["text"] for match in found if match["kind"] == kind and bool(match["slow"]) == slow]


def name(page: Path) -> str:
    return str(page.relative_to(DOCS))


def script(name: str) -> ModuleType:
    """A program of `docs/site`: `reference` writes the generated pages, `diagrams` draws figures."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / "site" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def generator() -> ModuleType:
    """The script that writes the generated reference pages."""
    return script("reference")


# ------------------------------------------------------------------------------------------------------------ commands

LINES = sorted({(name(page), line.strip()) for page in PAGES for text in blocks(page, "sh") for line in text.splitlines()})
COMMANDS = [(where, line) for where, line in LINES if line.startswith("embodichain ")]
OTHERS = [(where, line) for where, line in LINES if not line.startswith("embodichain ")]


@pytest.mark.parametrize(("where", "line"), COMMANDS, ids=[f"{where}: {line}" for where, line in COMMANDS])
def test_every_command_is_one_that_the_parser_takes(where, line, tmp_path, monkeypatch, capsys):
    check_command(shlex.split(line, comments=True), tmp_path, monkeypatch, capsys)


def test_there_are_commands_of_every_kind_of_page():
    assert {where.partition("/")[0] for where, _ in COMMANDS} >= {"tutorials", "how-to", "concepts", "generators.md"}


@pytest.mark.parametrize(("where", "line"), OTHERS, ids=[f"{where}: {line}" for where, line in OTHERS])
def test_every_other_line_of_a_shell_is_of_a_known_kind(where, line):
    words = shlex.split(line)
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif words[0] == "pip":
        assert words[1:5] == ["install", "-c", "constraints.txt", "-e"]
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert set(re.findall(r"\w+", words[5])) <= set(extras)
    elif words[0] == "python":
        assert (ROOT / words[1]).is_file()
    else:
        known = ". .venv/bin/activate", "export PYTHONPATH=tests/plugin", f"export {INTERPRETER}=/opt/isaac-sim/python.sh"
        assert line in known


# -------------------------------------------------------------------------------------------------------------- Python


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name)
def test_the_python_of_a_page_runs_from_its_first_block_to_its_last(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    together: dict[str, object] = {"__name__": "docs"}
    for text in blocks(page, "python"):
        lines = [_SNIPPET.match(line) for line in text.strip().splitlines()]
        if not all(lines):
            exec(compile(text, name(page), "exec"), together)
            continue
        for line in lines:  # the modules that they show are installed and run by test_doors.py
            assert line is not None
            shown = (ROOT / line[1]).read_text(encoding="utf-8").splitlines()
            if line[2]:
                first, last = int(line[2]), int(line[3])
                assert last <= len(shown) and shown[last - 1].strip(), f"{name(page)}: {line[0]} ends in nothing"
                assert first == 1 or not shown[first - 2].strip(), f"{name(page)}: {line[0]} begins in the middle"
                assert last == len(shown) or not shown[last].strip(), f"{name(page)}: {line[0]} ends in the middle"
                compile("\n".join(shown[first - 1 : last]), line[1], "exec")


@pytest.mark.slow
def test_the_client_of_the_tutorial_is_answered_as_it_says(tmp_path):
    page = DOCS / "tutorials" / "serve.md"
    assert [name(other) for other in PAGES if blocks(other, "python", slow=True)] == [name(page)]
    (client,) = blocks(page, "python", slow=True)
    command = [sys.executable, "-m", "embodichain.cli", "serve", "builtin:turn_switch", "--port", "0", "--threads", "1", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}) as server:
        try:
            assert server.stdout is not None
            port = json.loads(server.stdout.readline())["port"]
            script = tmp_path / "ask.py"
            script.write_text(client.replace("8000", str(port)))
            told = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True, timeout=300).stdout
        finally:
            server.terminate()
    assert f"It prints `{told.strip()}`" in page.read_text(encoding="utf-8")


# --------------------------------------------------------------------------------------------------------------- links


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_to_a_file_or_to_a_page_that_is_generated(page):
    made = {f"{path}.md" for path in ("commands", "options", "packages")}
    made |= {f"api/{room}.md" for room in generator().rooms()}
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if "://" not in target:
            found = Path(os.path.normpath(page.parent / target))
            assert found.is_file() or str(found.relative_to(DOCS / "reference")) in made, f"{name(page)} links to {target}"


def stretches(page: Path) -> list[str]:
    """The paragraphs, list entries and rows of tables of a page, without blocks and pictures."""
    text = re.sub(r"^ *```.*?^ *```$|<svg.*?</svg>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.split(r"\n\n+|\n(?=\||- )", text)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_figure_beside_a_link_to_a_report_stands_in_that_report(page):
    for stretch in stretches(page):
        linked = re.findall(r"\]\(((?:\.\./)+benchmarks/results/[\w.-]+)", stretch)
        if not linked:
            continue
        reports = " ".join((page.parent / path).read_text(encoding="utf-8") for path in linked).replace(",", "")
        told = re.sub(r"\]\([^)]*\)|`[^`]*`|\bv\d+\b", "", stretch).replace(",", "")
        for figure in re.findall(r"\d+(?:\.\d+)?", told):
            assert re.search(rf"(?<![\d.]){re.escape(figure)}(?!\d|\.\d)", reports), f"{figure} is in none of {linked}: {stretch}"


INLINE = sorted({(name(page), code) for page in PAGES for code in re.findall(r"`(embodichain [^`]+)`", page.read_text("utf-8"))})


@pytest.mark.parametrize(("where", "code"), INLINE, ids=[f"{where}: {code}" for where, code in INLINE])
def test_every_command_within_a_sentence_exists(where, code, tmp_path, monkeypatch, capsys):
    words = [word.replace("FILE", "policy.safetensors").replace("RUN", "runs/tiny_cpu") for word in shlex.split(code)]
    if re.fullmatch(r"[a-z ]+", code):  # a command's name, in a sentence about it
        words.append("--help")
    check_command(words, tmp_path, monkeypatch, capsys)


# ------------------------------------------------------------------------------------------------------------- figures

FIGURES = [(name(page), text) for page in PAGES for text in blocks(page, "mermaid")]


@pytest.mark.parametrize(("where", "text"), FIGURES, ids=[where for where, _ in FIGURES])
def test_a_figure_shows_every_word_of_its_text_and_none_of_its_boxes_covers_another(where, text):
    drawn = ElementTree.fromstring(script("diagrams").figure(text))
    shown = " ".join(element.text or "" for element in drawn.iter() if element.tag.endswith("text"))
    told = re.findall(r'"([^"]+)"', text) + re.findall(r": (.+)", text) * (not text.startswith("flowchart"))
    assert told
    for label in told:
        for part in re.split(r"<br ?/?>", label):
            assert part.strip() in shown, where
    for group in [drawn, *(element for element in drawn.iter() if element.tag.endswith("}g"))]:
        boxes = [
            (float(e.get("x", 0)), float(e.get("y", 0)), float(e.get("width", 0)), float(e.get("height", 0)))
            for e in group
            if e.tag.endswith("rect")
        ]
        for (x, y, w, h), (u, v, s, t) in itertools.combinations(boxes, 2):
            assert x + w <= u or u + s <= x or y + h <= v or v + t <= y, where
        width, height = (float(value) for value in drawn.get("viewBox", "").split()[2:])
        assert all(x >= 0 and y >= 0 and x + w <= width and y + h <= height for x, y, w, h in boxes), where


def test_a_figure_that_cannot_be_drawn_says_what_is_wrong_with_it():
    diagrams = script("diagrams")
    for text, said in (
        ("pie", "unknown kind of diagram 'pie'; known: flowchart LR"),
        ("flowchart LR\n  a --> b --> a", "arrows go round"),
        ("flowchart TB\n  a[[x --> b", "cannot read 'a\\[\\[x'"),
        ("sequenceDiagram\n  loop forever", "cannot read 'loop forever'"),
    ):
        with pytest.raises(diagrams.DiagramError, match=said):
            diagrams.figure(text)


def test_every_concept_has_a_figure_and_no_page_loads_a_program_to_show_one():
    for page in sorted((DOCS / "concepts").glob("*.md")):
        assert "```mermaid" in page.read_text("utf-8") or "<svg" in page.read_text("utf-8"), name(page)
    assert not [name(page) for page in PAGES if re.search(r"<script|<iframe|src=.?https?:", page.read_text("utf-8"))]
    settings = (ROOT / "mkdocs.yml").read_text("utf-8")
    assert "extra_javascript" not in settings and "fence_code_format" not in settings


def test_every_page_is_in_the_menu_and_every_report_that_decides_is_there():
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert not [name(page) for page in PAGES if f": {name(page)}\n" not in menu]
    reports = re.findall(r"benchmarks/results/([\w.-]+)\)", (DOCS / "decisions.md").read_text(encoding="utf-8"))
    assert len(set(reports)) > 10
    rows = [line for line in (DOCS / "decisions.md").read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    assert not [row for row in rows if "benchmarks/results/" not in row and "| report |" not in row], "a decision without a report"


# ----------------------------------------------------------------------------------------------------------- reference


def test_the_reference_has_every_command_every_option_and_every_public_name():
    from embodichain import cli
    from learner.runs.catalog import RECIPES

    pages = generator().pages()
    assert all(f"## embodichain {command}\n" in pages["commands.md"] for command in cli.COMMANDS)
    for words in ("asset build", "asset validate", "export lerobot", "ring top", "ledger verify", "codec train"):
        assert f"### embodichain {words}\n" in pages["commands.md"]
    assert all(option in pages["options.md"] for option in ("--ring.max-reads", "--learner.agent.model.forward-share", "--resume"))
    assert all(recipe in RECIPES for recipe in generator().FAMILIES.values())
    import embodichain.ring
    import learner.models

    for package in (embodichain.ring, learner.models):
        page = pages[f"api/{package.__name__}.md"]
        assert all(f"::: {package.__name__}.{public}\n" in f"{page}\n" for public in package.__all__)


def test_the_table_of_entry_points_is_that_of_the_code():
    groups = set()
    for path in [*(ROOT / "embodichain").rglob("*.py"), *(ROOT / "learner").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Registry" and len(node.args) > 1:
                groups.add(ast.literal_eval(node.args[1]))
    told = re.findall(r"^\| `(embodichain\.\w+)` \|", (DOCS / "how-to" / "plugin.md").read_text("utf-8"), re.MULTILINE)
    assert len(told) == len(set(told))
    assert set(told) == groups


def test_the_tables_of_formats_are_those_of_the_code():
    from embodichain.ring.ledger import RECORD
    from embodichain.types import camera_spec
    from learner.records import RunFolder

    files = (DOCS / "reference" / "files.md").read_text(encoding="utf-8")
    assert RECORD.names is not None
    for field in RECORD.names:
        assert f"| `{field}` | {RECORD[field].name} |" in files
    folder = RunFolder(path=Path("run"))
    named = [
        key for key, one in vars(RunFolder).items() if isinstance(one, property) and get_type_hints(one.fget)["return"] is Path
    ]
    held = [getattr(folder, key) for key in named]
    assert len(held) > 10
    for path in held:
        assert f"`{path.relative_to('run')}" in files, path
    schema = (DOCS / "concepts" / "schema.md").read_text(encoding="utf-8")
    size = {"cameras": 2, "height": 16, "width": 16, "horizon": 3}
    for spec in (camera_spec(**size, depth=True, segmentation=True), camera_spec(**size, latents=(1, 1, 4))):
        for field in spec.fields:
            (row,) = [line for line in schema.splitlines() if line.startswith(f"| `{field.name}` |")]
            assert row.split("|")[2].strip().startswith(field.dtype)
            assert row.split("|")[2].count(",") + bool("[" in row.split("|")[2]) == len(field.shape), row
