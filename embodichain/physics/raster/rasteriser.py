"""A rasteriser on the CPU: a depth buffer of triangles, deferred shading, soft shadows from one shadow map for each light.

It draws the same scenes as `physics.render`, several times faster, with highlights, soft shadows and mipmapped textures. It needs
no GL library, window or GPU; it uses one thread and is bitwise the same in any process on the same kind of processor.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache

import mujoco
import numpy as np
from numpy.typing import NDArray

from embodichain.errors import SceneError
from embodichain.physics.decor.environments import SIZE, environment
from embodichain.physics.decor.furnish import PREFIX
from embodichain.physics.painter import BACKGROUND
from embodichain.physics.raster import ambience, parts, picture, views
from embodichain.physics.raster.shelf import SHELF
from embodichain.physics.raster.triangles import Triangles
from embodichain.physics.raster.views import CameraViews, Lamps
from embodichain.types.settings import Setting

_MAP_SIZE = 384
"""Edge length of a shadow map [texels]."""
_WALL = 1.5
"""A geom of the room that is larger than this [m] is a floor or wall: it receives shadows but casts none."""
_LEVELS = 8
_IN_SHADOW = 0.08
"""Share of a light that remains in its shadow where an environment lights it too."""


class Rasteriser:
    """Draws one model from several of its cameras at once; for one thread. Implements `painter.Painter`.

    Args:
        model: The model; its cameras, colours, surfaces and lights are read for every picture, its shapes only once.
        width: Width of every picture [pixels].
        height: Height of every picture [pixels].
        cameras: Names of cameras in the model, in the order of the pictures.
        shadows: Whether lights cast shadows.
        samples: Samples per pixel along each axis, 1 or 2. With 2, colours are antialiased; depth and geoms are those of the
        centre. cull: Whether to skip geoms outside of the view; it changes no pixel.

    Raises SceneError for point lights and for geoms that are not solid (height fields), which it cannot draw.
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
        cull: bool = True,
    ) -> None:
        if samples not in (1, 2):
            raise ValueError(f"the rasteriser takes 1 or 2 samples per pixel along each axis, got {samples}")
        points = np.flatnonzero(model.light_type != mujoco.mjtLightType.mjLIGHT_DIRECTIONAL)
        if points.size:
            raise SceneError(
                f"light {points[0]} shines from a point; the rasteriser draws lights that shine along a direction only"
            )
        self._model = model
        self._cameras = np.array([model.camera(name).id for name in cameras], np.int64)
        self._shadows, self._fine, self._cull = shadows, samples == 2, cull
        self.far = float(model.vis.map.zfar * model.stat.extent)
        triangles = Triangles.of(model)
        counts = np.diff(triangles.first_face)
        self.solids = parts.Solids(
            geoms=triangles.geoms,
            first_vertex=triangles.first_vertex,
            first_face=triangles.first_face,
            vertices=np.ascontiguousarray(triangles.vertices.T),
            # Unsigned, because the kernels then need no code for negative indices.
            faces=triangles.faces.astype(np.uint32),
            planes=triangles.planes(),
            owner=np.repeat(np.arange(len(counts), dtype=np.uint32), counts),
            rbound=model.geom_rbound,
            rgba=model.geom_rgba,
        )
        self._materials = parts.Materials(
            geom_matid=model.geom_matid,
            rgba=model.mat_rgba,
            specular=model.mat_specular,
            shininess=model.mat_shininess,
            roughness=model.mat_roughness,
            texid=model.mat_texid,
            texuniform=model.mat_texuniform,
            texrepeat=model.mat_texrepeat,
            stretch=triangles.stretch,
            offset=triangles.offset,
        )
        texels, levels = _pyramids(model)
        self.skins = parts.Skins(
            normals=triangles.normals,
            coordinates=triangles.coordinates,
            paint=np.zeros((len(counts), 5), np.float32),
            surface=np.zeros((len(counts), 4), np.float32),
            texels=texels,
            levels=levels,
        )
        self.lights = _lights(model, triangles.geoms)
        self._own_skins = self.skins
        self._around = ambience.plain(len(counts))
        self._setting: Setting | None = None
        self._room = _room(triangles, *((2 * height + 1, 2 * width + 1) if self._fine else (height, width)))
        self._rgb = np.empty((len(cameras), height, width, 3), np.uint8)
        self._depth = np.empty((len(cameras), height, width), np.float32)
        self._geoms = np.empty((len(cameras), height, width), np.int32)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of its pictures, [C, h, w, 3]."""
        cameras, height, width, channels = self._rgb.shape
        return cameras, height, width, channels

    def dress(self, setting: Setting | None) -> None:
        """Takes textures and light from a setting, for all pictures until the next call; None for the model's own.

        Raises SceneError for an environment map or a texture that does not exist.
        """
        around = self._around
        self._setting = setting
        if setting is None:
            around.on[:] = 0
            around.numbers[4] = ambience.plain(0).numbers[4]
            self.skins = self._own_skins
            return
        found = environment(setting.environment)
        around.diffuse[:] = np.float32(setting.strength) * found.diffuse
        self._around = around._replace(tables=found.tables)
        around.size[0] = SIZE
        around.numbers[:] = (setting.strength, np.cos(setting.turn), np.sin(setting.turn), setting.softness, _IN_SHADOW)
        around.on[:] = 1, len(setting.glass) > 0
        self.skins = self._own_skins._replace(texels=SHELF.texels, levels=SHELF.levels)

    def _furnish(self) -> None:
        """Before a picture of a setting: its textures on the shelf, and the metals among its geoms."""
        model, geoms = self._model, self.solids.geoms
        used = model.geom_matid[geoms]
        textured = model.mat_texid[used[used >= 0], 1]
        SHELF.hold(np.unique(textured[textured >= 0]).tolist())
        self._around.mirror[:] = np.where(used >= 0, model.mat_metallic[used], 0.0)

    def draw(
        self,
        data: mujoco.MjData,
        rgb: NDArray[np.uint8],
        depth: NDArray[np.float32] | None = None,
        geoms: NDArray[np.int32] | None = None,
    ) -> None:
        """Renders the cameras in the state `data`; see `painter.Painter`."""
        if rgb.shape != self._rgb.shape or (depth is not None and depth.shape != self._depth.shape):
            got = (rgb.shape, None if depth is None else depth.shape)
            raise ValueError(f"this rasteriser draws rgb {self._rgb.shape} and depth {self._depth.shape}, got arrays of {got}")
        if self._setting is not None:
            self._furnish()
        self._pose(data)
        model, read = self._model, depth is not None or geoms is not None
        picture.draw(
            self._cameras, data.cam_xpos, data.cam_xmat, model.cam_fovy, self.far, self._cull, self._fine, read,
            model.light_active, data.geom_xmat, data.geom_xpos, self.solids, self.skins, self.lights,
            self._around, self._room, self._rgb, self._depth, self._geoms,
        )  # fmt: skip
        # Kernels write our own contiguous arrays: for an array of another layout numba would compile them again.
        rgb[...] = self._rgb
        if depth is not None:
            depth[...] = self._depth
        if geoms is not None:
            geoms[...] = self._geoms

    def place(self, data: mujoco.MjData, frame: int, shot: CameraViews, lamps: Lamps) -> None:
        """Instead of drawing, writes the poses of everything in the state `data` as frame `frame`, from which a GPU draws the
        cameras.

        Surfaces are read from the model into `skins`.
        """
        self._pose(data)
        model = self._model
        for number, camera in enumerate(self._cameras):
            views.place(
                frame * len(self._cameras) + number, data.cam_xpos[camera], data.cam_xmat[camera].reshape(3, 3),
                float(model.cam_fovy[camera]), self.far, data.geom_xmat, data.geom_xpos, self.solids, self.lights, shot, self._room,
            )  # fmt: skip
        views.lamp(frame, data.geom_xmat, data.geom_xpos, self.solids, self.lights, lamps, self._room)

    def _pose(self, data: mujoco.MjData) -> None:
        """Finds poses, surfaces and lights of a state."""
        model, lights = self._model, self.lights
        # A state set through qpos alone has no poses yet; only these three functions are needed, not a whole mj_forward.
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_camlight(model, data)
        headlight = model.vis.headlight
        lights.ambient[:] = headlight.ambient if headlight.active else 0.0
        lights.head[:] = headlight.diffuse if headlight.active else 0.0
        picture.prepare(
            model.light_active, model.light_castshadow, model.light_diffuse, self._shadows, data.light_xdir, data.geom_xmat,
            data.geom_xpos, model.geom_aabb, self.solids, self._materials, self.skins, lights,
        )  # fmt: skip

    @staticmethod
    def warm_up() -> float:
        """Compiles the kernels, so that processes started later on this machine load them in milliseconds.

        Returns:
            Time taken [s]: about ten the first time, then less than one.
        """
        started = time.perf_counter()
        model = mujoco.MjModel.from_xml_string(
            '<mujoco><worldbody><light type="directional" dir="0 0 -1"/><camera name="eye" pos="0 0 1"/>'
            '<geom type="plane" size="1 1 1"/><body><freejoint/><geom size="0.1"/></body></worldbody></mujoco>'
        )
        rgb, depth = np.empty((1, 16, 16, 3), np.uint8), np.empty((1, 16, 16), np.float32)
        Rasteriser(model, width=16, height=16, cameras=("eye",), samples=2).draw(mujoco.MjData(model), rgb, depth)
        return time.perf_counter() - started


class FineRasteriser(Rasteriser):
    """A rasteriser that always smooths colours by 2 x 2 samples a pixel. It has a name of its own, so that records can state it."""

    def __init__(
        self, model: mujoco.MjModel, *, width: int, height: int, cameras: Sequence[str], shadows: bool = True, samples: int = 2
    ) -> None:
        super().__init__(model, width=width, height=height, cameras=cameras, shadows=shadows, samples=2)


def _room(triangles: Triangles, rows: int, columns: int) -> parts.Room:
    vertices, geoms = len(triangles.vertices), len(triangles.geoms)
    return parts.Room(
        moved=np.zeros((3, vertices), np.float32),
        spots=np.zeros((2, vertices), np.float32),
        turns=np.zeros((geoms, 3, 3), np.float32),
        dx=np.empty(columns, np.float32),
        dy=np.empty(rows, np.float32),
        nearness=np.empty((rows, columns), np.float32),
        shown=np.empty((rows, columns), np.int32),
        chosen=np.zeros((rows, columns), np.bool_),
        colour=np.empty((rows, columns, 3), np.float32),
        behind=np.empty((rows, columns, 3), np.float32),
        lanes=np.zeros(parts.QUANTITIES * parts.LANES, np.float32),
        places=np.empty((parts.LANES, 2), np.int32),
        corners=np.empty(4 * parts.LANES, np.int32),
        turn=np.empty((3, 3), np.float32),
        shift=np.empty(3, np.float32),
        away=np.empty(3),
        local=np.empty(3, np.float32),
        smooth=np.empty((3, 3), np.float32),
        uv=np.empty((3, 2), np.float32),
    )


def _lights(model: mujoco.MjModel, geoms: NDArray[np.int32]) -> parts.Lights:
    """Allocates the arrays of all lights, and divides the visible geoms that cast shadows into still and moving ones."""
    bodies = model.geom_bodyid[geoms]
    # Welded to the world and not a mocap body: nothing but the caller setting geom poses moves it.
    fixed = (model.body_weldid[bodies] == 0) & (model.body_mocapid[model.body_rootid[bodies]] < 0)
    decor = np.array([model.geom(int(geom)).name.startswith(PREFIX) for geom in geoms], bool)
    wall = fixed & (decor | (model.geom_type[geoms] == mujoco.mjtGeom.mjGEOM_PLANE) | (model.geom_rbound[geoms] > _WALL))
    still, moving = np.flatnonzero(fixed & ~wall).astype(np.int64), np.flatnonzero(~fixed).astype(np.int64)
    count = model.nlight
    return parts.Lights(
        count=np.zeros(1, np.int64),
        towards=np.zeros((count, 3)),
        colour=np.zeros((count, 3), np.float32),
        mapped=np.zeros(count, np.bool_),
        texel=np.zeros(count, np.float32),
        frames=np.zeros((count, 3, 4)),
        maps=np.empty((count, _MAP_SIZE, _MAP_SIZE), np.uint16),
        still=still,
        moving=moving,
        bases=np.empty((count, _MAP_SIZE, _MAP_SIZE), np.uint16),
        # NaN equals nothing, so that the first image draws every base.
        kept=np.full((count, 12 + 13 * len(still)), np.nan),
        aims=np.zeros((count, 3), np.float32),
        matrices=np.zeros((count, 3, 4), np.float32),
        ambient=np.zeros(3, np.float32),
        head=np.zeros(3, np.float32),
        background=np.array(BACKGROUND[:3], np.float32),
    )


def _pyramids(model: mujoco.MjModel) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Mipmaps of all textures: texels [P, 4] and levels as in `parts.Skins`."""
    shapes = np.stack([model.tex_height, model.tex_width, model.tex_nchannel, model.tex_adr], axis=1).astype(np.int64)
    return _halved(model.tex_data.tobytes(), shapes.tobytes())


@lru_cache(maxsize=4)
def _halved(data: bytes, shapes: bytes) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Cached mipmaps, shared in a process by all models with the same textures."""
    found = np.frombuffer(shapes, np.int64).reshape(-1, 4)
    levels = np.zeros((max(len(found), 1), _LEVELS, 3), np.int32)
    parts: list[NDArray[np.float32]] = [np.zeros((1, 4), np.float32)]
    start = 1
    for texture, (height, width, channels, address) in enumerate(found.tolist()):
        pixels = np.frombuffer(data, np.uint8, height * width * channels, address).reshape(height, width, channels)
        pixels = np.pad(pixels, ((0, 0), (0, 0), (0, 4)))[..., :4].astype(np.float32) / np.float32(255.0)
        for level in range(_LEVELS):
            height, width = pixels.shape[:2]
            levels[texture, level] = (start, width, height)
            parts.append(pixels.reshape(-1, 4))
            start += height * width
            # Odd sizes have no exact halves; coarser levels are then missing and the last one is used.
            if height % 2 or width % 2:
                break
            pixels = pixels.reshape(height // 2, 2, width // 2, 2, 4).mean(axis=(1, 3))
    return np.concatenate(parts), levels
