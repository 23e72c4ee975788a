"""Laws of worlds that MuJoCo Warp steps together: each is what MuJoCo C makes of its scene, whoever is simulated beside it.

Tests of the default run use one structure (a gantry and one block of meshes), because the kernels of each take long to compile.
"""

import dataclasses
from contextlib import closing

import mujoco_warp as mjw
import numpy as np
import pytest
import warp as wp
from physics_parts import WOOD, block, gantry, placed, scene

from embodichain import physics
from embodichain.config import WorldConfig
from embodichain.errors import ConfigError, SceneError
from embodichain.physics.contract import examine
from embodichain.physics.many import Many
from embodichain.physics.mujoco import MujocoPhysics
from embodichain.physics.warp import batch as batches
from embodichain.physics.warp.fields import NOT_SHARED, PER_WORLD, SHARED
from embodichain.physics.warp.worlds import WarpWorld, WarpWorlds
from embodichain.types import Asset, Dynamics, Grains, Mesh, Pose, Push
from embodichain.world import World

SIZE = 16
GRAVITY = 9.81
_KNOWN = {
    "qpos0": "",
    "qpos": "spring",
    "body": "pos quat ipos iquat mass subtreemass inertia invweight0 gravcomp",
    "jnt": "solref solimp pos axis stiffness stiffnesspoly range actfrcrange margin",
    "dof": "solref solimp frictionloss armature damping dampingpoly invweight0",
    "geom": "dataid solmix solref solimp size aabb rbound pos quat friction margin gap surfacevel adhesion",
    "site": "pos quat",
    "pair": "solref solreffriction solimp margin gap adhesion friction",
    "eq": "solref solimp data",
    "tendon": "solref_lim solimp_lim solref_fri solimp_fri range actfrcrange margin stiffness stiffnesspoly damping dampingpoly "
    "armature frictionloss lengthspring length0 invweight0",
    "actuator": "cranklength dynprm gainprm biasprm actrange history historyadr delay forcerange ctrlrange gear acc0 lengthrange",
    "sensor": "history historyadr delay interval",
}
PHYSICAL = {f"{kind}_{name}".strip("_") for kind, names in _KNOWN.items() for name in names.split(" ")}
"""What MuJoCo Warp 3.17 stores per world and a step may read."""


def worlds(num_worlds, **options) -> WarpWorlds:
    return WarpWorlds(gantry(), num_worlds=num_worlds, width=SIZE, height=SIZE, device="cpu", **options)


def many(num_worlds) -> Many:
    return Many(gantry(), num_worlds=num_worlds, width=SIZE, height=SIZE)


@pytest.fixture(scope="module")
def four():
    with closing(worlds(4)) as batch:
        yield batch


def home(batch):
    return np.tile(batch.robot.home, (batch.num_worlds, 1))


def run(batch, steps, command=None, pushes=None):
    for _ in range(steps):
        tape = batch.step(home(batch) if command is None else command, pushes or {})
    return tape


def some(rng, *, z=0.0, **kwargs):
    """A scene with a block of any size, mass, turn about Z and place, and with drives of any strength."""
    size = tuple(rng.uniform(0.03, 0.09, 3))
    asset = block(size, mass=float(rng.uniform(0.05, 0.6)))
    turn = rng.uniform(0.0, np.pi)
    x, y = rng.uniform(-0.1, 0.1, 2)
    spin = (float(np.cos(turn)), 0.0, 0.0, float(np.sin(turn)))
    dynamics = Dynamics(stiffness=float(rng.uniform(0.8, 1.2)), joint_damping=float(rng.uniform(0.8, 1.2)))
    return scene(placed("a", asset, float(x), float(y), z, spin), dynamics=dynamics, **kwargs)


def mass_of(setting):
    return setting.objects[0].asset.bodies[0].mass


def apart(mine, theirs):
    """The largest difference of two states in positions [m], components of quaternions, and measured values."""
    poses = zip(mine.object_poses.values(), theirs.object_poses.values(), strict=True)
    parts = [np.subtract((*a.position, *a.quaternion), (*b.position, *b.quaternion)) for a, b in poses]
    return max(float(np.abs(part).max()) for part in (*parts, mine.measured - theirs.measured))


# ------------------------------------------------------------------------------------------------------------- the contract


