"""Self-verifying physics: every byte that it produces is a function of (scene seed, index, position), so readers can check all.

Its episodes pass through the same rollout, ring and learner as a simulation. `verify` finds and locates torn bytes, frames out of
order, and trajectories with a wrong id. The counting task (`tasks.counting`) drives it with commands of the same kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embodichain import robots
from embodichain.errors import ConfigError, IntegrityError, SceneError
from embodichain.motion.action import ActionCodec
from embodichain.types import (
    CHUNK,
    INSTRUCTION_BYTES,
    Push,
    Robot,
    Scene,
    Segment,
    TrajectoryId,
    TrajectoryInfo,
    WorldState,
    write_text,
)

INSTRUCTION = "Count."
"""The instruction of every counting scene."""
REASON = "counted"
"""The reason of every counting success."""
MAX_STEPS = 12 * CHUNK - 1
"""Most control steps of a counting episode, unless the horizon is shorter."""
_COMMAND, _MEASURED, _LENGTH, _SEGMENT, _SUCCESS, _FRAME, _RGB, _DEPTH = range(8)  # number of each quantity, as input of the hash
_REJECTED_OF = 16


class Arrays(Protocol):
    """Arrays of one trajectory by field name, as a slot, a ring's lease or a dict holds them."""

    def __getitem__(self, name: str, /) -> NDArray:
        """The field called `name`; raises KeyError without one."""
        ...


