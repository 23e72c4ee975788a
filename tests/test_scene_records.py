"""From a scene's record alone, and from a trajectory's, the scene is made again to the bit, pixels included; else it is refused."""

import json
from dataclasses import fields, replace
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embodichain.assets.chain.config import AssetsConfig, PoolConfig
from embodichain.config import WorldConfig
from embodichain.errors import SceneError
from embodichain.expand.physical import PhysicalConfig
from embodichain.expand.visual import VisualConfig
from embodichain.prepare import prepare
from embodichain.recovery.config import RecoveryConfig
from embodichain.resimulation import SceneRecord, check_origin, fingerprints, rebuild, resimulate
from embodichain.resimulation.records import first_pictures
from embodichain.ring.ring import Ring
from embodichain.scenes.config import SampleConfig
from embodichain.scenes.values import content_hash, differences, values
from embodichain.stages import Fate, RolloutStage, SceneStage, produce
from embodichain.types import INFO_BYTES, RingSpec, Scene, TrajectoryInfo
from embodichain.types.mishaps import Pushed
from embodichain.types.plain import as_plain, differing, from_plain
from embodichain.world import Split, config_hash, revision

COUNTS = {"switch": 2, "mouse": 2, "pad": 2, "block": 3, "fork": 2}
EVERYTHING = WorldConfig(
    tasks=("turn_switch", "place_mouse_pad"),
    seed=3,
    assets=AssetsConfig(counts=COUNTS),
    visual=VisualConfig(enabled=True),
    physical=PhysicalConfig(enabled=True),
    recovery=RecoveryConfig(probability=0.5),
    scenes=SampleConfig(distractors=20, min_visible=0.0),
)


@pytest.fixture(scope="module")
def world():
    return prepare(EVERYTHING)


@pytest.mark.parametrize("split", Split)
def test_a_record_alone_makes_the_same_scene_and_the_same_pixels(world, split, tmp_path):
    physics = world.make_physics()
    stage = SceneStage(world, split, physics)
    made = {}
    for number in range(3):
        _, scene = stage.step(number)
        path = SceneRecord.of(world, number, scene, split, physics=physics).write(tmp_path / f"{number}.json")
        made[path] = (scene, first_pictures(world, scene, physics))
    physics.close()
    for path, (scene, pictures) in made.items():
        record = SceneRecord.read(path)
        again = rebuild(record, prepare(check_origin(record.origin)))
        assert not differences(again.scene, scene)
        assert again.pictures.tobytes() == pictures.tobytes() and pictures.std() > 5
    assert len({content_hash(scene) for scene, _ in made.values()}) == 3


def test_sixteen_distractors_and_more_fit_a_trajectory_and_it_is_made_again_from_its_own_record(world, no_shared_memory_left):
    found = {}
    with Ring.create(RingSpec(trajectory=world.stream_spec, num_slots=2, max_reads=1)) as ring:
        rollouts = RolloutStage(world, ring, worker=0, epoch=0)
        scenes = SceneStage(world, physics=rollouts.physics)
        for number in range(0, 200, 2):  # those of turn_switch, which are the shortest
            if len(scenes.step(number)[1].objects) > 16 and produce(number, scenes, rollouts, timeout_s=5.0).fate is Fate.PUBLISHED:
                with ring.sample(1, timeout_s=5.0) as batch:
                    found = {name: values.copy() for name, values in batch[0].items()}
                break
        rollouts.close()
    info = TrajectoryInfo.decode(found["info"])
    assert len(info.text().encode()) > INFO_BYTES, "it was not longer than a slot has room for"
    assert check_origin(info.origin) == EVERYTHING
    again = resimulate(world, info.origin.number)
    assert fingerprints(again.trajectory) == fingerprints(found)
    assert SceneRecord.of_trajectory(info).assets == {one.role: one.asset.content_hash for one in again.scene.objects}


def test_what_is_not_as_recorded_is_refused_and_named(world, tmp_path):
    physics = world.make_physics()
    _, scene = SceneStage(world, physics=physics).step(0)
    record = SceneRecord.of(world, 0, scene, physics=physics)
    physics.close()
    origin = record.origin
    with pytest.raises(SceneError, match=r"revision: recorded 0\.0\.1, here .*; use the version that made it"):
        check_origin(replace(origin, revision="0.0.1"))
    assert check_origin(replace(origin, revision="0.0.1"), any_revision=True) == EVERYTHING
    with pytest.raises(SceneError, match="robot 'dual_piper': recorded another, here"):
        check_origin(replace(origin, robot_hash="another"))
    changed = {**origin.world, "seed": 4}
    with pytest.raises(SceneError, match=rf"configuration: recorded {origin.world_hash}, its defaults make") as refused:
        check_origin(replace(origin, world=changed, robot_hash="another", revision="older"))
    assert "robot" in str(refused.value) and "revision" in str(refused.value), "all that differs is named at once"
    with pytest.raises(SceneError, match=r"configuration: .*WorldConfig has no sead"):
        check_origin(replace(origin, world={"sead": 4}))
    for name, value in (("scene_hash", "0"), ("pictures_hash", "0"), ("assets", {}), ("seed", 1), ("instruction", "Sing.")):
        with pytest.raises(SceneError, match=rf"is not what was recorded.*{name}: recorded"):
            rebuild(replace(record, **{name: value}), world)
    path = record.write(tmp_path / "record.json")
    path.write_text(path.read_text().replace('"format": 1', '"format": 9'))
    with pytest.raises(SceneError, match="format 9, this version reads 1"):
        SceneRecord.read(path)
    path.write_text("[]")
    with pytest.raises(SceneError, match="is no record of a scene"):
        SceneRecord.read(path)
    info = TrajectoryInfo(
        task="t",
        robot="r",
        physics="p",
        scene_seed=1,
        worker=0,
        engine_version="0",
        assets={},
        expansion={},
        success=True,
        reason="",
    )
    with pytest.raises(SceneError, match="has no origin"):
        SceneRecord.of_trajectory(info)