def test_the_contract_of_batches_holds(four):
    assert [(finding.law, finding.broken) for finding in examine(four, height=SIZE, width=SIZE) if finding.broken] == []


def test_a_world_alone_is_what_it_is_among_four(four):
    settings = [some(np.random.default_rng(seed), z=0.03) for seed in range(4)]
    four.load(range(4), settings)
    among = run(four, 25)
    with closing(worlds(1)) as lone:
        for world, setting in enumerate(settings):
            lone.load((0,), (setting,))
            mine, theirs = run(lone, 25).state(0), among.state(world)
            assert apart(mine, theirs) < 1e-5 and mine.time_s == theirs.time_s == pytest.approx(0.5)
            assert [(c.first, c.second) for c in mine.contacts] == [(c.first, c.second) for c in theirs.contacts] != []


# ---------------------------------------------------------------------------------------------------------- against MuJoCo C


@pytest.mark.parametrize(("z", "touches"), [(0.0, True), (0.6, False)])
def test_a_hundred_steps_at_rest_and_in_free_fall_are_those_of_mujoco_c(four, z, touches):
    reference = many(4)
    settings = [some(np.random.default_rng(10 + seed), z=z, seed=seed) for seed in range(4)]
    for batch in (four, reference):
        batch.load(range(4), settings)
    first, expected = four.look(), reference.look()
    for world in range(4):
        assert first.state(world).object_poses == expected.state(world).object_poses
        assert first.state(world).contacts == expected.state(world).contacts
    for period in range(10):  # of ten physics steps each
        mine, theirs = run(four, 1), run(reference, 1)
        for world, setting in enumerate(settings):
            a, b = mine.state(world), theirs.state(world)
            assert apart(a, b) < 1e-3
            assert [(c.first, c.second) for c in a.contacts] == [(c.first, c.second) for c in b.contacts]
            assert bool(a.contacts) is touches
            for one, other in zip(a.contacts, b.contacts, strict=True):
                allowed = 0.1 * mass_of(setting) * GRAVITY
                assert one.force == pytest.approx(other.force, abs=allowed)
                if period > 4:  # the first steps of a block that is put down exactly on the table are a matter of rounding
                    assert one.peak == pytest.approx(other.peak, abs=allowed)
                    assert one.penetration == pytest.approx(other.penetration, abs=2e-5)
                np.testing.assert_allclose(one.push, other.push, atol=allowed)
    if touches:
        forces = [sum(c.force for c in mine.state(world).contacts) for world in range(4)]
        assert forces == pytest.approx([mass_of(setting) * GRAVITY for setting in settings], rel=0.1)
        assert len({round(force, 2) for force in forces}) == 4, "each bears its own weight"


def test_what_friction_holds_creeps_as_little_as_in_mujoco_c(four):
    """Under a steady push of a fifteenth of its weight and more; the stiffness of friction decides how far."""
    reference, crept = many(4), []
    pushes = {world: (Push(body="a", force=(0.2 + 0.3 * world, 0.0, 0.0)),) for world in range(4)}
    for batch in (four, reference):
        batch.load(range(4), [scene(placed("a", block(mass=0.3)))] * 4)
        before, after = run(batch, 10), run(batch, 25, pushes=pushes)
        crept.append(
            [after.state(w).object_poses["a"].position[0] - before.state(w).object_poses["a"].position[0] for w in range(4)]
        )
    np.testing.assert_allclose(crept[0], crept[1], rtol=0.05)
    assert 0.0 < crept[0][0] < crept[0][3] < 2e-4


def test_a_delayed_command_comes_as_late_as_in_mujoco_c(four):
    """By whole periods and by parts of one; the others' commands are not delayed with it."""
    delays = (0.0, 0.006, 0.02, 0.034)
    settings = [scene(placed("a", block()), dynamics=Dynamics(delay_s=delay)) for delay in delays]
    reference = many(4)
    moved = []
    for batch in (four, reference):
        batch.load(range(4), settings)
        command = home(batch)
        command[:, [0, 1, 2, 5]] += (0.05, -0.04, -0.03, -0.02)
        moved.append(np.array([run(batch, 1, command).measured - home(batch) for _ in range(5)]))
    np.testing.assert_allclose(moved[0], moved[1], atol=1e-4)
    progress = np.abs(moved[0][:, :, 0])
    assert (np.diff(progress[1]) < 0.0).all(), "the later, the less far"
    assert progress[0, 0] > 1e-3 and (progress[0, 2:] < 1e-5).all(), "within the first period two of them hear nothing"


