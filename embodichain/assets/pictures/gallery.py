"""The overview of a batch for people: a contact sheet and one self-contained HTML page."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from embodichain.assets.pictures import turntable
from embodichain.assets.pictures.preview import thumbnail_path
from embodichain.assets.usd import files as usd
from embodichain.types import Asset

_COLUMNS = 8
"""Number of frames in a row of a strip."""
_CELL, _CAPTION, _ROW = 208, 46, 6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GalleryEntry:
    """A finished asset and the content of its sidecar."""

    asset: Asset
    report: Mapping[str, Any]

    @classmethod
    def load(cls, file: Path) -> GalleryEntry:
        """Reads both; raises AssetError for a damaged file."""
        sidecar = file.with_suffix(".json")
        return cls(asset=usd.read(file), report=json.loads(sidecar.read_text()) if sidecar.exists() else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedEntry:
    """An asset that was not delivered, and the reason."""

    name: str
    reason: str
    stage: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Strip:
    """One view as an image that contains all its frames."""

    title: str
    data: str
    frames: int
    rows: int = field(default=1)


def contact_sheet(exhibits: Sequence[GalleryEntry], columns: int = _ROW) -> Image.Image:
    """Thumbnails of all assets with name, mass and size, in one image."""
    columns = max(1, min(columns, len(exhibits)))
    rows = -(-max(len(exhibits), 1) // columns)
    gap = 12
    sheet = Image.new("RGB", (columns * (_CELL + gap) + gap, rows * (_CELL + _CAPTION + gap) + gap), (245, 246, 248))
    pen = ImageDraw.Draw(sheet)
    title, small = ImageFont.load_default(15), ImageFont.load_default(12)
    for index, exhibit in enumerate(exhibits):
        x = gap + (index % columns) * (_CELL + gap)
        y = gap + (index // columns) * (_CELL + _CAPTION + gap)
        pen.rounded_rectangle((x, y, x + _CELL, y + _CELL + _CAPTION), 8, fill=(255, 255, 255), outline=(222, 225, 230))
        picture = thumbnail_path(exhibit.asset.path)
        if picture.exists():
            with Image.open(picture) as image:
                sheet.paste(image.convert("RGB").resize((_CELL - 12, _CELL - 12), Image.Resampling.LANCZOS), (x + 6, y + 6))
        pen.text((x + 10, y + _CELL), _shortened(pen, exhibit.asset.name, title, _CELL - 20), font=title, fill=(30, 34, 40))
        line = f"{_mass(exhibit.asset)}   {_size(exhibit.asset).replace('×', 'x')}"
        pen.text((x + 10, y + _CELL + 22), _shortened(pen, line, small, _CELL - 20), font=small, fill=(105, 112, 122))
    return sheet


def page(
    exhibits: Sequence[GalleryEntry],
    failures: Sequence[FailedEntry] = (),
    *,
    title: str = "Assets",
    progress: Callable[[str], None] | None = None,
) -> str:
    """One HTML page without external references: turntables, hulls, masses, grasps and joints of every asset."""
    frames = 16 if len(exhibits) <= 30 else 8
    cards = []
    for exhibit in exhibits:
        cards.append(_card(exhibit, frames))
        if progress:
            progress(exhibit.asset.name)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("gallery.html.jinja").render(
        title=title, cards=cards, failures=failures, columns=_COLUMNS, totals=_totals(exhibits)
    )


def _totals(exhibits: Sequence[GalleryEntry]) -> Mapping[str, str]:
    tried = [lift for exhibit in exhibits for lift in exhibit.report.get("grasps", {}).values()]
    licences = sorted({exhibit.asset.licence or "none given" for exhibit in exhibits})
    return {
        "assets": str(len(exhibits)),
        "categories": str(len({exhibit.asset.category for exhibit in exhibits})),
        "hulls": str(sum(len(body.hulls) for exhibit in exhibits for body in exhibit.asset.bodies)),
        "joints": str(sum(len(exhibit.asset.movable_joints) for exhibit in exhibits)),
        "grasps held": f"{sum(lift['held'] for lift in tried)} of {len(tried)}",
        "licences": ", ".join(licences),
    }


def _card(exhibit: GalleryEntry, frames: int) -> Mapping[str, Any]:
    asset, report = exhibit.asset, exhibit.report
    lifts = report.get("grasps", {})
    shown = turntable.views(asset, {name: bool(lift["held"]) for name, lift in lifts.items() if name in asset.affordances}, frames)
    stages: dict[str, float] = {}
    for entry in report.get("stages", []):
        stages[entry["stage"]] = stages.get(entry["stage"], 0.0) + entry["seconds"]
    fits = [entry["after"] for entry in report.get("stages", []) if entry["stage"] == "collision"]
    return {
        "name": asset.name,
        "category": asset.category,
        "mass": _mass(asset),
        "size": _size(asset),
        "licence": asset.licence or "none given",
        "source": asset.source,
        "hash": asset.content_hash,
        "file": str(asset.path),
        "bodies": [
            {
                "name": body.name,
                "mass": f"{body.mass * 1e3:.1f} g",
                "center": ", ".join(f"{value * 1e3:.1f}" for value in body.center_of_mass),
                "moments": ", ".join(f"{value:.3g}" for value in body.diagonal_inertia),
                "material": body.material.name,
                "friction": f"{body.material.static_friction:.2f} / {body.material.dynamic_friction:.2f}",
                "hulls": len(body.hulls),
                "faces": len(body.visual.faces),
            }
            for body in asset.bodies
        ],
        "fit": _fit(fits),
        "joints": [
            {
                "name": joint.name,
                "kind": str(joint.kind),
                "range": f"{joint.lower:.3g} to {joint.upper:.3g} {'rad' if joint.kind == 'revolute' else 'm'}",
                "friction": f"{joint.friction:.3g}",
                "damping": f"{joint.damping:.3g}",
            }
            for joint in asset.movable_joints
        ],
        "grasps": [{"name": name, **lift} for name, lift in lifts.items()],
        "score": report.get("score"),
        "seconds": report.get("seconds"),
        "stages": [{"name": name, "seconds": seconds} for name, seconds in stages.items()],
        "longest": max(stages.values(), default=1.0) or 1.0,
        "strips": [_strip(name, drawings) for name, drawings in shown.items()],
    }


def _strip(title: str, drawings: Sequence[NDArray[np.float64]]) -> _Strip:
    """All frames in one WebP image, in rows of eight."""
    size = drawings[0].shape[0]
    rows = -(-len(drawings) // _COLUMNS)
    sheet = np.zeros((rows * size, _COLUMNS * size, 4))
    for index, drawing in enumerate(drawings):
        y, x = divmod(index, _COLUMNS)
        sheet[y * size : (y + 1) * size, x * size : (x + 1) * size] = drawing
    sheet[..., :3] = np.clip(sheet[..., :3], 0.0, 1.0) ** (1 / 1.2)
    buffer = io.BytesIO()
    Image.fromarray((sheet * 255).astype(np.uint8), "RGBA").save(buffer, "WEBP", quality=78, method=4)
    data = f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return _Strip(title=title, data=data, frames=len(drawings), rows=rows)


def _fit(fits: Sequence[Mapping[str, float]]) -> str:
    if not fits:
        return "not measured"
    over, missing = (max(fit[name] for fit in fits) for name in ("over", "missing"))
    return f"over {over:.1%}, missing {missing:.2%}"


def _mass(asset: Asset) -> str:
    mass = sum(body.mass for body in asset.bodies)
    return f"{mass:.2f} kg" if mass >= 1.0 else f"{mass * 1e3:.1f} g"


def _size(asset: Asset) -> str:
    return " × ".join(f"{value * 1e3:.0f}" for value in asset.bounds[1] - asset.bounds[0]) + " mm"


def _shortened(pen: ImageDraw.ImageDraw, text: str, font: Any, width: int) -> str:
    """The text, shortened to the width of its card [pixels]."""
    if pen.textlength(text, font=font) <= width:
        return text
    while text and pen.textlength(text + "…", font=font) > width:
        text = text[:-1]
    return text + "…"
