"""Laws of the sampler: scenes are inside their ranges, reachable, free of penetration and decided by their seed alone."""

from dataclasses import replace

import numpy as np
import pytest
from scene_parts import COARSE, ROBOT, assets, body, box, make_sampler, mouse, pad

from embodichain import tasks
from embodichain.config import WorldConfig
from embodichain.errors import ConfigError, SceneError
from embodichain.expand.diversity import DiversityConfig
from embodichain.expand.physical import PhysicalConfig
from embodichain.expand.visual import VisualConfig
from embodichain.motion.frames import affordance
from embodichain.physics.mujoco import MujocoPhysics
from embodichain.scenes.config import SampleConfig
from embodichain.scenes.reach import ReachTable
from embodichain.scenes.sample import SceneSampler
from embodichain.scenes.visibility import Views
from embodichain.stages import SceneStage
from embodichain.tasks.place_mouse_pad import COLORS
from embodichain.tasks.turn_switch import TurnSwitch
from embodichain.types import Asset, ObjectPlacement, ObjectRequest, Pose, Scene, SceneRequest
from embodichain.types.poses import compose, wrap, yaw_of, yaw_pose
from embodichain.world import Split, World

TASKS = ("turn_switch", "place_mouse_pad")


@pytest.fixture(scope="module")
def sampler(tmp_path_factory) -> SceneSampler:
    return make_sampler(tmp_path_factory.mktemp("reach"))


def looks(scene: Scene) -> list:
    return [scene.instruction, scene.lights, scene.table_color, *map(layout, scene.objects)]


def layout(placement) -> tuple:
    return placement.role, placement.asset.name, placement.pose, placement.joint_positions, placement.color


class Wish(TurnSwitch):
    """A task that asks for exactly these objects."""

    def __init__(self, *objects: ObjectRequest) -> None:
        super().__init__()
        self.objects = objects

    def request(self, rng: np.random.Generator) -> SceneRequest:
        return SceneRequest(instruction="", objects=self.objects)


@pytest.mark.parametrize("name", TASKS)
def test_objects_stand_inside_the_ranges_that_the_task_asks_for(sampler: SceneSampler, name: str) -> None:
    task = tasks.make(name)
    for seed in range(30):
        scene = sampler.sample(task, seed)
        request_rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(4)[0])
        request = task.request(request_rng)
        assert scene.instruction == request.instruction
        for wanted, placed in zip(request.objects, scene.objects, strict=True):
            x, y, z = placed.pose.position
            assert wanted.x[0] <= x <= wanted.x[1] and wanted.y[0] <= y <= wanted.y[1] and z == 0.0
            yaw = yaw_of(placed.pose.quaternion)
            assert wanted.yaw[0] - 1e-9 <= yaw <= wanted.yaw[1] + 1e-9 or abs(wrap(yaw - wanted.yaw[0])) < 1e-9
            assert placed.asset.category == wanted.category
            assert placed.joint_positions == (wanted.joint_positions or (0.0,) * len(placed.asset.movable_joints))


@pytest.mark.parametrize("name", TASKS)
def test_sizes_vary_with_physical_expansion_alone_and_shift_no_other_draw(name: str, tmp_path_factory) -> None:
    folder, task = tmp_path_factory.mktemp("reach"), tasks.make(name)
    plain, same, sized = (
        make_sampler(folder, physical=config)
        for config in (None, PhysicalConfig(enabled=True, scale=(1.0, 1.0)), PhysicalConfig(enabled=True, scale=(0.9, 1.1)))
    )
    factors = set()
    for seed in range(12):
        one, two, three = (some.sample(task, seed) for some in (plain, same, sized))
        assert looks(one) == looks(two) and not any("scale" in key for key in two.expansion)
        assert [placed.asset.name for placed in three.objects] == [placed.asset.name for placed in one.objects]
        assert three.expansion["robot.stiffness"] == two.expansion["robot.stiffness"]
        for placed, before in zip(three.objects, one.objects, strict=True):
            factors.add(placed.asset.scale)
            assert 0.9 <= placed.asset.scale <= 1.1 and three.expansion[f"{placed.role}.scale"] == placed.asset.scale
            np.testing.assert_allclose(
                np.ptp(placed.asset.bounds, axis=0), placed.asset.scale * np.ptp(before.asset.bounds, axis=0)
            )
    assert len(factors) > 6


