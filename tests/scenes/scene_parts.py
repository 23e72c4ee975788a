"""Box-built assets of the categories that the tasks ask for, and what samples scenes of them: real parts, made in milliseconds."""

from pathlib import Path

import numpy as np
import trimesh

from embodichain.robots import dual_piper
from embodichain.scenes.reach import ReachConfig, ReachTable
from embodichain.scenes.sample import SceneSampler
from embodichain.types import Asset, Body, Joint, JointKind, Material, Mesh, Pose

ROBOT = dual_piper()
COARSE = ReachConfig(spacing=0.1, tilts=(0.0, 35.0), azimuths=6, yaws=4, seeds=8)
PLASTIC = Material(name="plastic", density=1000.0, static_friction=0.5, dynamic_friction=0.4, restitution=0.2)
RUBBER = Material(name="rubber", density=450.0, static_friction=0.9, dynamic_friction=0.8, restitution=0.1)
DOWN = (0.0, 0.0, 1.0, 0.0)
"""Approach straight down, fingers closing along Y."""


def box(size, center) -> trimesh.Trimesh:
    return trimesh.creation.box(extents=size, transform=trimesh.transformations.translation_matrix(center))


def mesh(source: trimesh.Trimesh) -> Mesh:
    return Mesh(vertices=np.array(source.vertices, np.float64), faces=np.array(source.faces, np.int32))


def body(name: str, *pieces: trimesh.Trimesh, mass: float, material: Material = PLASTIC, pose: Pose | None = None) -> Body:
    """One body whose convex pieces are both what is seen and what collides."""
    whole = trimesh.util.concatenate(pieces)
    assert isinstance(whole, trimesh.Trimesh)
    whole.density = mass / whole.volume
    x, y, z = (float(v) for v in whole.center_mass)
    a, b, c = (float(v) for v in np.diag(whole.moment_inertia))
    return Body(
        name=name,
        mass=mass,
        center_of_mass=(x, y, z),
        diagonal_inertia=(a, b, c),
        principal_axes=(1.0, 0.0, 0.0, 0.0),
        visual=mesh(whole),
        hulls=tuple(mesh(piece) for piece in pieces),
        material=material,
        body_pose=pose or Pose(),
    )


def switch(reach: float = 0.066) -> Asset:
    knob = trimesh.creation.cylinder(radius=0.0095, height=0.024, sections=32)
    knob.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, (1, 0, 0)))
    knob.apply_translation((0, 0, reach))
    base = body("base", box((0.10, 0.075, 0.018), (0, 0, 0.009)), mass=0.15)
    lever = body("lever", box((0.008, 0.012, reach), (0, 0, reach / 2)), knob, mass=0.014, pose=Pose(position=(0.0, 0.0, 0.03)))
    turns = {"axis": (0.0, 1.0, 0.0), "lower": -0.5, "upper": 0.5, "damping": 0.002, "friction": 0.02}
    return Asset(
        name=f"switch_{round(1000 * reach)}",
        category="switch",
        bodies=(base, lever),
        joints=(
            Joint(name="mount", kind=JointKind.FIXED, parent="", child="base"),
            Joint(name="lever", kind=JointKind.REVOLUTE, parent="base", child="lever", **turns),
        ),
        affordances={"lever_tip": ("lever", Pose(position=(0.0, 0.0, reach), quaternion=DOWN))},
        content_hash=f"switch{reach}",
    )


def mouse(length: float = 0.1) -> Asset:
    return Asset(
        name=f"mouse_{round(1000 * length)}",
        category="mouse",
        bodies=(body("body", box((length, 0.057, 0.034), (0, 0, 0.017)), mass=0.09),),
        affordances={"grasp": ("body", Pose(position=(0.0, 0.0, 0.016), quaternion=DOWN))},
        content_hash=f"mouse{length}",
    )


def pad(length: float = 0.22) -> Asset:
    return Asset(
        name=f"pad_{round(1000 * length)}",
        category="pad",
        bodies=(body("body", box((length, 0.18, 0.003), (0, 0, 0.0015)), mass=0.055, material=RUBBER),),
        affordances={"center": ("body", Pose(position=(0.0, 0.0, 0.003), quaternion=DOWN))},
        content_hash=f"pad{length}",
    )


def assets() -> list[Asset]:
    return [switch(0.062), switch(0.07), mouse(0.096), mouse(0.104), pad(0.21), pad(0.23)]


def make_sampler(cache_dir: Path, **options) -> SceneSampler:
    return SceneSampler(ROBOT, assets(), ReachTable.load_or_build(ROBOT, COARSE, cache_dir=cache_dir), **options)
