"""The files that a batch writes beside its assets: a report of every outcome, a list of licences, a contact sheet and a gallery."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import embodichain
from embodichain.assets.chain.batch import JobOutcome
from embodichain.assets.families.listing import categories_csv, materials_csv
from embodichain.assets.pictures.gallery import FailedEntry, GalleryEntry, contact_sheet, page
from embodichain.assets.usd import files as usd
from embodichain.errors import AssetError, ConfigError
from embodichain.types import Vec3

REPORT, LICENCES, SHEET, GALLERY = "report.json", "licences.csv", "contact_sheet.png", "gallery.html"
INDEX, MATERIALS, CATEGORIES = "catalogue.json", "materials.csv", "categories.csv"


def finished(out_dir: Path) -> list[Path]:
    """The USD files of all delivered assets under a folder, recognised by their sidecars, in order."""
    return sorted(
        file
        for file in out_dir.rglob("*.usd")
        if file.with_suffix(".json").exists() and not any(part.startswith(".") for part in file.relative_to(out_dir).parts)
    )


def rows(outcomes: Sequence[JobOutcome]) -> list[dict[str, Any]]:
    """Outcomes as plain values."""
    return [{**asdict(outcome), "file": str(outcome.file), "stages": list(outcome.stages)} for outcome in outcomes]


def publish(
    out_dir: Path,
    outcomes: Sequence[JobOutcome] = (),
    *,
    pictures: bool = True,
    progress: Callable[[str, int, int], None] | None = None,
    skipped: Mapping[Path, str] | None = None,
) -> tuple[Path, ...]:
    """Writes report, scenes, licences, index, tables, contact sheet and gallery for the assets under `out_dir`, each file
    atomically.

    Raises:
        AssetError: nothing can be written into `out_dir`, or an asset in it cannot be read.
    """
    exhibits = [GalleryEntry.load(file) for file in finished(out_dir)]
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    failures = [FailedEntry(name=o.name, reason=o.reason, stage=o.stages[-1]["stage"] if o.stages else "") for o in failed]
    written = []
    if outcomes:
        written.append(whole(out_dir / REPORT, report_of(outcomes, skipped or {})))
    written += _scenes(out_dir, exhibits)
    written.append(whole(out_dir / LICENCES, _licences(exhibits, out_dir).encode()))
    written.append(whole(out_dir / INDEX, json.dumps({"assets": index(out_dir)}, indent=1).encode()))
    written += [whole(out_dir / MATERIALS, materials_csv().encode()), whole(out_dir / CATEGORIES, categories_csv().encode())]
    if pictures and exhibits:
        buffer = io.BytesIO()
        contact_sheet(exhibits).save(buffer, "PNG", optimize=True)
        written.append(whole(out_dir / SHEET, buffer.getvalue()))
        done = 0

        def drawn(name: str) -> None:
            nonlocal done
            done += 1
            if progress:
                progress(name, done, len(exhibits))

        title = f"{len(exhibits)} assets" if len(exhibits) != 1 else exhibits[0].asset.name
        written.append(whole(out_dir / GALLERY, page(exhibits, failures, title=title, progress=drawn).encode()))
    return tuple(written)


def report_of(outcomes: Sequence[JobOutcome], skipped: Mapping[Path, str]) -> bytes:
    """The report of a batch: every outcome, and every file that was left out with the reason."""
    left = [{"file": str(file), "reason": reason} for file, reason in skipped.items()]
    return json.dumps({"engine_version": embodichain.__version__, "assets": rows(outcomes), "skipped": left}, indent=1).encode()


_TERM = re.compile(r"(\w+)\s*([=<>])\s*(.+)")


def index(out_dir: Path) -> list[dict[str, Any]]:
    """One row for each delivered asset under a folder: kind, mass, materials, licence, source, and its path in the folder."""
    found = []
    for file in finished(out_dir):
        try:
            found.append(_row(file, json.loads(file.with_suffix(".json").read_text(encoding="utf-8")), out_dir))
        except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise AssetError(
                f"publish: {file.with_suffix('.json')} is no report of a delivered asset ({error!r}): move it away"
            ) from error
    return found


def _row(file: Path, told: Mapping[str, Any], out_dir: Path) -> dict[str, Any]:
    """What the index says of one asset, by its report."""
    return {
        "name": told["name"], "category": told["category"], "licence": told["licence"], "mass": told["mass"],
        "joints": sum(joint["kind"] != "fixed" for joint in told["joints"]), "bodies": len(told["bodies"]),
        "flags": len(told["flags"]), "longest": max(told["extents"]), "material": told["bodies"][0]["material"]["name"],
        "source": told["source"], "content_hash": told["content_hash"], "file": str(file.relative_to(out_dir)),
    }  # fmt: skip


def query(out_dir: Path, terms: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of `index` that meet every term: KEY=VALUE, KEY<NUMBER or KEY>NUMBER with the keys name, category, licence, mass,
    joints, bodies, flags, longest (side [m]), material or source.

    Raises:
        ConfigError: a term has another form or key.
    """
    asked = [_asked(term) for term in terms]
    rows = [row | {"file": str(out_dir / row["file"])} for row in index(out_dir)]
    return [row for row in rows if all(meets(row) for meets in asked)]


