"""Time-varying visual effects of a scene: drifting light and exposure, shaking cameras, noise on every picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import mujoco
import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from embodichain.errors import SceneError
from embodichain.physics import noise, sensors
from embodichain.types import CONTROL_HZ, CameraLook, Looks, NoiseSource, Scene

Floats = NDArray[np.float64]


class Exposure(NamedTuple):
    """The changes of a picture after it is drawn."""

    stops: float
    """Exposure [stops]."""
    amplitude: int = 0
    """Factor of hashed noise, see `noise.develop`; 0 for none."""
    key: int = 0

    @property
    def gain(self) -> int:
        """The factor of the exposure, as `noise.develop` takes it."""
        return noise.gain_of(self.stops)


_LONGEST_S = 60.0
"""The paths of drifting values have this length; later values stay constant."""


class Film:
    """The visual effects of one scene; owned by the physics that holds the scene."""

    def __init__(
        self, model: mujoco.MjModel, scene: Scene, cameras: dict[str, tuple[Floats, Floats, float]], control_hz: int
    ) -> None:
        """`cameras` by name: position [m], quaternion and field of view [degrees] as compiled.

        Effects change `control_hz` times a second. Raises SceneError when the scene names a camera that the robot does not have.
        """
        looks = scene.looks
        unknown = sorted(set(looks.cameras) - set(cameras))
        if unknown:
            raise SceneError(f"scene {scene.seed} changes camera {unknown[0]!r}; the robot has {', '.join(cameras)}")
        self._scene = scene
        self._control_hz = control_hz
        self._ids = {name: model.camera(f"robot/{name}").id for name in cameras}
        self._rest: dict[str, tuple[Floats, Floats]] = {}
        for name, (position, quaternion, fovy) in cameras.items():
            look = looks.cameras.get(name, CameraLook())
            index = self._ids[name]
            moved = np.empty(3)
            mujoco.mju_rotVecQuat(moved, np.array(look.shift), quaternion)
            self._rest[name] = (position + moved, _turned(quaternion, np.array(look.turn)))
            model.cam_pos[index], model.cam_quat[index] = self._rest[name]
            model.cam_fovy[index] = math.degrees(2.0 * math.atan(math.tan(math.radians(fovy) / 2.0) / look.zoom))
        wander = looks.wander
        deviations = [wander.brightness, wander.warmth, wander.direction, wander.direction, wander.exposure]
        deviations += [wander.shake] * (3 * len(cameras))
        self._paths = _wandering(wander.seed, np.array(deviations), wander.time_constant_s, control_hz)
        if looks.sensor is not None and looks.sensor.smooth:
            # The cameras' columns alone: light and exposure keep their paths.
            shakes = _wandering(wander.seed, np.array(deviations), wander.time_constant_s, control_hz, looks.sensor.smooth)[:, 5:]
            self._paths = np.concatenate([self._paths[:, :5], shakes], axis=1)
        drift = 0.0 if looks.sensor is None else looks.sensor.depth_drift
        # A seed of its own beside the paths: nothing else shifts when depth drifts.
        self._drift = _wandering(wander.seed ^ 0x5DEECE66, np.array((drift,)), 10.0, control_hz, 2)
        self._changes = bool(np.any(self._paths))
        self._developed = looks.exposure != 0.0 or looks.noise != 0.0 or wander.exposure != 0.0

    @property
    def looks(self) -> Looks:
        """The looks of the scene."""
        return self._scene.looks

    def pose(self, model: mujoco.MjModel, time_s: float) -> None:
        """Writes lights and cameras as of `time_s` [s] into the model."""
        if not self._changes:
            return
        brightness, warmth, *tilt = self._now(time_s)[:4]
        channels = np.exp(brightness + np.array((warmth / 2, 0.0, -warmth / 2)))
        for number, light in enumerate(self._scene.lights):
            model.light_diffuse[number] = np.minimum(np.array(light.diffuse) * channels, 1.0)
            x, y, z = np.asarray(light.direction) / np.linalg.norm(light.direction)
            direction = np.array((x + tilt[0] * abs(z), y + tilt[1] * abs(z), z))
            model.light_dir[number] = direction / np.linalg.norm(direction)
        shakes = self._now(time_s)[5:].reshape(-1, 3)
        for (name, index), shake in zip(self._ids.items(), shakes, strict=True):
            model.cam_quat[index] = _turned(self._rest[name][1], shake)

    def sense(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        cameras: Sequence[str],
        rgb: NDArray[np.uint8],
        depth: NDArray[np.float32] | None,
        segmentation: NDArray[np.uint8] | None,
    ) -> None:
        """Applies the sensor model to pictures [C, h, w, 3] and depths [C, h, w] of these cameras in place."""
        sensor = self._scene.looks.sensor
        if sensor is None:
            return
        if sensor.readout_s:
            for number, name in enumerate(cameras):
                index = model.camera(name).id
                body = model.cam_bodyid[index]
                spin = data.cam_xmat[index].reshape(3, 3).T @ data.cvel[body, :3]  # angular velocity in the camera's frame [rad/s]
                others = (None if depth is None else depth[number], None if segmentation is None else segmentation[number])
                sensors.roll(rgb[number], others, spin * sensor.readout_s, float(model.cam_fovy[index]))
        if sensor.blur:
            sensors.blur(rgb, sensor.blur)
        if depth is not None:
            step = round(data.time * self._control_hz)
            rng = np.random.default_rng((self._scene.seed, self._scene.looks.wander.seed, step, 1))
            drift = float(self._drift[min(step, len(self._drift) - 1), 0])
            sensors.err(depth, sensor, drift, rng)

    def expose(self, rgb: NDArray[np.uint8], time_s: float) -> None:
        """Applies exposure and noise to pictures [C, h, w, 3] in place; a function of scene and time."""
        if not self._developed:
            return
        looks = self._scene.looks
        found = self.exposure(time_s)
        if found.amplitude:
            noise.develop(rgb, found.gain, found.amplitude, found.key)
            return
        developed = rgb.astype(np.float32) * np.float32(2.0**found.stops)
        if looks.noise:
            rng = np.random.default_rng((self._scene.seed, looks.wander.seed, round(time_s * self._control_hz)))
            developed += np.float32(255.0 * looks.noise) * rng.standard_normal(rgb.shape, np.float32)
        np.clip(developed, 0.0, 255.0, out=developed)
        rgb[...] = np.rint(developed)

    def exposure(self, time_s: float) -> Exposure:
        """The effect of `expose` at `time_s` [s], in numbers, except normal noise."""
        looks = self._scene.looks
        stops = looks.exposure + float(self._now(time_s)[4])
        if not looks.noise or looks.noise_source is NoiseSource.NORMAL:
            return Exposure(stops=stops)
        return Exposure(
            stops=stops,
            amplitude=noise.amplitude_of(looks.noise),
            key=noise.key(self._scene.seed, looks.wander.seed, round(time_s * self._control_hz)),
        )

    def _now(self, time_s: float) -> Floats:
        return self._paths[min(round(time_s * self._control_hz), len(self._paths) - 1)]


def _wandering(seed: int, deviations: Floats, time_constant_s: float, control_hz: int = CONTROL_HZ, smooth: int = 0) -> Floats:
    """Samples stationary Ornstein-Uhlenbeck paths, one value for each control step: shape [T, len(deviations)].

    Exact at the steps: x[k + 1] = a x[k] + s sqrt(1 - a^2) n[k] with a = exp(-dt / time constant) (Uhlenbeck and Ornstein 1930).
    With `smooth`, the path goes through so many further filters of a quarter of the time constant: each can be differentiated once
    more than the one before. Its deviation stays the same, measured over the path.
    """
    if not np.any(deviations):
        return np.zeros((1, len(deviations)))
    steps = int(_LONGEST_S * control_hz)
    decay = math.exp(-1.0 / (control_hz * time_constant_s))
    noise = np.random.default_rng(seed).standard_normal((steps, len(deviations)))
    noise[1:] *= math.sqrt(1.0 - decay * decay)
    path = np.asarray(lfilter([1.0], [1.0, -decay], noise, axis=0))
    if not smooth:
        return path * deviations
    lag = decay**4
    for _ in range(smooth):
        # Each filter starts as if its input had always been what it is first: the path does not creep away from zero.
        path = np.asarray(lfilter([1.0 - lag], [1.0, -lag], path, axis=0, zi=lag * path[:1])[0])
    return (path - path.mean(axis=0)) / path.std(axis=0) * deviations


def _turned(quaternion: Floats, vector: Floats) -> Floats:
    """Rotates a camera's orientation about its own axes by a rotation vector [rad]."""
    angle = float(np.linalg.norm(vector))
    if angle == 0.0:
        return quaternion
    turn, result = np.empty(4), np.empty(4)
    mujoco.mju_axisAngle2Quat(turn, vector / angle, angle)
    mujoco.mju_mulQuat(result, quaternion, turn)
    return result