# ------------------------------------------------------------------------------------------------------------- numbers


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection in which each input bit changes half the output bits."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _numbers(seed: int, quantity: int, indices: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """64 pseudo-random bits for each index of one quantity in one scene; same shape as `indices`."""
    key = np.array([seed & 0xFFFF_FFFF_FFFF_FFFF, quantity], np.uint64)
    start = _mix(_mix(key[:1]) + key[1:] * np.uint64(0x9E3779B97F4A7C15))
    return _mix(indices * np.uint64(0x9E3779B97F4A7C15) + start)


def _floats(seed: int, quantity: int, first: int, count: int, size: int) -> NDArray[np.float64]:
    """Values in -1..1 that are exact in float32, shape [count, size]."""
    indices = np.arange(first * size, (first + count) * size, dtype=np.uint64)
    steps = (_numbers(seed, quantity, indices) >> np.uint64(44)).astype(np.int64) - (1 << 19)
    return (steps / float(1 << 19)).reshape(count, size)


def _number(seed: int, quantity: int, limit: int) -> int:
    """A number below `limit` for a scene."""
    return int(_numbers(seed, quantity, np.zeros(1, np.uint64))[0] % np.uint64(limit))


def num_steps(seed: int) -> int:
    """Number of control steps of the counting expert in a scene: 1 to MAX_STEPS."""
    return 1 + _number(seed, _LENGTH, MAX_STEPS)


def commands(seed: int, robot: Robot) -> NDArray[np.float64]:
    """All commands of the counting expert in a scene, shape [num_steps, command_size]."""
    return _floats(seed, _COMMAND, 0, num_steps(seed), robot.command_size)


def segments(seed: int) -> tuple[Segment, ...]:
    """The label of each control step of the expert, constant over `CHUNK` steps; after its last step the last label continues."""
    steps = num_steps(seed)
    numbers = _numbers(seed, _SEGMENT, np.arange(-(-steps // CHUNK), dtype=np.uint64)) % np.uint64(len(Segment))
    return tuple(Segment(int(numbers[step // CHUNK])) for step in range(steps))


def succeeds(seed: int) -> bool:
    """Whether the counting grader accepts a scene. One in sixteen is rejected, and its trajectory must never be read."""
    return _number(seed, _SUCCESS, _REJECTED_OF) != 0


@lru_cache(maxsize=8)
def _base(quantity: int, num_words: int) -> NDArray[np.uint64]:
    """The part of the hash that depends on the position in a frame; the same for every scene."""
    return _numbers(0, quantity, np.arange(num_words, dtype=np.uint64))


def _frames(seed: int, quantity: int, first: int, count: int, num_words: int) -> NDArray[np.uint64]:
    """Words of whole frames, shape [count, num_words]: the hash of the position XOR that of the frame, for speed."""
    keys = _numbers(seed, _FRAME, np.arange(first, first + count, dtype=np.uint64))
    return keys[:, None] ^ _base(quantity, num_words)


def _rgb(seed: int, first: int, count: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    size = int(np.prod(shape))
    words = _frames(seed, _RGB, first, count, -(-size // 8))
    return words.astype("<u8", copy=False).view(np.uint8)[:, :size].reshape(count, *shape)


def _depth(seed: int, first: int, count: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    words = _frames(seed, _DEPTH, first, count, int(np.prod(shape)))
    return ((words >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)).reshape(count, *shape)


# ------------------------------------------------------------------------------------------------------------- physics


class CountingPhysics:
    """Counts instead of simulating; implements `protocols.Physics`. Takes robot and cameras as `MujocoPhysics` does."""

    def __init__(self, robot: Robot, *, width: int, height: int, cameras: tuple[str, ...] | None = None) -> None:
        names = tuple(camera.name for camera in robot.cameras)
        for name in cameras or ():
            if name not in names:
                raise ConfigError(f"robot {robot.name!r} has no camera {name!r}; available: {', '.join(names)}")
        self._robot = robot
        self._shape = (len(names if cameras is None else cameras), height, width)
        self._seed: int | None = None
        self._steps = self._rendered = 0

    @property
    def robot(self) -> Robot:
        """The robot whose commands it accepts."""
        return self._robot

    def reset(self, scene: Scene) -> WorldState:
        """Starts counting from the scene's seed."""
        self._seed, self._steps, self._rendered = scene.seed, 0, 0
        return self._state(scene.seed)

    def step(self, command: NDArray[np.float64], pushes: tuple[Push, ...] = ()) -> WorldState:
        """Counts one control step; ignores the command and pushes."""
        seed = self._current
        self._steps += 1
        return self._state(seed)

    def render(
        self,
        rgb: NDArray[np.uint8],
        depth: NDArray[np.float32] | None = None,
        segmentation: NDArray[np.uint8] | None = None,
    ) -> None:
        """Writes the next frame; the first call after `reset` writes frame 0."""
        seed = self._current
        rgb[...] = _rgb(seed, self._rendered, 1, (*self._shape, 3))[0]
        if depth is not None:
            depth[...] = _depth(seed, self._rendered, 1, self._shape)[0]
        if segmentation is not None:
            segmentation[...] = _rgb(seed, self._rendered, 1, (*self._shape, 3))[0, ..., 0]
        self._rendered += 1

    def note(self, out: NDArray[np.float64]) -> None:
        """Writes the number of the next frame, and skips that frame."""
        out[:1], out[1:] = self._rendered, 0.0
        self._rendered += 1

    def pose(self, note: NDArray[np.float64]) -> None:
        """Makes the noted frame the next one."""
        self._rendered = int(note[0])

    def close(self) -> None:
        """Does nothing."""

    @property
    def _current(self) -> int:
        if self._seed is None:
            raise SceneError("this physics holds no scene yet: call reset(scene) first")
        return self._seed

    def _state(self, seed: int) -> WorldState:
        return WorldState(
            time_s=self._steps / self._robot.control_hz,
            measured=_floats(seed, _MEASURED, self._steps, 1, self._robot.command_size)[0],
            object_poses={},
            object_velocities={},
            object_joints={},
            contacts=(),
            control_hz=self._robot.control_hz,
        )


# -------------------------------------------------------------------------------------------------------- verification


@lru_cache(maxsize=4)
def _codec(robot: Robot | str) -> ActionCodec:
    return ActionCodec(robots.get(robot) if isinstance(robot, str) else robot)


