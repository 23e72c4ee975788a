"""Pictures that are drawn after an episode are those that would have been drawn in it; those nobody wants are not drawn."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from embodichain import processes
from embodichain.assets.chain.config import AssetsConfig
from embodichain.config import WorldConfig
from embodichain.darkroom import Darkroom, posable
from embodichain.darkroom_stage import DarkroomStage
from embodichain.engine import Engine
from embodichain.errors import ConfigError, RingTimeout, SceneError
from embodichain.expand.physical import PhysicalConfig
from embodichain.expand.visual import VisualConfig
from embodichain.physics import counting
from embodichain.prepare import prepare
from embodichain.recovery.config import RecoveryConfig
from embodichain.ring.ring import Ring
from embodichain.stage import Stage
from embodichain.stages import Fate, RolloutStage, SceneStage
from embodichain.tasks import TASKS
from embodichain.types import Grains, RingSpec, Timings
from embodichain.types.plain import as_plain
from embodichain.types.reels import NOTES, PICTURES, SCENE, SCENE_BYTES, CameraMode, reel_spec
from embodichain.world import World
from learner.runs import catalog
from learner.runs.options import RunWords, resolve, restore

SNAPSHOTS, REELS, DARKROOM = CameraMode


def quiet(name: str, done: int, total: int) -> None:
    """No progress bars in tests."""


def small_world(task: str, *, painter: str = "raster", size: int = 32, **counts: int) -> World:
    """Everything varies: looks with noise, cameras that shake, sizes, physics, and half of the episodes go wrong at first."""
    config = WorldConfig(
        tasks=(task,),
        painter=painter,
        depth=True,
        segmentation=True,
        width=size,
        height=size,
        assets=AssetsConfig(counts=counts),
        visual=VisualConfig(enabled=True),
        physical=PhysicalConfig(enabled=True),
        recovery=RecoveryConfig(probability=0.5),
        seed=4,
    )
    return prepare(config, quiet)


@pytest.fixture(scope="module")
def switches() -> World:
    return small_world("turn_switch", switch=2)


@pytest.fixture(scope="module")
def counted() -> World:
    return prepare(WorldConfig(physics="counting", tasks=("counting",), horizon=12, depth=True, segmentation=True), quiet)


def ring_for(world: World, camera: CameraMode = SNAPSHOTS, slots: int = 2, reads: int = 1) -> Ring:
    spec = reel_spec(world.stream_spec) if camera is DARKROOM else world.stream_spec
    return Ring.create(RingSpec(trajectory=spec, num_slots=slots, max_reads=reads))


def shot(world: World, camera: CameraMode, numbers: int, scenes: SceneStage):
    """What became of each number, and the trajectories in the order in which they came."""
    found, made = [], []
    with ring_for(world, camera) as ring, ring_for(world) as developed:
        stage = RolloutStage(world, ring, worker=0, epoch=0, camera=camera)
        darkroom = DarkroomStage(world, ring, developed) if camera is DARKROOM else None
        for number in range(numbers):
            try:
                produced = stage.step(number, *scenes.step(number), timeout_s=0.0)
            except SceneError:
                continue
            timings = produced.timings
            if darkroom is not None and (reel := darkroom.step(timeout_s=0.0)) is not None:
                assert reel.number == number and produced.fate is Fate.EXPOSED
                timings.add(reel.timings)
                produced = replace(produced, fate=Fate.PUBLISHED)
            found.append(produced)
            if produced.fate is Fate.PUBLISHED:
                with (ring if darkroom is None else developed).sample(1, timeout_s=0.0) as batch:
                    made.append({f.name: batch[0][f.name].copy() for f in world.stream_spec.fields})
        stage.close()
        if darkroom is not None:
            darkroom.close()
    return found, made


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    assert first.keys() == second.keys()
    for name, values in first.items():
        assert values.tobytes() == second[name].tobytes(), name


@pytest.mark.parametrize(
    ("task", "painter", "counts"),
    [
        ("turn_switch", "raycast", {"switch": 2}),
        ("turn_switch", "raster", {"switch": 2}),
        pytest.param("all", "raster", {}, marks=pytest.mark.slow),
        pytest.param("all", "raycast", {}, marks=pytest.mark.slow),
    ],
)
def test_every_field_is_to_the_bit_what_snapshots_would_have_made_it(task, painter, counts, no_shared_memory_left):
    tasks = [name for name in TASKS.built_in if name != "counting"] if task == "all" else [task]
    for name in tasks:
        three = {"block": 3} if name == "rank_blocks_by_size" else {}
        world = small_world(name, painter=painter, **counts, **three)
        scenes = SceneStage(world)
        expected, trajectories = shot(world, SNAPSHOTS, 2, scenes)
        assert trajectories and all(t["rgb"].std() > 5 and t["segmentation"].max() >= 3 for t in trajectories)
        for camera in (REELS, DARKROOM):
            found, made = shot(world, camera, 2, scenes)
            assert [(p.number, p.fate, p.reason) for p in found] == [(p.number, p.fate, p.reason) for p in expected]
            assert len(made) == len(trajectories)
            for first, second in zip(trajectories, made, strict=True):
                same(first, second)


def test_a_failed_episode_costs_no_picture_and_a_success_one_for_each_frame(counted, no_shared_memory_left):
    scenes = SceneStage(counted)
    drawn = {}
    for camera in CameraMode:
        found, made = shot(counted, camera, 24, scenes)
        for trajectory in made:
            counting.verify(trajectory, robot=counted.robot)
        drawn[camera] = {fate: [p.timings.frames for p in found if p.fate is fate] for fate in Fate}
        chunks = [p.num_chunks for p in found if p.fate is Fate.PUBLISHED]
        assert drawn[camera][Fate.PUBLISHED] == [count + 1 for count in chunks]
        assert len(chunks) == len(made) > 10
    assert min(drawn[SNAPSHOTS][Fate.REJECTED]) > 0
    assert set(drawn[REELS][Fate.REJECTED]) == set(drawn[DARKROOM][Fate.REJECTED]) == {0}


def test_a_serial_engine_takes_reels_and_has_no_darkroom(switches, no_shared_memory_left):
    made = []
    for camera in (SNAPSHOTS, REELS):
        with ring_for(switches) as ring, Engine(switches, ring, limit=4, camera=camera) as engine:
            engine.feed()
            with ring.sample(1, timeout_s=0.0) as batch:
                made.append({f.name: batch[0][f.name].copy() for f in switches.stream_spec.fields})
    same(*made)
    with ring_for(switches) as ring, pytest.raises(ConfigError, match="reels"):
        Engine(switches, ring, camera=DARKROOM)


# --------------------------------------------------------------------------------------------------------- what a reel is


def reels_of(world: World, count: int) -> list[dict[str, np.ndarray]]:
    """Reels of the first successes of a world, copied out of a ring."""
    found, scenes, number = [], SceneStage(world), 0
    with ring_for(world, DARKROOM) as ring:
        stage = RolloutStage(world, ring, worker=0, epoch=0, camera=DARKROOM)
        while len(found) < count:
            if stage.step(number, *scenes.step(number), timeout_s=0.0).fate is Fate.EXPOSED:
                with ring.sample(1, timeout_s=0.0) as batch:
                    found.append({f.name: batch[0][f.name].copy() for f in ring.spec.trajectory.fields})
            number += 1
        stage.close()
    return found


def drawn_from(world: World, reels: list[dict[str, np.ndarray]], *, backwards: bool = False) -> list[dict[str, np.ndarray]]:
    """Pictures of reels in a physics of their own, the reels and the frames of each in order or not."""
    physics, stage = world.make_physics(), Stage(world.robot, world.assets)
    darkroom, made = Darkroom(world.config, physics), []
    for reel in reversed(reels) if backwards else reels:
        frames, out = int(reel["num_chunks"]) + 1, world.trajectory_spec.allocate()
        physics.reset(stage.read(reel[SCENE], int(reel["stage"])))
        order = np.arange(frames)[::-1] if backwards else np.arange(frames)
        darkroom.draw(out, reel[NOTES][order], frames, Timings())
        for name in PICTURES:
            if name in out:
                out[name][:frames] = out[name][:frames][order].copy()
        made.append({name: out[name] for name in PICTURES if name in out})
    physics.close()
    return made[::-1] if backwards else made


def test_a_reel_is_all_that_its_pictures_need_in_any_process_and_order(switches, tmp_path):
    reels = reels_of(switches, 2)
    expected = [
        {name: t[name] for name in PICTURES if name in t} for t in shot(switches, SNAPSHOTS, 8, SceneStage(switches))[1][:2]
    ]
    np.savez(tmp_path / "first.npz", **reels[0])
    with np.load(tmp_path / "first.npz") as file:
        reels[0] = dict(file)
    elsewhere = processes.call(drawn_from, pickle.loads(pickle.dumps(switches)), reels)
    for made in (elsewhere, drawn_from(switches, reels, backwards=True)):
        for first, second in zip(expected, made, strict=True):
            same(first, second)


def test_a_reel_holds_every_field_but_pictures_and_no_picture(switches):
    spec = switches.stream_spec
    kept = {field.name for field in spec.fields} - set(PICTURES)
    assert {field.name for field in reel_spec(spec).fields} == kept | {"notes", "scene", "stage"}
    assert {"rgb", "depth", "segmentation"} <= set(PICTURES) and {"proprio", "action", "info", "trajectory_id"} <= kept


def test_a_scene_is_told_by_the_names_of_its_assets_to_the_same_stage_only(switches):
    stage, out = Stage(switches.robot, switches.assets), np.full(SCENE_BYTES, 255, np.uint8)
    _, scene = SceneStage(switches).step(0)
    stage.write(scene, out)
    assert np.flatnonzero(out)[-1] < 3000, "assets are named, not contained"
    told = stage.read(out, stage.key)
    assert (told.seed, told.looks, told.lights, told.grains) == (scene.seed, scene.looks, scene.lights, scene.grains)
    for here, there in zip(scene.objects, told.objects, strict=True):
        assert (here.role, here.pose, here.joint_positions, here.color) == (
            there.role,
            there.pose,
            there.joint_positions,
            there.color,
        )
        for mine, theirs in zip(here.asset.bodies, there.asset.bodies, strict=True):
            assert mine.visual.vertices.tobytes() == theirs.visual.vertices.tobytes() and not theirs.hulls
    with pytest.raises(SceneError, match="came to stage"):
        Stage(switches.robot, switches.assets[:1]).read(out, stage.key)
    with pytest.raises(SceneError, match="of this stage"):
        Stage(switches.robot, ()).write(scene, out)
    crowded = replace(scene, grains=Grains(positions=tuple((x, 0.0, 0.0) for x in np.linspace(0, 1, 2000).tolist())))
    with pytest.raises(SceneError, match="has room for"):
        stage.write(crowded, out)
    with pytest.raises(ConfigError, match="content hash"):
        Stage(switches.robot, (*switches.assets, switches.assets[0]))


@pytest.mark.parametrize("call", [b"cos\nsystem\n(S'true'\ntR.", b"\x80\x04cembodichain.types.scenes\nmath.sqrt\n."])
def test_bytes_in_a_reel_choose_nothing_that_is_run(switches, call):
    stage, out = Stage(switches.robot, switches.assets), np.zeros(SCENE_BYTES, np.uint8)
    out[:4] = np.frombuffer(len(call).to_bytes(4, "little"), np.uint8)
    out[4 : 4 + len(call)] = np.frombuffer(call, np.uint8)
    with pytest.raises(SceneError, match="no part of one"):
        stage.read(out, stage.key)


def test_a_note_that_does_not_fit_is_refused_by_name(switches):
    physics = switches.make_physics()
    physics.reset(SceneStage(switches).step(0)[1])
    with pytest.raises(SceneError, match="room for 7"):
        posable(physics).note(np.zeros(8))
    physics.close()


def test_a_physics_that_cannot_be_posed_is_told_so_before_anything_is_played(counted, no_shared_memory_left):
    class Fleeting(counting.CountingPhysics):
        note = None

    with pytest.raises(ConfigError, match="snapshots"):
        posable(Fleeting(counted.robot, width=16, height=16))


# ------------------------------------------------------------------------------------------------------ a darkroom's life


def test_a_reel_waits_in_hand_while_there_is_no_room_and_is_developed_once(counted, no_shared_memory_left):
    with ring_for(counted, DARKROOM, slots=3) as reels, ring_for(counted, slots=1) as ring:
        stage, scenes, sent, number = RolloutStage(counted, reels, worker=0, epoch=0, camera=DARKROOM), SceneStage(counted), [], 0
        while len(sent) < 2:
            if stage.step(number, *scenes.step(number), timeout_s=0.0).fate is Fate.EXPOSED:
                sent.append(number)
            number += 1
        darkroom = DarkroomStage(counted, reels, ring)
        first = darkroom.step(timeout_s=0.0)
        for _ in range(3):
            with pytest.raises(RingTimeout):
                darkroom.step(timeout_s=0.0)
        assert reels.stats().held == 1 and ring.stats().ready == 1
        with ring.sample(1, timeout_s=0.0) as batch:
            counting.verify(batch[0], robot=counted.robot)
        second = darkroom.step(timeout_s=0.0)
        assert first is not None and second is not None and sorted([first.number, second.number]) == sent
        assert darkroom.step(timeout_s=0.0) is None
        assert reels.stats().free == 3 and ring.stats().published == 2
        darkroom.close()
        stage.close()


@pytest.mark.parametrize("camera", CameraMode)
def test_the_command_line_chooses_the_camera_and_a_run_folder_remembers_it(camera):
    config = resolve("tiny_cpu", RunWords(), ["--stream.camera", camera.value]).config
    assert config.stream.camera is camera
    assert restore(catalog.make("tiny_cpu"), as_plain(config)).stream.camera is camera
    old = as_plain(config)
    del old["stream"]["camera"]  # as files were written before there was a choice
    assert restore(catalog.make("tiny_cpu"), old).stream.camera is CameraMode.SNAPSHOTS


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("--stream.engine crew --stream.workers 3", "multiple of the 3 workers"),
        ("--stream.engine crew --stream.most-workers 4", "one number"),
        ("--stream.engine crew --stream.camera darkroom", "--stream.camera reels"),
    ],
)
def test_a_crew_is_told_what_it_cannot_have(words, reason):
    with pytest.raises(ConfigError, match=reason):
        resolve("tiny_cpu", RunWords(), words.split())


def test_a_serial_run_with_a_darkroom_is_refused_before_anything_is_prepared():
    with pytest.raises(ConfigError, match=r"--stream\.camera reels"):
        resolve("tiny_cpu", RunWords(), ["--stream.engine", "serial", "--stream.camera", "darkroom"])
