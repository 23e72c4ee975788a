"""Pictures by a rasteriser on the CPU: visible triangles in a depth buffer, shaded once, with soft shadows from one map a light.

It draws what `physics.render` draws, several times faster, and adds highlights, soft shadows and textures without moire. No GL
library, no window, no GPU; one thread, bitwise the same in any process on one kind of processor.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache

import mujoco
import numpy as np
from numpy.typing import NDArray

from embodichain.errors import SceneError
from embodichain.physics import raster_kernels as kernels
from embodichain.physics.painters import BACKGROUND
from embodichain.physics.triangles import Triangles

Floats = NDArray[np.float64]
_MAP_SIZE = 384
"""Texels along an edge of a shadow map."""
_MAP_STEP = 0.05
"""A shadow map's borders lie on multiples of this [m], so that what stands still is not drawn into it again at every picture."""
_ROOM = 1.5
"""A geom of the room that reaches farther than this [m] is floor or wall: it takes shadows and casts none."""
_LEVELS = 8
_DEFAULT_SPECULAR, _DEFAULT_SHININESS = 0.5, 0.5


class Rasteriser:
    """Draws one model from several of its cameras at once; owned by one thread. Implements `painters.Painter`.

    Args:
        model: The model; its cameras, colours, surfaces and lights are read at every picture, its shapes once.
        width: Width of every picture [pixels].
        height: Height of every picture [pixels].
        cameras: Names of cameras in the model, in the order of the pictures.
        shadows: Whether lights cast shadows.
        samples: Samples per pixel along each axis, 1 or 2. With 2 colours are smoothed; depth and geoms stay those of the centre.
        cull: Whether what a camera cannot see is left out; it changes no pixel.

    Raises SceneError for lights that shine from a point, and for geoms that are no solids: it draws neither.
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
        spots = np.flatnonzero(model.light_type != mujoco.mjtLightType.mjLIGHT_DIRECTIONAL)
        if spots.size:
            raise SceneError(f"light {spots[0]} shines from a point; the rasteriser draws lights that shine along a direction only")
        self._model = model
        self._shape = (len(cameras), height, width)
        self._cameras = [model.camera(name).id for name in cameras]
        self._shadows, self._fine, self._cull = shadows, samples == 2, cull
        self._triangles = Triangles.of(model)
        self._far = float(model.vis.map.zfar * model.stat.extent)
        counts = np.diff(self._triangles.first_face)
        self._still, self._moving = _casters(model, self._triangles.geoms)
        self._maps = np.empty((0, _MAP_SIZE, _MAP_SIZE), np.uint16)
        self._bases: dict[int, tuple[bytes, NDArray[np.uint16]]] = {}
        """By light: what its map without moving geoms was drawn from, and that map."""
        triangles = self._triangles
        self._solids = kernels.Solids(
            geoms=triangles.geoms,
            first_vertex=triangles.first_vertex,
            first_face=triangles.first_face,
            vertices=np.ascontiguousarray(triangles.vertices.T),
            faces=triangles.faces.astype(np.uint32),
            planes=triangles.planes(),
            normals=triangles.normals,
            coordinates=triangles.coordinates,
            owner=np.repeat(np.arange(len(counts), dtype=np.uint32), counts),
        )
        texels, levels = _pyramids(model)
        self._seen = kernels.Model(
            rbound=model.geom_rbound,
            rgba=model.geom_rgba,
            paint=np.empty((len(counts), 5), np.float32),
            surface=np.empty((len(counts), 4), np.float32),
            texels=texels,
            levels=levels,
        )
        rows, columns = (2 * height + 1, 2 * width + 1) if self._fine else (height, width)
        self._grid = [_places(width, columns), -_places(height, rows)]
        self._room = kernels.Room(
            moved=np.zeros((3, len(triangles.vertices)), np.float32),
            spots=np.zeros((2, len(triangles.vertices)), np.float32),
            turns=np.zeros((len(counts), 3, 3), np.float32),
            nearness=np.empty((rows, columns), np.float32),
            shown=np.empty((rows, columns), np.int32),
            chosen=np.zeros((rows, columns), np.bool_),
            colour=np.empty((rows, columns, 3), np.float32),
            lanes=np.zeros(kernels.LANES_SIZE, np.float32),
            places=np.empty((kernels.LANES, 2), np.int32),
            turn=np.empty((3, 3), np.float32),
            shift=np.empty(3, np.float32),
            away=np.empty(3),
            local=np.empty(3, np.float32),
            smooth=np.empty((3, 3), np.float32),
            uv=np.empty((3, 2), np.float32),
        )
        self._depth, self._geoms = np.empty((height, width), np.float32), np.empty((height, width), np.int32)

    def draw(
        self,
        data: mujoco.MjData,
        rgb: NDArray[np.uint8],
        depth: NDArray[np.float32] | None = None,
        geoms: NDArray[np.int32] | None = None,
    ) -> None:
        """Writes what the cameras see in the state `data`; see `painters.Painter`."""
        if rgb.shape != (*self._shape, 3) or (depth is not None and depth.shape != self._shape):
            got = (rgb.shape, None if depth is None else depth.shape)
            raise ValueError(f"this rasteriser draws rgb {(*self._shape, 3)} and depth {self._shape}, got arrays of {got}")
        model = self._model
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_camlight(model, data)
        self._read_surfaces()
        lights = self._cast_shadows(data)
        for number, camera in enumerate(self._cameras):
            self._draw_one(data, camera, lights, rgb[number])
            if depth is not None or geoms is not None:
                kernels.read(self._fine, self._solids, self._room, self._depth, self._geoms)
                if depth is not None:
                    depth[number] = self._depth
                if geoms is not None:
                    geoms[number] = self._geoms

    def _draw_one(self, data: mujoco.MjData, camera: int, lights: kernels.Lights, picture: NDArray[np.uint8]) -> None:
        model, room = self._model, self._room
        tan_y = float(np.tan(np.radians(model.cam_fovy[camera]) / 2.0))
        tan_x = tan_y * self._shape[2] / self._shape[1]
        dx, dy = (self._grid[0] * tan_x).astype(np.float32), (self._grid[1] * tan_y).astype(np.float32)
        eye, axes = data.cam_xpos[camera], data.cam_xmat[camera].reshape(3, 3)
        kernels.see(
            data.geom_xmat, data.geom_xpos, self._solids, self._seen, eye, axes, tan_x, tan_y, self._far, self._cull, dx, dy, room
        )
        grain = np.float32(2.0 if self._fine else 1.0)
        passes = ((1, 2, False), (0, 1, True)) if self._fine else ((0, 1, False),)
        for start, step, among_chosen in passes:
            if among_chosen:
                kernels.between(self._solids.owner, room)
            kernels.shade(start, step, grain, dx, dy, axes, eye, self._solids, self._seen, lights, room, among_chosen)
        kernels.develop(room.colour, self._fine, picture)

    def _read_surfaces(self) -> None:
        """Colour, gloss and texture of every visible geom as the model says now."""
        model, geoms = self._model, self._triangles.geoms
        material = model.geom_matid[geoms]
        rgba = model.geom_rgba[geoms]
        self._seen.paint[:, 3] = _DEFAULT_SPECULAR
        self._seen.paint[:, 4] = 128.0 * _DEFAULT_SHININESS
        self._seen.surface[:, 0] = -1.0
        having = np.flatnonzero(material >= 0)
        if having.size:
            chosen = material[having]
            unset = (rgba[having] == (0.5, 0.5, 0.5, 1.0)).all(axis=1)  # MuJoCo's way to say: as the material
            rgba[having[unset]] = model.mat_rgba[chosen[unset]]
            rough = model.mat_roughness[chosen]
            self._seen.paint[having, 3] = model.mat_specular[chosen]
            self._seen.paint[having, 4] = np.where(rough < 0.0, 128.0 * model.mat_shininess[chosen], _exponent(rough))
            self._seen.surface[having, 0] = model.mat_texid[chosen, int(mujoco.mjtTextureRole.mjTEXROLE_RGB)]
            stretch = self._triangles.stretch[having, model.mat_texuniform[chosen].astype(np.intp)]
            self._seen.surface[having, 1:3] = model.mat_texrepeat[chosen] * stretch
            self._seen.surface[having, 3] = self._triangles.offset[having]
        self._seen.paint[:, :3] = rgba[:, :3]

    # --------------------------------------------------------------------------------------------------------- shadows

    def _cast_shadows(self, data: mujoco.MjData) -> kernels.Lights:
        """The lights that shine, with their maps drawn."""
        model = self._model
        shining = np.flatnonzero(model.light_active)
        count = len(shining)
        if len(self._maps) < count:
            self._maps = np.empty((count, _MAP_SIZE, _MAP_SIZE), np.uint16)
        headlight = model.vis.headlight
        lit = float(headlight.active)
        lights = kernels.Lights(
            towards=-data.light_xdir[shining] / np.linalg.norm(data.light_xdir[shining], axis=1, keepdims=True),
            colour=model.light_diffuse[shining],
            mapped=np.zeros(count, np.bool_),
            texel=np.zeros(count, np.float32),
            maps=self._maps,
            frames=np.zeros((count, 3, 4)),
            aims=np.empty((count, 3), np.float32),
            matrices=np.empty((count, 3, 4), np.float32),
            ambient=(lit * headlight.ambient).astype(np.float32),
            head=(lit * headlight.diffuse).astype(np.float32),
            background=_BACKGROUND,
        )
        casting = len(self._still) + len(self._moving) > 0
        for row, light in enumerate(shining.tolist()):
            if not (self._shadows and model.light_castshadow[light] and casting):
                continue
            frame, texel = self._frame(data, -lights.towards[row])
            self._cast(data, light, frame, self._maps[row])
            lights.mapped[row], lights.texel[row], lights.frames[row] = True, texel, frame
        return lights

    def _frame(self, data: mujoco.MjData, forward: Floats) -> tuple[Floats, float]:
        """The space of a light's map from the world's, [3, 4], and its texel [m]: all casters lie in the map.

        Its borders lie on multiples of a step, so that it stays when something moves within them.
        """
        axes = _axes(forward)
        geoms = self._triangles.geoms[np.concatenate([self._still, self._moving])]
        boxes, turned = self._model.geom_aabb[geoms], axes @ data.geom_xmat[geoms].reshape(-1, 3, 3)
        centres = data.geom_xpos[geoms] @ axes.T + (turned @ boxes[:, :3, None])[..., 0]
        reach = (np.abs(turned) @ boxes[:, 3:, None])[..., 0]
        lower = np.floor((centres - reach).min(axis=0) / _MAP_STEP - 0.1) * _MAP_STEP
        upper = np.ceil((centres + reach).max(axis=0) / _MAP_STEP + 0.1) * _MAP_STEP
        texel = float((upper - lower)[:2].max()) / _MAP_SIZE
        scale = np.array((1.0 / texel, 1.0 / texel, float(kernels.DEEPEST) / (upper - lower)[2]))
        return np.column_stack([axes, -lower]) * scale[:, None] - ((0, 0, 0, 0.5), (0, 0, 0, 0.5), (0, 0, 0, 0)), texel

    def _cast(self, data: mujoco.MjData, light: int, frame: Floats, shade: NDArray[np.uint16]) -> None:
        """Draws one map: what stands still from memory if nothing of it has changed, then what moves."""
        model, still = self._model, self._triangles.geoms[self._still]
        parts = (frame, data.geom_xpos[still], data.geom_xmat[still], model.geom_rgba[still, 3])
        key = b"".join(part.tobytes() for part in parts)
        if self._bases.get(light, (b"",))[0] != key:
            base = np.full((_MAP_SIZE, _MAP_SIZE), _NOTHING, np.uint16)
            self._draw_casters(data, self._still, frame, base)
            self._bases[light] = (key, base)
        shade[:] = self._bases[light][1]
        self._draw_casters(data, self._moving, frame, shade)

    def _draw_casters(self, data: mujoco.MjData, places: NDArray[np.intp], frame: Floats, shade: NDArray[np.uint16]) -> None:
        kernels.cast(places, data.geom_xmat, data.geom_xpos, self._model.geom_rgba, self._solids, frame, self._room, shade)


_NOTHING = np.iinfo(np.uint16).max
_BACKGROUND = np.array(BACKGROUND[:3], np.float32)


def _places(pixels: int, samples: int) -> Floats:
    """Where samples lie along an axis, from -1 to 1 across the picture: pixel centres, or halfway between these too."""
    steps = np.arange(samples) if samples > pixels else 2 * np.arange(samples) + 1
    return steps / pixels - 1.0


def _exponent(roughness: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of the highlight of a surface of this roughness, 0 mirror to 1 matt (Karis 2013)."""
    return np.clip(2.0 / np.maximum(roughness, 0.05) ** 4 - 2.0, 1.0, 2000.0)