def test_every_value_of_a_scene_counts(world):
    _, scene = SceneStage(world).step(1)
    changed = {
        "seed": 5,
        "task": "other",
        "instruction": "Sing.",
        "objects": scene.objects[1:],
        "lights": (replace(scene.lights[0], diffuse=(0.0, 0.0, 1e-9)),),
        "table_color": (0.0, 0.0, 0.0, 1.0),
        "looks": replace(scene.looks, exposure=scene.looks.exposure + 1e-12),
        "dynamics": replace(scene.dynamics, delay_s=0.05),
        "expansion": {**scene.expansion, "extra": 1.0},
        "grains": replace(scene.grains, positions=((0.0, 0.0, 1.0),)),
        "happening": (Pushed(begin=0, steps=1, body="x", force=(0.0, 0.0, 1.0)),),
        "bounds": replace(scene.bounds, joint_speed=1.0),
    }
    assert set(changed) == {entry.name for entry in fields(Scene)}
    for name, value in changed.items():
        other = replace(scene, **{name: value})
        assert content_hash(other) != content_hash(scene), name
        assert {entry.path.split("/")[0] for entry in differences(scene, other)} == {name}
    placement = scene.objects[0]
    body = placement.asset.bodies[0]
    heavier = replace(placement.asset, bodies=(replace(body, mass=body.mass * (1 + 1e-15) + 1e-18), *placement.asset.bodies[1:]))
    (found,) = differences(scene, replace(scene, objects=(replace(placement, asset=heavier), *scene.objects[1:])))
    assert found.path == f"objects/{placement.role}/asset/bodies/{body.name}/mass"
    assert json.loads(json.dumps(values(scene))) == values(scene), "the values are plain, so that their hash is theirs alone"


# --------------------------------------------------------------------------------------------------------------- parts


@settings(max_examples=30)
@given(
    st.integers(0, 2**31 - 1),
    st.floats(0.1, 0.9),
    st.dictionaries(st.sampled_from(["switch", "mouse", "pad"]), st.integers(0, 9)),
    st.sampled_from([0, 3]),
)
def test_a_configuration_comes_back_from_what_differs_in_it(seed, tilt, counts, live):
    config = WorldConfig(
        seed=seed,
        visual=VisualConfig(enabled=True, tilt=(0.0, tilt)),
        assets=AssetsConfig(counts=counts, pool=PoolConfig(live=live, sources={"switch": "family"})),
    )
    told = json.loads(json.dumps(differing(config, WorldConfig())))
    assert from_plain(WorldConfig, told) == config
    assert from_plain(WorldConfig, json.loads(json.dumps(as_plain(config)))) == config
    assert config_hash(from_plain(WorldConfig, told)) == config_hash(config) != config_hash(replace(config, seed=seed + 1))


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"tasks": 3}, "WorldConfig.tasks takes a value of kind"),
        ({"visual": {"tilt": [0.0]}}, "VisualConfig.tilt takes 2 values"),
        ({"visual": {"texture": []}}, "VisualConfig has no texture; it has enabled"),
        ({"seed": "four"}, "WorldConfig.seed takes a value of kind int"),
        ({"bounds": 4}, "Bounds takes a mapping"),
    ],
)
def test_values_that_no_configuration_has_are_named(told, message):
    with pytest.raises(ValueError, match=message):
        from_plain(WorldConfig, told)


@given(st.integers(0, 60), st.integers(0, 40))
@settings(max_examples=25)
def test_a_record_of_any_length_comes_back_from_its_slot(objects, pushes):
    rng = np.random.default_rng((objects, pushes))
    info = TrajectoryInfo(
        task="t",
        robot="r",
        physics="p",
        scene_seed=1,
        worker=0,
        engine_version="0",
        assets={f"distractor_{i}": rng.bytes(8).hex() for i in range(objects)},
        expansion={f"distractor_{i}.{name}": float(rng.random()) for i in range(objects) for name in ("a", "b")},
        success=True,
        reason="ok",
        pushed=tuple(Pushed(begin=i, steps=1, body="b", force=(float(rng.random()), 0.0, 0.0)) for i in range(pushes)),
    )
    data = info.encode()
    assert len(data) <= INFO_BYTES
    assert TrajectoryInfo.decode(data + b"\0" * (INFO_BYTES - len(data))) == info == TrajectoryInfo.decode(info.text().encode())


def test_a_damaged_record_and_one_that_fits_no_slot_are_refused():
    with pytest.raises(ValueError, match="compressed trajectory info is damaged"):
        TrajectoryInfo.decode(b"x123456")
    rng = np.random.default_rng(0)
    info = TrajectoryInfo(
        task="t",
        robot="r",
        physics="p",
        scene_seed=1,
        worker=0,
        engine_version="0",
        assets={rng.bytes(8).hex(): rng.bytes(8).hex() for _ in range(400)},
        expansion={},
        success=True,
        reason="r" * 9000,
    )
    with pytest.raises(ValueError, match="compressed, exceeds 4096: place fewer objects"):
        info.encode()
    assert TrajectoryInfo.decode(replace(info, assets={}).encode()).reason == "r" * 9000, "a long reason alone is compressed whole"


def test_the_revision_names_the_version_and_is_of_the_sources():
    version, _, sources = revision().partition("+")
    assert version and len(sources) == 12 and revision() == revision()
    assert list(islice(Split, 2)) == [Split.STREAM, Split.HELD_OUT], "seeds depend on the order: a new split comes last"
