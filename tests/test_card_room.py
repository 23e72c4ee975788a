"""A darkroom that draws into slots on a device publishes what snapshots would have been, when it is complete, and once."""

import time
from dataclasses import replace

import numpy as np
import pytest

from embodichain.assets.chain.config import AssetsConfig
from embodichain.config import EncodeConfig, WorldConfig
from embodichain.darkroom_stage import DarkroomStage
from embodichain.engine import Engine
from embodichain.errors import ConfigError, RingTimeout
from embodichain.expand.physical import PhysicalConfig
from embodichain.expand.visual import VisualConfig
from embodichain.prepare import prepare
from embodichain.ray_engine import RayConfig, RayEngine
from embodichain.ring.delayed import COMPUTE_STREAM, DelayedDevice
from embodichain.ring.device_ring import DeviceRing
from embodichain.ring.open import create_ring
from embodichain.ring.ring import Ring
from embodichain.stages import RolloutStage, SceneStage
from embodichain.types import NoiseSource, RingSpec, TrajectoryId
from embodichain.types.reels import CameraMode, DarkroomPlace, reel_spec
from embodichain.world import World
from learner.runs.options import RunWords, resolve

CARD = DarkroomPlace.CARD
HASHED = VisualConfig(enabled=True, noise_source=NoiseSource.HASH)


def small(**changes) -> WorldConfig:
    config = WorldConfig(
        tasks=("turn_switch",),
        depth=True,
        segmentation=True,
        width=32,
        height=32,
        horizon=24,
        assets=AssetsConfig(counts={"switch": 2}),
        visual=HASHED,
        physical=PhysicalConfig(enabled=True),
        seed=4,
    )
    return replace(config, **changes)


@pytest.fixture(scope="module")
def world() -> World:
    return prepare(small(), lambda *_: None)


def episodes(world: World, camera: CameraMode, count: int) -> list[dict[str, np.ndarray]]:
    """The first successes, as trajectories or as reels."""
    spec = reel_spec(world.stream_spec) if camera is CameraMode.DARKROOM else world.stream_spec
    made, scenes, number = [], SceneStage(world), 0
    with Ring.create(RingSpec(trajectory=spec, num_slots=1, max_reads=1)) as ring:
        stage = RolloutStage(world, ring, worker=0, epoch=0, camera=camera)
        while len(made) < count:
            stage.step(number, *scenes.step(number), timeout_s=0.0)
            number += 1
            if ring.stats().ready:
                with ring.sample(1, timeout_s=0.0) as batch:
                    made.append({field.name: batch[0][field.name].copy() for field in spec.fields})
        stage.close()
    return made


@pytest.fixture(scope="module")
def shots(world):
    """Two reels, and what snapshots of their episodes are."""
    return episodes(world, CameraMode.DARKROOM, 2), episodes(world, CameraMode.SNAPSHOTS, 2)


def put(ring: Ring, reel: dict[str, np.ndarray]) -> None:
    with ring.reserve() as slot:
        for name, values in reel.items():
            slot[name][...] = values


class Slow(DelayedDevice):
    """A device that does nothing for a while."""

    stands_until = 0.0

    def step(self, count: int = 1) -> None:
        if time.monotonic() >= self.stands_until:
            super().step(count)


class CopiesFirst(DelayedDevice):
    """A device whose kernels run when no copy is waiting: the worst that can befall a slot that is published too early."""

    def step(self, count: int = 1) -> None:
        kernels = self._queues.pop(COMPUTE_STREAM)
        for _ in range(count):
            if not self.busy:
                self._queues[COMPUTE_STREAM] = kernels
            super().step()
        self._queues[COMPUTE_STREAM] = kernels


def rings(world: World, device: DelayedDevice, slots: int = 2) -> tuple[Ring, DeviceRing]:
    reels = Ring.create(RingSpec(trajectory=reel_spec(world.stream_spec), num_slots=2, max_reads=1))
    spec = RingSpec(trajectory=world.stream_spec, num_slots=slots, max_reads=1)
    return reels, DeviceRing.create(spec, device, debug=True)


@pytest.mark.parametrize("place", DarkroomPlace)
@pytest.mark.parametrize("device", [DelayedDevice(0, steps_per_poll=1), DelayedDevice(1, steps_per_poll=1), CopiesFirst(2)])
def test_a_slot_on_a_device_is_readable_when_its_pictures_are_complete_and_they_are_those_of_snapshots(
    world, shots, place, device, no_shared_memory_left
):
    reels, ring = rings(world, device)
    with reels, ring:
        stage = DarkroomStage(world, reels, ring, place=place)
        for reel, snapshot in zip(*shots, strict=True):
            put(reels, reel)
            assert stage.step(timeout_s=1.0) is not None
            assert snapshot["rgb"].std() > 5 and snapshot["segmentation"].max() >= 3
            with ring.sample(1, timeout_s=0.0) as batch:
                for name, values in snapshot.items():
                    assert np.asarray(batch[0][name]).tobytes() == values.tobytes(), name
        stage.close()
        ring.flush()