def verify(trajectory: Arrays | Mapping[str, NDArray], robot: Robot | None = None) -> None:
    """Recomputes every byte of a counting trajectory from its own provenance and compares.

    Args:
        trajectory: Fields of `types.camera_spec`; `depth` and `segmentation` are checked where there are any.
        robot: The robot it was made with; None looks up the name in its provenance.

    Raises:
        IntegrityError: Names the field, the first differing index, and the expected value.
    """
    packed = int(trajectory["trajectory_id"])
    identity = TrajectoryId.unpack(packed)
    where = f"counting trajectory {identity.sequence} of worker {identity.worker} (epoch {identity.epoch})"
    try:
        info = TrajectoryInfo.decode(np.asarray(trajectory["info"]))
    except (ValueError, TypeError) as error:
        raise IntegrityError(f"{where}: field 'info' is torn, it does not read as provenance: {error}") from error
    seed = info.scene_seed
    where += f", scene seed {seed}"
    _same(where, "info.physics", info.physics, "counting")
    _same(where, "info.task", info.task, "counting")
    _same(where, "info.reason", info.reason, REASON)
    _same(where, "info.worker", info.worker, identity.worker)
    _same(where, "info.success", info.success, succeeds(seed))
    _same(where, "info.success", info.success, True)  # a rejected episode must not be published
    instruction = np.zeros(INSTRUCTION_BYTES, np.uint8)
    write_text(instruction, INSTRUCTION.encode())
    _equal(where, "instruction", trajectory["instruction"], instruction)

    codec = _codec(robot or info.robot)
    size = codec.robot.command_size
    action = np.asarray(trajectory["action"])
    steps, (horizon, chunk) = num_steps(seed), action.shape[:2]
    chunks = min(steps // chunk + 1, horizon)  # a pilot that stops exactly at the end of a chunk is noticed only in the next chunk
    _same(where, "num_chunks", int(trajectory["num_chunks"]), chunks)
    _equal(where, "action_mask", trajectory["action_mask"], codec.mask)

    labels = segments(seed)
    expected_labels = np.zeros(horizon, np.uint8)
    held = (*labels, *(labels[-1:] * chunk))
    expected_labels[:chunks] = [Segment.of_chunk(held[index * chunk : (index + 1) * chunk]) for index in range(chunks)]
    _equal(where, "segment", trajectory["segment"], expected_labels)

    taken = np.minimum(np.arange(chunks * chunk), steps - 1)
    expected_action = codec.encode(commands(seed, codec.robot)[taken]).reshape(chunks, chunk, -1)
    _filled(where, "action", action, expected_action)
    measured = _floats(seed, _MEASURED, 0, chunks * chunk + 1, size)[::chunk]
    _filled(where, "proprio", trajectory["proprio"], codec.encode(measured))
    rgb = np.asarray(trajectory["rgb"])
    _filled(where, "rgb", rgb, _rgb(seed, 0, chunks + 1, rgb.shape[1:]))
    for name in ("depth", "segmentation"):
        try:
            found = np.asarray(trajectory[name])
        except KeyError:
            continue
        pictures = _rgb(seed, 0, chunks + 1, rgb.shape[1:])
        expected = _depth(seed, 0, chunks + 1, found.shape[1:]) if name == "depth" else pictures[..., 0]
        _filled(where, name, found, expected)


def _same(where: str, name: str, got: object, expected: object) -> None:
    if got != expected:
        raise IntegrityError(f"{where}: {name} is {got!r}, expected {expected!r}")


def _filled(where: str, name: str, got: NDArray, expected: NDArray) -> None:
    """Checks that the first rows are as expected and all later ones zero."""
    got = np.asarray(got)
    _equal(where, name, got[: len(expected)], expected)
    rest = got[len(expected) :]
    if np.ascontiguousarray(rest).view(np.uint8).any():  # compared as bytes: a negative zero is not a zero byte
        _equal(where, f"{name}[{len(expected)}:]", rest, np.zeros_like(rest))


def _equal(where: str, name: str, got: NDArray, expected: NDArray) -> None:
    """Checks for bitwise equality, which also tells NaNs and negative zeros apart."""
    got = np.asarray(got)
    _same(where, f"shape of {name}", got.shape, expected.shape)
    _same(where, f"dtype of {name}", got.dtype, expected.dtype)
    bits = np.dtype(f"u{got.dtype.itemsize}")
    wrong = np.ascontiguousarray(got).view(bits) != np.ascontiguousarray(expected).view(bits)
    if wrong.any():
        index = tuple(int(i) for i in np.unravel_index(int(wrong.argmax()), wrong.shape))
        raise IntegrityError(
            f"{where}: field {name!r} differs in {int(wrong.sum())} of {wrong.size} values, first at {index}: "
            f"{got[index]} instead of {expected[index]}"
        )
