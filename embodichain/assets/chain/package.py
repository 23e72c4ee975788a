"""Turns an asset in memory into a finished folder on disk, which appears complete or not at all, and reads it back."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from embodichain.assets.chain import fidelity, finished, sidecar
from embodichain.assets.chain.record import Number, Record
from embodichain.assets.families.parts import Look, Source
from embodichain.assets.physical import antipodal, grasp
from embodichain.assets.physical import simulated_checks as behave
from embodichain.assets.physical.mjcf import to_mjcf
from embodichain.assets.pictures import preview
from embodichain.assets.pictures.textured import painted
from embodichain.assets.reading.detail import reduced
from embodichain.assets.reading.looks import moved_look, plain
from embodichain.assets.usd import files as usd
from embodichain.assets.usd import validate
from embodichain.errors import AssetError
from embodichain.types import Asset, Mesh


def deliver(
    asset: Asset,
    raw: Source,
    shelf: Path,
    key: str,
    record: Record,
    started: float,
    score: Mapping[str, Any] | None = None,
) -> Asset:
    """Writes, reads back, hashes, pictures and validates the asset, and moves the finished folder into place with one rename.

    Raises:
        AssetError: `shelf`, the folder above the asset's, cannot be written, or the result fails validation; nothing is left
            behind in either case.
    """
    asset = record.stage("antipodal", "", {"affordances": len(asset.affordances)}, lambda: _grasped(asset, record.solids))
    extras = usd.Extras(
        looks={part.name: part.look for part in raw.parts if part.look},
        titles=raw.titles,
        attribution=raw.attribution,
        labels=raw.labels,
        levels=levels(asset, {part.name: part.look for part in raw.parts if part.look}),
    )
    final = shelf / asset.name
    temporary = shelf / f".{asset.name}.{os.getpid()}.tmp"
    provenance: Mapping[str, str | float] = {"key": key, "generator": usd.GENERATOR, **raw.parameters}
    try:
        shelf.mkdir(parents=True, exist_ok=True)
        _sweep(shelf, asset.name)
        temporary.mkdir()
    except OSError as error:
        raise AssetError(f"deliver: cannot write into {shelf}: {error.strerror}; choose a writable folder") from error
    try:
        file = temporary / f"{asset.name}.usd"
        asset = record.stage("usd", "", {}, lambda: _written(asset, file, provenance, extras))
        record.stage("preview", "", {}, lambda: (_pictured(asset, file, extras.looks), {}))
        behaviour, flags = record.stage("validate", "", {}, lambda: _validated(asset, file, foreign=raw.foreign))
        lifts = record.stage("grasp", "", {}, lambda: _lifted(asset))
        if lifts:
            rates = {name: float(lift["success_rate"]) for name, lift in lifts.items()}
            usd.write(asset, file, provenance, rates, extras, layered=True)
        values = sidecar.report(
            asset,
            key=key,
            usd_sha256=finished.digest(file),
            parameters=raw.parameters,
            behaviour=behaviour,
            grasps=lifts,
            stages=record.entries,
            seconds=round(time.perf_counter() - started, 3),
            score=score,
            flags=flags,
            fidelity=fidelity.plain(fidelity.table(raw, asset, (*raw.fidelity, *record.fidelity))) if raw.foreign else (),
        )
        (temporary / f"{asset.name}.json").write_text(json.dumps(values, indent=1))
        (temporary / f"{asset.name}.xml").write_text(to_mjcf(asset))
        if any(lift["held"] for lift in lifts.values()):
            (temporary / f"{asset.name}.grasps.yaml").write_text(sidecar.isaac_grasps(asset, lifts))
        _move_into_place(temporary, final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return usd.read(final / f"{asset.name}.usd")


_LEVELS = {"medium": 0.25, "low": 0.05}
"""Levels of detail, each with the share of faces that it keeps."""
_WORTH_LEVELS = 1000
"""Number of faces above which a body gets levels of detail."""


def levels(asset: Asset, looks: Mapping[str, Look]) -> dict[str, dict[str, Look]]:
    """Coarser looks of an asset's bodies by level of detail; empty when all bodies are coarse already."""
    heavy = [body for body in asset.bodies if len(body.visual.faces) > _WORTH_LEVELS]
    full = {body.name: looks.get(body.name) or plain(body.visual, body.color) for body in heavy}
    if not heavy:
        return {}
    return {
        level: {name: reduced(look, int(len(look.mesh.faces) * share)) for name, look in full.items()}
        for level, share in _LEVELS.items()
    }


def _pictured(asset: Asset, file: Path, looks: Mapping[str, Look]) -> None:
    """Writes the thumbnail, with textures if the file had any."""
    if not looks:
        preview.save_thumbnail(asset, file)
        return
    placed = [moved_look(looks[body.name], body.body_pose) for body in asset.bodies if body.name in looks]
    path = preview.thumbnail_path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(painted(placed, preview.THUMBNAIL_SIZE, preview.view_of(asset.bounds))).save(path)