def raft(lift=0.0, size=(0.02, 0.04, 0.03)):
    """Three slabs in a row, which take four slots; the body's origin lies `lift` below them."""
    slab = block(size).bodies[0].hulls[0]
    places = [(x, 0.0, lift + size[2] / 2) for x in (-0.03, 0.0, 0.03)]
    hulls = tuple(Mesh(vertices=np.add(slab.vertices, place), faces=slab.faces) for place in places)
    body = dataclasses.replace(block().bodies[0], hulls=hulls, body_pose=Pose(), surfaces=(WOOD, WOOD, WOOD))
    return Asset(name="raft", category="raft", bodies=(body,))


def test_hulls_that_a_body_lacks_touch_nothing(four):
    """What stands in the fourth slot lies at the body's origin, here below the slabs and in the table."""
    with closing(worlds(1)) as lone:
        for batch in (lone, four):
            batch.load((0,), (scene(placed("a", raft(0.008), z=-0.0085)),))
            (contact,) = batch.look().state(0).contacts
            assert (contact.first, contact.second) == ("table", "a/block") and contact.penetration < 1e-3
            state = run(batch, 20).state(0)
            assert state.object_poses["a"].position[2] == pytest.approx(-0.008, abs=1e-3)


# --------------------------------------------------------------------------------------------------------- per-world fields


def test_every_field_that_can_differ_between_worlds_is_known():
    assert set(PER_WORLD) == PHYSICAL, "a field is new or gone: does a step read it? then it is per world"
    shared = {field.name for field in dataclasses.fields(mjw.Model)} & (set(SHARED) | NOT_SHARED)
    assert {"body_parentid", "geom_type", "geom_contype", "jnt_limited", "eq_obj1id", "actuator_trnid"} <= shared


def test_every_field_of_a_world_is_that_of_its_own_scene_also_when_it_is_loaded_later(four):
    rng = np.random.default_rng(20)
    for _ in range(2):
        rafts = [placed("a", raft(size=tuple(rng.uniform(0.01, 0.04, 3))), z=0.1) for _ in range(4)]
        for settings in ([some(rng, z=0.1) for _ in range(4)], [scene(one) for one in rafts]):
            four.load(range(4), settings)
            run(four, 1)
            for world in range(4):
                batch, row = four._seats[world]
                own = four.worlds[world].world.model
                with wp.ScopedDevice("cpu"):
                    expected = mjw.put_model(own)
                for name in set(PER_WORLD) - {"geom_dataid"}:
                    found = getattr(batch._model, name).numpy()[row]
                    np.testing.assert_array_equal(found, getattr(expected, name).numpy()[0], err_msg=name)
                hulls = len(settings[world].objects[0].asset.bodies[0].hulls)
                meshes = batch._model.geom_dataid.numpy()[row]
                geoms = [own.geom(f"a/block/hull{index}").id for index in range(hulls)]
                for geom in geoms:
                    same_mesh(batch._model, meshes[geom], expected, own.geom_dataid[geom])
                assert (np.delete(meshes, geoms) == -1).all()


def same_mesh(mine, mesh, theirs, other):
    """Asserts that a mesh of one model is one of another, wherever each of them keeps it."""

    def parts(model, mesh):
        kept = {name: getattr(model, name).numpy() for name in dir(model) if name.startswith("mesh_")}
        vertices = slice(kept["mesh_vertadr"][mesh], kept["mesh_vertadr"][mesh] + kept["mesh_vertnum"][mesh])
        faces = slice(kept["mesh_polyadr"][mesh], kept["mesh_polyadr"][mesh] + kept["mesh_polynum"][mesh])
        yield from (kept["mesh_vert"][vertices], kept["mesh_polynormal"][faces])
        for name, where in (("mesh_polyvert", faces), ("mesh_polymap", vertices)):
            for start, count in zip(kept[f"{name}adr"][where], kept[f"{name}num"][where], strict=True):
                yield kept[name][start : start + count]
        if (graph := kept["mesh_graphadr"][mesh]) >= 0:
            corners, sides = kept["mesh_graph"][graph : graph + 2]
            yield kept["mesh_graph"][graph : graph + 2 + 3 * corners + 6 * sides]
        else:
            yield np.empty(0)

    for one, another in zip(parts(mine, mesh), parts(theirs, other), strict=True):
        np.testing.assert_array_equal(one, another)


