"""What mkdocs is told beyond mkdocs.yml: how diagrams are drawn, and that pages elsewhere in the repository belong to the site.

Diagrams become SVG here, because the theme would fetch the program that draws them from another server in every reader's browser.

The reports of benchmarks/results, the runbook of cluster/ and the README of assets/ are read where they lie, so that there is one
copy of each. Links to them are written as they work in the repository, and changed here to where the page is in the site.
"""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))
from diagrams import figure

ROOT = Path(__file__).resolve().parents[2]
ELSEWHERE = {
    **{f"benchmarks/results/{path.name}": f"results/{path.name}" for path in sorted((ROOT / "benchmarks/results").glob("*.md"))},
    "cluster/README.md": "how-to/runbook.md",
    "assets/README.md": "reference/assets.md",
    **{
        f"assets/{path.name}": f"reference/{path.name}"
        for kind in ("csv", "json")
        for path in sorted((ROOT / "assets").glob(f"*.{kind}"))
    },
}
"""Files of the repository that are pages of the site, or tables that pages lead to, and where."""
_LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)]*)?\))")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Has `diagrams` draw what stands in blocks of the language mermaid."""
    fence = {"name": "mermaid", "class": "diagram", "format": figure}
    config.mdx_configs.setdefault("pymdownx.superfences", {})["custom_fences"] = [fence]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that lie elsewhere."""
    for path, uri in ELSEWHERE.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Changes links to files of the repository into links to pages of the site."""
    there = {uri: path for path, uri in ELSEWHERE.items()}
    source = there.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def changed(match: re.Match[str]) -> str:
        before, target, after = match.groups()
        if "://" in target or target.startswith(("mailto:", "/")):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        uri = ELSEWHERE.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else "")
        return match[0] if not uri else before + posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or ".") + after

    return _LINK.sub(changed, markdown)