def _axes(forward: Floats) -> Floats:
    """Right, up and forward of a light as rows: right-handed with forward against the third axis."""
    least = np.eye(3)[np.abs(forward).argmin()]
    right = np.cross(forward, least)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(right, forward), forward])


def _casters(model: mujoco.MjModel, geoms: NDArray[np.int32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Places, among the visible geoms, of those that cast shadows: what stands still, and what moves."""
    bodies = model.geom_bodyid[geoms]
    fixed = (model.body_weldid[bodies] == 0) & (model.body_mocapid[model.body_rootid[bodies]] < 0)
    room = fixed & ((model.geom_type[geoms] == mujoco.mjtGeom.mjGEOM_PLANE) | (model.geom_rbound[geoms] > _ROOM))
    return np.flatnonzero(fixed & ~room), np.flatnonzero(~fixed)


def _pyramids(model: mujoco.MjModel) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """All textures, each in halves of halves: texels [P, 4] and levels as `kernels.Model` has them."""
    shapes = np.stack([model.tex_height, model.tex_width, model.tex_nchannel, model.tex_adr], axis=1).astype(np.int64)
    return _halved(model.tex_data.tobytes(), shapes.tobytes())


@lru_cache(maxsize=4)
def _halved(data: bytes, shapes: bytes) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The same for all models of the same textures: built once a process."""
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
            if height % 2 or width % 2:
                break
            pixels = pixels.reshape(height // 2, 2, width // 2, 2, 4).mean(axis=(1, 3))
    return np.concatenate(parts), levels


def warm_up() -> float:
    """Compiles the kernels, so that processes started later on this machine load them in milliseconds.

    Returns:
        Seconds it took: some ten at first, less than one ever after.
    """
    started = time.perf_counter()
    model = mujoco.MjModel.from_xml_string(
        '<mujoco><worldbody><light type="directional" dir="0 0 -1"/><camera name="eye" pos="0 0 1"/>'
        '<geom type="plane" size="1 1 1"/><body><freejoint/><geom size="0.1"/></body></worldbody></mujoco>'
    )
    rgb, depth = np.empty((1, 16, 16, 3), np.uint8), np.empty((1, 16, 16), np.float32)
    Rasteriser(model, width=16, height=16, cameras=("eye",), samples=2).draw(mujoco.MjData(model), rgb, depth)
    return time.perf_counter() - started