_NUMBERS = ("mass", "joints", "bodies", "flags", "longest")
_WORDS = ("name", "category", "licence", "material", "source", "content_hash", "file")


def _asked(term: str) -> Callable[[Mapping[str, Any]], bool]:
    """Whether a row of the index meets a term; raises ConfigError for a term that none could."""
    split = _TERM.fullmatch(term)
    available = ", ".join((*_WORDS, *_NUMBERS))
    if split is None or split[1] not in (*_NUMBERS, *_WORDS):
        raise ConfigError(f"cannot ask for {term!r}: write KEY=VALUE, KEY<NUMBER or KEY>NUMBER; available: {available}")
    key, sign, value = split.groups()
    if sign == "=":
        return lambda row: str(row[key]) == value
    if key not in _NUMBERS:
        raise ConfigError(f"{term!r} compares {key}, which is no number: ask for {key}=VALUE; numbers: {', '.join(_NUMBERS)}")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise ConfigError(f"{term!r} compares with {value!r}, which is no number")
    return lambda row: row[key] < number if sign == "<" else row[key] > number


def _scenes(out_dir: Path, exhibits: Sequence[GalleryEntry]) -> list[Path]:
    """Writes a USD file for each source that held several objects, with their assets at their original places."""
    scenes: dict[str, list[tuple[str, str, Vec3]]] = {}
    for exhibit in exhibits:
        told = json.loads(exhibit.asset.path.with_suffix(".json").read_text(encoding="utf-8"))["parameters"]
        if "scene" in told:
            place = (float(told["scene_x"]), float(told["scene_y"]), float(told["scene_z"]))
            file = f"./{exhibit.asset.path.relative_to(out_dir)}"
            scenes.setdefault(str(told["scene"]), []).append((exhibit.asset.name, file, place))
    written = []
    for source, things in scenes.items():
        target = out_dir / f"{Path(source).stem}.scene.usda"
        whole(target, usd.scene(things).encode())
        written.append(target)
    return written


def _licences(exhibits: Sequence[GalleryEntry], out_dir: Path) -> str:
    """One line for each asset: licence, origin and content hash."""
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(["name", "category", "licence", "source", "content_hash", "file"])
    for exhibit in exhibits:
        asset = exhibit.asset
        file = asset.path.relative_to(out_dir)
        table.writerow([asset.name, asset.category, asset.licence, asset.source, asset.content_hash, file])
    return buffer.getvalue()


def whole(path: Path, data: bytes) -> Path:
    """Writes a temporary file and renames it, so that readers find the old file or the new one, even after a crash."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise AssetError(f"publish: cannot write {path}: {error.strerror}; choose a writable folder") from error
    return path