@pytest.mark.parametrize("name", TASKS)
def test_one_arm_reaches_all_that_the_task_names(sampler: SceneSampler, name: str, tmp_path_factory) -> None:
    table = ReachTable.load_or_build(ROBOT, COARSE, cache_dir=tmp_path_factory.mktemp("reach"))
    task = tasks.make(name)
    for seed in range(20):
        scene = sampler.sample(task, seed)
        request = task.request(np.random.default_rng(np.random.SeedSequence(seed).spawn(4)[0]))
        arms = {arm.name for arm in ROBOT.arms}
        for wanted, placed in zip(request.objects, scene.objects, strict=True):
            for affords in wanted.reach:
                frame = affordance(placed.asset, affords, placed.pose, placed.joint_positions)
                arms &= set(table.arms_reaching(compose(frame, Pose(position=(0.0, 0.0, -wanted.standoff)))))
        assert arms


def test_no_object_touches_another_or_the_robot_when_physics_begins(sampler: SceneSampler) -> None:
    physics = MujocoPhysics(ROBOT, width=16, height=16)
    for name in TASKS:
        for seed in range(30):
            scene = sampler.sample(tasks.make(name), seed)
            physics.reset(scene)
            state = physics.step(ROBOT.home)
            roles = {placement.role for placement in scene.objects}
            for contact in state.contacts:
                owners = {contact.first.split("/")[0], contact.second.split("/")[0]}
                assert not (owners <= roles and len(owners) == 2), contact
                assert not ("robot" in owners and owners & roles), contact
            depths = [contact.dist for contact in physics.world.data.contact]
            assert min(depths, default=0.0) > -5e-4