def test_scenes_that_are_loaded_after_a_graph_was_captured_act_as_in_fresh_worlds():
    first, second = ([some(np.random.default_rng(s + w), z=0.02, seed=s + w) for w in range(2)] for s in (40, 50))
    with closing(worlds(2)) as old, closing(worlds(2)) as fresh:
        old.load((0, 1), first)
        run(old, 5)
        (batch,) = old.batches.values()
        graph, before = batch._graph, _addresses(batch)
        old.load((0, 1), second)
        fresh.load((0, 1), second)
        mine, theirs = run(old, 20), run(fresh, 20)
        assert batch._graph is graph and _addresses(batch) == before, "what was captured is written in place"
    for world in range(2):
        assert apart(mine.state(world), theirs.state(world)) == 0.0
        assert mine.state(world).contacts == theirs.state(world).contacts != ()


def _addresses(batch):
    parts = (batch._model, batch._data, batch._data.contact, batch._data.efc, batch._model.opt, batch._contacts)
    arrays = [(name, value) for part in parts for name, value in sorted(vars(part).items()) if isinstance(value, wp.array)]
    return [(name, value.ptr) for name, value in arrays if value.size]


# ------------------------------------------------------------------------------------------------------------------- faults


def test_what_finds_no_room_is_void_and_says_so_and_the_next_scene_gets_room(monkeypatch):
    monkeypatch.setattr(batches, "_CONTACTS", 2)
    with closing(worlds(1)) as batch:
        batch.load((0,), (scene(placed("a", block())),))
        tape = run(batch, 1)
        with pytest.raises(SceneError, match=r"scene 7 in world 0 found no room .*NARROWPHASE.*room for 2 contacts of 1 worlds"):
            tape.state(0)
        assert run(batch, 1).faults.keys() == {0}, "until the next scene"
        batch.load((0,), (scene(placed("a", block())),))
        assert run(batch, 5).state(0).force_between("a/", "table") == pytest.approx(0.0448 * GRAVITY, rel=0.1)
        (only,) = batch.batches.values()
        assert only.room.contacts == 4


def test_a_world_that_becomes_unstable_is_void_alone(four):
    settings = [some(np.random.default_rng(60 + world), seed=world) for world in range(4)]
    four.load(range(4), settings)
    for force in (1e12, 1e30):  # the second makes the solver give up, and nothing moves
        four.load((2,), (settings[2],))
        tape = run(four, 1, pushes={2: (Push(body="a", force=(force, 0.0, 0.0)),)})
        assert set(tape.faults) == {2}
        with pytest.raises(SceneError, match=r"scene 2 in world 2 became unstable.*before 0.02 s"):
            tape.state(2)
    for world in (0, 1, 3):
        state = run(four, 5).state(world)
        assert state.force_between("a/", "table") == pytest.approx(mass_of(settings[world]) * GRAVITY, rel=0.1)
    four.load((2,), (settings[2],))
    assert run(four, 5).state(2).force_between("a/", "table") == pytest.approx(mass_of(settings[2]) * GRAVITY, rel=0.1)


def test_what_cannot_be_simulated_is_refused_with_the_remedy(four):
    grains = dataclasses.replace(scene(placed("a", block())), grains=Grains(positions=((0.0, 0.0, 0.1),)))
    with pytest.raises(ConfigError, match=r"simulates no grains.*has 1: leave that task out, or choose physics='mujoco'"):
        four.load((0,), (grains,))
    with pytest.raises(ConfigError, match=r"no Warp device 'cuda:7' here; available: cpu"):
        WarpWorlds(gantry(), num_worlds=1, width=SIZE, height=SIZE, device="cuda:7")


def test_scenes_settle_in_mujoco_c_whoever_plays_them():
    assert physics.beside("mujoco_warp") == "mujoco" == physics.beside("mujoco")
    config = WorldConfig(physics="mujoco_warp", width=SIZE, height=SIZE)
    world = World(config=config, robot=gantry(), assets=(), reach=None)
    given = MujocoPhysics(gantry(), width=SIZE, height=SIZE)
    with closing(world.make_physics()) as played:
        assert isinstance(played, WarpWorld)
        assert isinstance(world.make_beside(played), MujocoPhysics) and world.make_beside(given) is given
