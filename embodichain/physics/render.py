"""The ray caster of mujoco-warp on the CPU, with MuJoCo's state as input. Beside `physics.warp` the only file that imports warp.

It needs no GL library, window or GPU. Rays are cast against the visible geoms (groups 0 to 2; collision hulls are in group 3).
Pictures are bitwise the same in any process on the same kind of processor.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mujoco
import mujoco_warp as mjw
import numpy as np
import warp as wp
from numpy.typing import NDArray

from embodichain.physics.build import FREE_CAMERA
from embodichain.physics.painter import BACKGROUND
from embodichain.physics.warp.begin import start_warp
from embodichain.physics.world import compile_studio
from embodichain.types import Asset, Body, Material, Mesh, Vec3

_THUMBNAIL_SAMPLES = 3
# All types of geoms, whether a model has them or not, so that one kernel serves all models instead of one for each combination.
_RAY_TYPES = tuple(
    int(kind)
    for kind in (
        mujoco.mjtGeom.mjGEOM_PLANE,
        mujoco.mjtGeom.mjGEOM_SPHERE,
        mujoco.mjtGeom.mjGEOM_CAPSULE,
        mujoco.mjtGeom.mjGEOM_ELLIPSOID,
        mujoco.mjtGeom.mjGEOM_CYLINDER,
        mujoco.mjtGeom.mjGEOM_BOX,
        mujoco.mjtGeom.mjGEOM_MESH,
    )
)
_KERNELS: dict[tuple, Any] = {}
"""Compiled kernels by their specialisation; shared by all renderers of a process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewpoint:
    """A free camera: it stands at `eye` [m] and looks at `target` [m], upright; `fovy` is the vertical field of view [degrees]."""

    eye: Vec3
    target: Vec3
    fovy: float = 45.0