@pytest.mark.parametrize("name", TASKS)
def test_a_seed_decides_the_scene_whatever_was_sampled_before_and_however_assets_are_ordered(name, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("reach")
    first = make_sampler(folder)
    second = SceneSampler(ROBOT, assets()[::-1], ReachTable.load_or_build(ROBOT, COARSE, cache_dir=folder))
    task = tasks.make(name)
    scenes = [first.sample(task, seed) for seed in range(6)]
    again = [second.sample(task, seed) for seed in reversed(range(6))][::-1]
    assert [looks(scene) for scene in scenes] == [looks(scene) for scene in again]
    assert len({str(looks(scene)) for scene in scenes}) == 6


def test_visual_expansion_changes_the_looks_alone_and_is_recorded(sampler: SceneSampler, tmp_path_factory) -> None:
    expanded = make_sampler(tmp_path_factory.mktemp("reach"), visual=VisualConfig(enabled=True))
    task = tasks.make("place_mouse_pad")
    plain, drawn = sampler.sample(task, 3), expanded.sample(task, 3)
    assert [layout(o)[:4] for o in plain.objects] == [layout(o)[:4] for o in drawn.objects]
    assert plain.expansion == {} and plain.lights != drawn.lights and plain.table_color != drawn.table_color
    assert {"light_temperature_k", "light_intensity", "table_red"} <= set(drawn.expansion)
    assert expanded.sample(task, 4).expansion != drawn.expansion


def test_every_pad_colour_keeps_its_name_under_visual_expansion(tmp_path_factory) -> None:
    expanded = make_sampler(tmp_path_factory.mktemp("reach"), visual=VisualConfig(enabled=True))
    for seed in range(20):
        scene = expanded.sample(tasks.make("place_mouse_pad"), seed)
        seen = np.array(scene.object("pad_target").color)
        nearest = min(COLORS, key=lambda color: float(np.linalg.norm(seen - COLORS[color])))
        assert nearest in scene.instruction


def test_refusals_name_the_object_and_the_reason(sampler: SceneSampler, tmp_path_factory) -> None:
    def wish(**fields) -> Wish:
        return Wish(ObjectRequest(**{"role": "thing", "category": "mouse", **fields}))

    with pytest.raises(SceneError, match="category 'teapot' for role 'thing'; available: mouse, pad, switch"):
        sampler.sample(wish(category="teapot"), 0)
    with pytest.raises(SceneError, match="no arm reaches grasp of 'thing'"):
        sampler.sample(wish(x=(2.0, 2.1), reach=("grasp",)), 0)
    with pytest.raises(SceneError, match="2 joint positions"):
        sampler.sample(wish(category="switch", joint_positions=(0.0, 0.0)), 0)
    with pytest.raises(SceneError, match=r"limits to -0.500\.\.0.500"):
        sampler.sample(wish(category="switch", joint_positions=(0.9,)), 0)
    crowd = [ObjectRequest(role=f"pad{i}", category="pad", x=(-0.1, 0.1), y=(-0.1, 0.1)) for i in range(5)]
    with pytest.raises(SceneError, match="mm apart"):
        sampler.sample(Wish(*crowd), 0)
    huge = SceneSampler(ROBOT, [replace(pad(), bodies=mouse(1.5).bodies, category="mouse")], None)
    with pytest.raises(SceneError, match="larger than the table"):
        huge.sample(wish(), 0)


def test_what_only_one_arm_may_reach_is_reached_by_that_arm(sampler: SceneSampler) -> None:
    table = ReachTable.load_or_build(ROBOT, COARSE)
    wish = Wish(ObjectRequest(role="mouse", category="mouse", reach=("grasp",), arms=("right",)))
    for seed in range(20):
        placed = sampler.sample(wish, seed).object("mouse")
        assert "right" in table.arms_reaching(affordance(placed.asset, "grasp", placed.pose))
    nobody = Wish(ObjectRequest(role="mouse", category="mouse", y=(0.40, 0.41), x=(-0.1, 0.0), reach=("grasp",), arms=("right",)))
    with pytest.raises(SceneError, match="no arm reaches grasp"):
        sampler.sample(nobody, 0)


def test_with_diversity_a_number_still_decides_its_scene_whoever_asks_in_whatever_order(tmp_path_factory):
    reach = ReachTable.load_or_build(ROBOT, COARSE, cache_dir=tmp_path_factory.mktemp("reach"))
    diversity = DiversityConfig(enabled=True, candidates=2, block=4)
    config = WorldConfig(tasks=("turn_switch", "place_mouse_pad"), diversity=diversity)
    world = World(config=config, robot=ROBOT, assets=tuple(assets()), reach=reach)
    forth, back = SceneStage(world), SceneStage(world)
    numbers = list(range(12))
    first = {number: forth.step(number) for number in numbers}
    for number in reversed(numbers):
        task, scene = back.step(number)
        assert (task.name, scene.seed) == (first[number][0].name, first[number][1].seed)
        assert [o.pose for o in scene.objects] == [o.pose for o in first[number][1].objects]
    assert len({scene.seed for _, scene in first.values()}) == len(numbers)
    held_out = SceneStage(world, Split.HELD_OUT)
    assert {scene.seed for _, scene in first.values()}.isdisjoint(held_out.step(number)[1].seed for number in numbers)


def test_every_object_shows_to_a_fixed_camera_and_what_cannot_is_refused(sampler):
    views = Views(ROBOT)
    for seed in range(25):
        scene = sampler.sample(tasks.make("place_mouse_pad"), seed)
        assert all(views.share(placement.asset, placement.pose) >= 0.5 for placement in scene.objects)
    assert views.share(mouse(), yaw_pose(0.0, 0.0, 0.0, 0.3)) == 1.0
    assert views.share(mouse(), yaw_pose(0.0, 3.0, 0.0, 0.3)) == 0.0
    assert 0.0 < min(views.share(pad(), yaw_pose(0.0, y / 100, 0.0, 0.0)) for y in range(20, 45, 2)) < 0.95


def test_distractors_lie_still_leave_room_and_change_nothing_else(sampler, tmp_path_factory):
    config = SampleConfig(distractors=4)
    crowded = make_sampler(tmp_path_factory.mktemp("reach"), config=config)
    physics = MujocoPhysics(ROBOT, width=16, height=16)
    seen = set()
    for seed in range(6):
        plain, found = (which.sample(TurnSwitch(), seed) for which in (sampler, crowded))
        assert layout(found.objects[0]) == layout(plain.objects[0])
        extras = found.objects[1:]
        seen.add(len(extras))
        assert all(extra.asset.category != "switch" and extra.role == f"distractor_{i}" for i, extra in enumerate(extras))
        start = physics.reset(found).object_poses
        for _ in range(25):
            state = physics.step(ROBOT.home)
        for extra in extras:
            np.testing.assert_allclose(state.object_poses[extra.role].position, start[extra.role].position, atol=1e-3)
            assert not any(state.touching(f"{extra.role}/", other) for other in ("switch/", "robot/"))
    assert len(seen) > 1
    with pytest.raises(ConfigError, match=r"min_visible must be 0\.\.1"):
        SampleConfig(min_visible=2.0)


class HalfHidden:
    """A mouse, of which a screen before it leaves 58% in sight."""

    name = "half_hidden"

    def request(self, rng):
        placed = (("mouse", 0.10, 0.0), ("screen", 0.0, -0.06))
        wanted = tuple(ObjectRequest(role=name, category=name, x=(x, x), y=(y, y), yaw=(0.0, 0.0)) for name, x, y in placed)
        return SceneRequest(instruction="", objects=wanted)


def test_no_distractor_hides_the_rest_of_what_another_object_hides_in_part():
    sizes = {"screen": (0.03, 0.12, 0.15), "post": (0.03, 0.03, 0.35)}
    tall = [
        Asset(name=name, category=name, bodies=(body("b", box(size, (0, 0, size[2] / 2)), mass=0.3),), content_hash=name)
        for name, size in sizes.items()
    ]
    sampler, views = SceneSampler(ROBOT, [mouse(), *tall], None, config=SampleConfig(distractors=20)), Views(ROBOT)
    for seed in range(25, 55):
        first, *others = sampler.sample(HalfHidden(), seed).objects
        assert views.share(first.asset, first.pose, (), [(one.asset, one.pose, ()) for one in others]) >= 0.5


def test_what_stands_before_an_object_hides_it_as_much_as_a_picture_says():
    tall = Asset(name="screen", category="screen", bodies=(body("b", box((0.03, 0.12, 0.15), (0, 0, 0.075)), mass=0.3),))
    views = Views(ROBOT)
    physics = MujocoPhysics(ROBOT, width=128, height=128, cameras=("head",), shadows=False)
    rgb, seen = np.empty((1, 128, 128, 3), np.uint8), np.empty((1, 128, 128), np.uint8)
    thing = ObjectPlacement(role="thing", asset=mouse(), pose=yaw_pose(0.10, 0.0, 0.0, 0.5))

    def pixels(*objects: ObjectPlacement) -> int:
        physics.reset(Scene(seed=0, task="t", instruction="", objects=objects))
        physics.render(rgb, segmentation=seen)
        return int((seen == 3).sum())

    shares = []
    for aside in (0.0, 0.03, 0.06, 0.09, 0.2):
        screen = ObjectPlacement(role="screen", asset=tall, pose=yaw_pose(0.02, aside, 0.0, 0.0))
        share = views.share(thing.asset, thing.pose, (), [(screen.asset, screen.pose, ())])
        assert abs(share - pixels(thing, screen) / pixels(thing)) < 0.2
        shares.append(share)
    assert shares[0] < 0.25 and shares[-1] == 1.0 and shares == sorted(shares)


def test_a_scene_in_which_something_hides_the_task_s_object_is_refused_and_stacked_objects_may_hide_each_other(sampler):
    def wish(**fields) -> Wish:
        screen = replace(pad(), name="screen", category="screen", bodies=(body("b", box((0.03, 0.2, 0.2), (0, 0, 0.1)), mass=0.4),))
        screen = replace(screen, affordances={"foot": ("b", Pose())}, content_hash="screen")
        hiding.append(screen)
        return Wish(
            ObjectRequest(role="thing", category="mouse", x=(0.12, 0.13), y=(-0.01, 0.01)),
            ObjectRequest(role="screen", category="screen", x=(0.04, 0.05), y=(-0.01, 0.01), yaw=(0.0, 0.0), **fields),
        )

    hiding: list[Asset] = []
    before = wish()
    on_top = wish(onto=("thing", "grasp", "foot"))
    which = SceneSampler(ROBOT, [*assets(), hiding[0]], None)
    with pytest.raises(SceneError, match=r"no fixed camera has more than \d+% of 'thing' in sight behind 'screen', 50% needed"):
        which.sample(before, 0)
    assert len(which.sample(on_top, 0).objects) == 2


def test_an_instruction_that_no_trajectory_holds_is_refused_before_anything_is_played(sampler: SceneSampler):
    class Wordy(TurnSwitch):
        def request(self, rng: np.random.Generator) -> SceneRequest:
            return replace(super().request(rng), instruction="把开关打开" * 11)

    with pytest.raises(ConfigError, match="says what to do in 165 bytes, and a trajectory holds 160"):
        sampler.sample(Wordy(), 3)
