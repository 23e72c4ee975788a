"""Files beside a USD file for programs without USD: a JSON report with a published schema, and grasps as `isaac_grasp` YAML."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import yaml

import embodichain
from embodichain.assets.chain.record import StageReport
from embodichain.assets.physical.grasp import GripperConfig
from embodichain.types import Asset, Joint, Pose

FORMAT = "embodichain/asset/1"
_SCHEMA_FILE = Path(__file__).with_name("asset.schema.json")


@cache
def schema() -> Mapping[str, Any]:
    """The JSON Schema (draft 2020-12) that every sidecar follows."""
    return json.loads(_SCHEMA_FILE.read_text())


def report(
    asset: Asset,
    *,
    key: str,
    usd_sha256: str,
    parameters: Mapping[str, float | str],
    behaviour: Mapping[str, float],
    grasps: Mapping[str, Mapping[str, Any]],
    stages: Sequence[StageReport],
    seconds: float,
    score: Mapping[str, Any] | None = None,
    flags: Sequence[Mapping[str, str]] = (),
    fidelity: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Everything known about a delivered asset, as plain values."""
    low, high = asset.bounds
    return {
        "format": FORMAT,
        "name": asset.name,
        "category": asset.category,
        "key": key,
        "content_hash": asset.content_hash,
        "usd_sha256": usd_sha256,
        "engine_version": embodichain.__version__,
        "licence": asset.licence,
        "source": asset.source,
        "parameters": dict(parameters),
        "mass": sum(body.mass for body in asset.bodies),
        "extents": (high - low).tolist(),
        "bodies": [
            {
                "name": body.name,
                "mass": body.mass,
                "center_of_mass": list(body.center_of_mass),
                "diagonal_inertia": list(body.diagonal_inertia),
                "principal_axes": list(body.principal_axes),
                "material": asdict(body.material),
                **({"surfaces": [asdict(surface) for surface in body.surfaces]} if body.surfaces else {}),
                "hulls": len(body.hulls),
                "shapes": [str(hull.shape.kind) for hull in body.hulls if hull.shape],
                "faces": len(body.visual.faces),
                "pose": _pose(body.body_pose),
            }
            for body in asset.bodies
        ],
        "joints": [_joint(joint) for joint in asset.joints],
        "apart": [list(pair) for pair in asset.apart],
        "affordances": {name: {"body": owner, **_pose(pose)} for name, (owner, pose) in asset.affordances.items()},
        "grasps": {name: dict(lift) for name, lift in grasps.items()},
        "behaviour": dict(behaviour),
        "score": dict(score) if score else None,
        "flags": [dict(flag) for flag in flags],
        "fidelity": [dict(row) for row in fidelity],
        "seconds": seconds,
        "stages": [asdict(entry) for entry in stages],
    }


def isaac_grasps(asset: Asset, grasps: Mapping[str, Mapping[str, Any]], gripper: GripperConfig | None = None) -> str:
    """The grasps that held, in the format that Isaac Sim's and Isaac ROS's tools read; confidence is the success rate of the lifts.

    Positions [m] and orientations are those of the gripper's frame (Z approaches, Y closes) in the frame of the grasped body.
    The single joint value is the distance of a finger from the middle [m].
    """
    gripper = gripper or GripperConfig()
    entries = {}
    for name, lift in grasps.items():
        owner, pose = asset.affordances[name]
        w, x, y, z = (round(value, 9) for value in pose.quaternion)
        entries[name] = {
            "confidence": float(lift.get("success_rate", 1.0 if lift["held"] else 0.0)),
            "object_frame": f"/{asset.name}/{owner}",
            "position": [round(value, 9) for value in pose.position],
            "orientation": {"w": w, "xyz": [x, y, z]},
            "cspace_position": {"finger_joint": 0.0},
            "pregrasp_cspace_position": {"finger_joint": gripper.opening / 2},
        }
    kept = {name: entry for name, entry in entries.items() if grasps[name]["held"]}
    values = {
        "format": "isaac_grasp",
        "format_version": 1.0,
        "object_frame": f"/{asset.name}",
        "gripper_frame": "/gripper/tip",
        "object_file": f"{asset.name}.usd",
        "grasps": kept,
    }
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _pose(pose: Pose) -> dict[str, list[float]]:
    return {"position": list(pose.position), "quaternion": list(pose.quaternion)}


def _joint(joint: Joint) -> dict[str, Any]:
    """A joint as plain values; an infinite limit becomes null, because JSON has no infinity."""
    values = {**asdict(joint), "kind": str(joint.kind)}
    return {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()}