@pytest.mark.parametrize("place", DarkroomPlace)
def test_a_device_that_is_behind_delays_a_trajectory_and_doubles_none(world, shots, place, no_shared_memory_left):
    device = Slow(1)
    reels, ring = rings(world, device)
    with reels, ring:
        stage = DarkroomStage(world, reels, ring, place=place)
        put(reels, shots[0][0])
        device.stands_until = time.monotonic() + 7.0  # longer than a publish waits by itself
        assert stage.step(timeout_s=1.0) is not None and time.monotonic() >= device.stands_until
        assert ring.stats().ready == 1
        assert stage.step(timeout_s=0.0) is None
        stage.close()


def test_no_room_in_the_ring_keeps_the_reel(world, shots, no_shared_memory_left):
    reels, ring = rings(world, DelayedDevice(2), slots=1)
    with reels, ring:
        stage = DarkroomStage(world, reels, ring, place=CARD)
        for reel in shots[0]:
            put(reels, reel)
        assert stage.step(timeout_s=1.0) is not None
        for _ in range(2):
            with pytest.raises(RingTimeout):
                stage.step(timeout_s=0.05)
        with ring.sample(1, timeout_s=0.0):
            pass
        assert stage.step(timeout_s=1.0) is not None
        stage.close()


@pytest.mark.slow
def test_a_darkroom_of_the_engine_draws_into_a_ring_on_a_device(world, no_shared_memory_left):
    """Through Ray: the same trajectories as those of a serial engine into host memory."""
    numbers = 6
    with Ring.create(RingSpec(trajectory=world.stream_spec, num_slots=numbers, max_reads=1)) as ring:
        with Engine(world, ring, limit=numbers) as engine:
            while not engine.exhausted:
                engine.feed()
        expected = drained(ring)
    config = RayConfig(workers=1, camera=CameraMode.DARKROOM, darkroom=CARD)
    with create_ring(RingSpec(trajectory=world.stream_spec, num_slots=numbers, max_reads=1), "delayed") as ring:
        with RayEngine(world, ring, config, limit=numbers) as engine:
            until = time.monotonic() + 500.0
            while not engine.exhausted and time.monotonic() < until:
                engine.check()
                time.sleep(0.1)
            assert engine.exhausted, engine.report
        found = drained(ring)
    assert expected and found.keys() == expected.keys()
    for number, trajectory in expected.items():
        for name, values in trajectory.items():
            if name not in ("trajectory_id", "info"):
                assert np.array_equal(values, found[number][name]), f"{name} of scene {number}"


def drained(ring) -> dict[int, dict[str, np.ndarray]]:
    found = {}
    while ring.stats().ready:
        with ring.sample(1, timeout_s=5.0) as batch:
            read = {field.name: np.array(batch[0][field.name]) for field in ring.spec.trajectory.fields}
        found[TrajectoryId.unpack(int(read["trajectory_id"])).sequence] = read
    return found


# -------------------------------------------------------------------------------------------------------------- refusals


def refused(world: World, ring, words: str) -> None:
    spec = RingSpec(trajectory=reel_spec(world.trajectory_spec), num_slots=1, max_reads=1)
    with Ring.create(spec) as reels, pytest.raises(ConfigError, match=words):
        DarkroomStage(world, reels, ring, place=CARD)


def test_what_a_card_cannot_do_is_refused_before_anything_begins(world, no_shared_memory_left):
    spec = RingSpec(trajectory=world.stream_spec, num_slots=1, max_reads=1)
    with Ring.create(spec) as ring:
        refused(world, ring, r"this one is in host memory: set ring\.placement cuda, or stream\.darkroom host")
    with create_ring(spec, "delayed") as ring:
        normal = replace(HASHED, noise_source=NoiseSource.NORMAL)
        for changes, words in (
            ({"painter": "raycast"}, "not 'raycast'"),
            ({"visual": normal}, r"set world\.visual\.noise_source hash"),
            ({"encode": EncodeConfig(factory="learner.codecs.catalog:no_such")}, r"leave world\.encode\.factory empty"),
        ):
            other = replace(world, config=replace(world.config, **changes))
            refused(other, ring, words)
        quiet = replace(world, config=replace(world.config, visual=replace(normal, noise=(0.0, 0.0))))
        with Ring.create(RingSpec(trajectory=reel_spec(world.stream_spec), num_slots=1, max_reads=1)) as reels:
            DarkroomStage(quiet, reels, ring, place=CARD).close()


def test_a_run_says_at_once_what_its_darkroom_on_a_card_needs():
    words = ["--stream.darkroom", "card"]
    with pytest.raises(ConfigError, match=r"set stream\.camera darkroom"):
        resolve("tiny_cpu", RunWords(), words)
    words += ["--stream.engine", "ray", "--stream.camera", "darkroom"]
    with pytest.raises(ConfigError, match=r"ring\.placement is 'host': set ring\.placement cuda"):
        resolve("tiny_cpu", RunWords(), words)
    assert resolve("tiny_cpu", RunWords(), [*words, "--ring.placement", "cuda"]).config.stream.darkroom is CARD