def _written(
    asset: Asset, file: Path, provenance: Mapping[str, str | float], extras: usd.Extras
) -> tuple[Asset, Mapping[str, Number]]:
    """The asset as its file holds it, after the hash of its content was written into the file."""
    usd.write(asset, file, provenance, None, extras, layered=True)
    asset = replace(usd.read(file), content_hash=fingerprint(usd.read(file)))
    usd.write(asset, file, provenance, None, extras, layered=True)
    return asset, {"bytes": file.stat().st_size}


def _grasped(asset: Asset, solids: Mapping[str, Mesh]) -> tuple[Asset, Mapping[str, Number]]:
    """Adds grasps that are searched on closed solids, because the visual meshes need not be closed."""
    closed = replace(asset, bodies=tuple(replace(body, visual=solids.get(body.name, body.visual)) for body in asset.bodies))
    found, counted = antipodal.with_grasps(closed)
    return replace(asset, affordances=found.affordances), counted


_FLAGGED = ("rest", "push", "joint_creep", "joint_return", "joint_reach", "collider_fit")
"""Checks whose failure may follow from the values that a file states: such a failure is reported and does not refuse the asset."""


def _validated(
    asset: Asset, file: Path, *, foreign: bool
) -> tuple[tuple[dict[str, float], list[dict[str, str]]], Mapping[str, Number]]:
    """The measured behaviour, and the faults that are only reported."""
    found = behave.behave(asset)
    issues = [*validate.check(file), *behave.faults(asset, found)]
    told = (*_FLAGGED, "drop", "sink") if asset.movable_joints else _FLAGGED
    flags = [issue for issue in issues if foreign and issue.check in told]
    issues = [issue for issue in issues if issue not in flags]
    if issues:
        raise AssetError("validate: " + "; ".join(f"{issue.check} at {issue.prim}: {issue.message}" for issue in issues[:5]))
    measured = {name: value for name, value in asdict(found).items() if math.isfinite(value)}
    return (measured, [asdict(flag) for flag in flags]), {"issues": 0, "flags": len(flags)}


def _lifted(asset: Asset) -> tuple[dict[str, dict[str, Any]], Mapping[str, Number]]:
    lifts = {name: asdict(grasp.prove(asset, name)) for name in grasp.holds(asset)}
    return lifts, {"grasps": len(lifts), "held": sum(lift["held"] for lift in lifts.values())}


def _move_into_place(temporary: Path, final: Path) -> None:
    """Renames the folder into place; an older delivery moves aside. Of two processes that deliver at once, the last one stays."""
    for _ in range(3):
        aside = temporary.with_name(f"{temporary.name.removesuffix('.tmp')}.old.{os.getpid()}.tmp")
        try:
            if final.exists():
                final.rename(aside)
            temporary.rename(final)
        except OSError as error:
            failure = error
            continue
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return
    raise AssetError(f"deliver: cannot move {temporary.name} to {final}: {failure.strerror}")


def _sweep(out_dir: Path, name: str) -> None:
    """Removes the temporary folders that killed processes left of this asset."""
    for left in out_dir.glob(f".{name}.*.tmp"):
        owner = int(left.name.split(".")[-2])
        if owner == os.getpid() or not Path(f"/proc/{owner}").exists():
            shutil.rmtree(left, ignore_errors=True)


def fingerprint(asset: Asset) -> str:
    """Hash of everything that physics and cameras see of an asset, in single precision as in the file."""
    digest = hashlib.sha256()

    def add(*values: object) -> None:
        for value in values:
            if isinstance(value, np.ndarray):
                kind = np.int32 if value.dtype.kind == "i" else np.float32
                digest.update(np.ascontiguousarray(value, kind).tobytes())
            else:
                digest.update(repr(value).encode() + b"\0")

    add(asset.name, asset.category, asset.licence, asset.source)
    for body in asset.bodies:
        numbers = [body.mass, *body.center_of_mass, *body.diagonal_inertia, *body.principal_axes, *body.color]
        pose = [*body.body_pose.position, *body.body_pose.quaternion]
        material = body.material
        surface = [material.density, material.static_friction, material.dynamic_friction, material.restitution]
        add(body.name, material.name, np.array([*numbers, *pose, *surface]))
        for mesh in (body.visual, *body.hulls):
            add(mesh.vertices, mesh.faces)
            if mesh.shape:
                add(str(mesh.shape.kind), np.array([*mesh.shape.size, *mesh.shape.pose.position, *mesh.shape.pose.quaternion]))
        for surface in body.surfaces:
            rubs = [surface.density, surface.static_friction, surface.dynamic_friction, surface.restitution]
            add(surface.name, np.array(rubs))
    for joint in asset.joints:
        add(joint.name, str(joint.kind), joint.parent, joint.child)
        add(np.array([*joint.axis, *joint.anchor, joint.lower, joint.upper, joint.damping, joint.friction]))
        if joint.stiffness:
            add(np.array([joint.stiffness, joint.rest]))
        drive = [joint.effort, joint.velocity, joint.armature]
        if drive != [math.inf, math.inf, 0.0] or joint.mimic:
            add(np.array(drive), joint.mimic)
    if asset.apart:
        add(asset.apart)
    for name in sorted(asset.affordances):
        body, pose = asset.affordances[name]
        add(name, body, np.array([*pose.position, *pose.quaternion]))
    return digest.hexdigest()[:16]