class Renderer:
    """Draws one model from several of its cameras at once; for one thread. Implements `painter.Painter`.

    Args:
        model: The model; its cameras, colours, surfaces and lights are read for every picture.
        width: Width of every picture [pixels].
        height: Height of every picture [pixels].
        cameras: Names of cameras in the model, in the order of the pictures.
        shadows: Whether lights cast shadows.
        samples: Rays per pixel along each axis: n * n rays are averaged.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        *,
        width: int,
        height: int,
        cameras: Sequence[str],
        shadows: bool = True,
        samples: int = 1,
    ) -> None:
        start_warp()
        self._model = model
        self._shape = (len(cameras), height, width)
        with wp.ScopedDevice("cpu"):
            self._warp_model = mjw.put_model(model)
            self._warp_data = mjw.make_data(model, nworld=1, nconmax=1, njmax=1)  # used only for poses, so no room for contacts
            self._context = mjw.create_render_context(
                model,
                nworld=1,
                cam_res=(width, height),
                cam_active=list(cameras),
                render_rgb=True,
                render_depth=True,
                render_seg=True,
                use_textures=True,
                use_shadows=shadows,
                use_fast_math=False,
                background_color=BACKGROUND,
                enable_specular=False,
                enable_emission=False,
                enable_per_light_ambient=False,
                samples_per_pixel=samples,
            )
        _share_kernel(self._warp_model, self._context)
        names = ("geom_xpos", "geom_xmat", "cam_xpos", "cam_xmat", "light_xpos", "light_xdir")
        self._poses = [(name, getattr(self._warp_data, name).numpy()) for name in names]
        looks = ("geom_rgba", "light_active", "light_diffuse", "mat_texid")
        self._looks = [(name, getattr(self._warp_model, name).numpy()) for name in looks]
        self._cameras = [model.camera(name).id for name in cameras]
        self._fovy = model.cam_fovy[self._cameras].copy()
        rays = self._context.ray.numpy()
        self._rays = rays.reshape(samples * samples, len(cameras), height * width, 3)
        self._plane = self._rays[..., :2] / -self._rays[..., 2:]
        self._half_heights = np.tan(np.radians(self._fovy) / 2)
        # The context packs a pixel as 0xAARRGGBB, so that blue comes first in memory.
        self._pixels = self._context.rgb_data.numpy().view(np.uint8).reshape(*self._shape, 4)[..., 2::-1]
        self._depth = self._context.depth_data.numpy().reshape(self._shape)
        self._geoms = self._context.seg_data.numpy().reshape(*self._shape, 2)[..., 0]

    def draw(
        self,
        data: mujoco.MjData,
        rgb: NDArray[np.uint8],
        depth: NDArray[np.float32] | None = None,
        geoms: NDArray[np.int32] | None = None,
    ) -> None:
        """Renders the cameras in the state `data`; see `painter.Painter`."""
        if rgb.shape != (*self._shape, 3) or (depth is not None and depth.shape != self._shape):
            got = (rgb.shape, None if depth is None else depth.shape)
            raise ValueError(f"this renderer draws rgb {(*self._shape, 3)} and depth {self._shape}, got arrays of {got}")
        self._zoom()
        mujoco.mj_kinematics(self._model, data)
        mujoco.mj_comPos(self._model, data)
        mujoco.mj_camlight(self._model, data)
        for name, view in self._poses:
            view[0] = getattr(data, name).reshape(view.shape[1:])
        for name, view in self._looks:
            view[0] = getattr(self._model, name)
            if name == "mat_texid":  # textures of the library are not in the model: such surfaces are plain here
                view[0][view[0] >= self._model.ntex] = -1
        with wp.ScopedDevice("cpu"):
            mjw.refit_bvh(self._warp_model, self._warp_data, self._context)
            mjw.render(self._warp_model, self._warp_data, self._context)
        rgb[...] = self._pixels
        if depth is not None:
            depth[...] = self._depth
        if geoms is not None:
            geoms[...] = self._geoms

    def _zoom(self) -> None:
        """Applies changed fields of view by scaling the stored ray directions with the tangent of half the angle."""
        fovy = self._model.cam_fovy[self._cameras]
        if np.array_equal(fovy, self._fovy):
            return
        self._fovy = fovy.copy()
        scale = np.tan(np.radians(fovy) / 2) / self._half_heights
        plane = self._plane * scale[:, None, None]
        depth = 1.0 / np.sqrt(1.0 + np.sum(plane * plane, axis=-1, keepdims=True))
        self._rays[..., :2] = plane * depth
        self._rays[..., 2:] = -depth


def _share_kernel(warp_model: Any, context: Any) -> None:
    """Reuses a kernel with the same specialisation, because loading one costs more than drawing a picture."""
    context.geom_ray_types = _RAY_TYPES
    key = (
        warp_model.nlight,
        context.samples_per_pixel > 1,
        context.znear,
        context.zfar,
        context.has_spot_lights,
        context.light_attenuation_is_default,
        context.headlight_active,
        *(tuple(value) for value in (context.headlight_ambient, context.headlight_diffuse)),
        context.has_orthographic_camera,
    )
    if key not in _KERNELS:
        _KERNELS[key] = mjw._src.render._build_megakernel(warp_model, context)
    context._megakernel = _KERNELS[key]


def point_camera(model: mujoco.MjModel, viewpoint: Viewpoint) -> None:
    """Moves the free camera of a model to `viewpoint`."""
    backward = np.subtract(viewpoint.eye, viewpoint.target)
    backward = backward / np.linalg.norm(backward)
    right = np.cross((0.0, 0.0, 1.0), backward)
    if np.linalg.norm(right) < 1e-6:  # looking straight down, where "upright" is undefined: +X is up in the picture
        right = np.array((0.0, -1.0, 0.0))
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(backward, right), backward], axis=1)
    camera = model.camera(FREE_CAMERA)
    camera.pos = viewpoint.eye
    camera.fovy = viewpoint.fovy
    mujoco.mju_mat2Quat(camera.quat, rotation.ravel())


def thumbnail(asset: Asset, size: int = 192) -> NDArray[np.uint8]:
    """Renders one asset on neutral ground, its joints at zero: uint8 [size, size, 3]."""
    lower, upper = asset.bounds
    center = (lower + upper) / 2
    fovy = 30.0
    distance = 1.15 * float(np.linalg.norm(upper - lower)) / 2 / np.sin(np.radians(fovy / 2))
    direction = np.array((0.55, -0.72, 0.45)) / np.linalg.norm((0.55, -0.72, 0.45))
    eye_x, eye_y, eye_z = (center + distance * direction).tolist()
    x, y, z = center.tolist()
    model = compile_studio(asset)
    point_camera(model, Viewpoint(eye=(eye_x, eye_y, eye_z), target=(x, y, z), fovy=fovy))
    renderer = Renderer(model, width=size, height=size, cameras=(FREE_CAMERA,), samples=_THUMBNAIL_SAMPLES)
    rgb = np.empty((1, size, size, 3), np.uint8)
    renderer.draw(mujoco.MjData(model), rgb)
    return rgb[0]


def warm_up(cache_dir: Path | None = None) -> float:
    """Compiles the ray caster's kernels, so that processes started later on this machine load them in milliseconds.

    Args:
        cache_dir: Folder of the compiled kernels; None for warp's default in the user's home. Child processes inherit it through
            `WARP_CACHE_PATH`. It has no effect in a process that has already rendered.

    Returns:
        Time taken [s]: about ten the first time, then less than one.
    """
    started = time.perf_counter()
    if cache_dir is not None:
        cache_dir.mkdir(parents=True, exist_ok=True)
        os.environ["WARP_CACHE_PATH"] = str(cache_dir)
    vertices = np.array([(x, y, z) for x in (0.0, 1.0) for y in (0.0, 1.0) for z in (0.0, 1.0) if x + y + z < 1.5])
    tetrahedron = Mesh(vertices=vertices, faces=np.array([(0, 2, 3), (0, 3, 1), (0, 1, 2), (1, 3, 2)], np.int32)[:, ::-1])
    body = Body(
        name="body",
        mass=1.0,
        center_of_mass=(0.25, 0.25, 0.25),
        diagonal_inertia=(1.0, 1.0, 1.0),
        principal_axes=(1.0, 0.0, 0.0, 0.0),
        visual=tetrahedron,
        hulls=(tetrahedron,),
        material=Material(name="warm", density=1.0, static_friction=0.5, dynamic_friction=0.5, restitution=0.0),
    )
    asset = Asset(name="warm", category="warm", bodies=(body,))
    thumbnail(asset, 16)
    model = compile_studio(asset)
    Renderer(model, width=16, height=16, cameras=(FREE_CAMERA,)).draw(mujoco.MjData(model), np.empty((1, 16, 16, 3), np.uint8))
    return time.perf_counter() - started
