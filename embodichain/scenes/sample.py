"""The scene sampler: turns a task's request and a seed into a Scene whose objects are reachable, apart and within their ranges."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from embodichain.errors import ConfigError, SceneError
from embodichain.expand.diversity import Choice, DiversityConfig, Floats, Interaction, features, spread
from embodichain.expand.physical import PhysicalConfig, vary
from embodichain.expand.setting import furnish
from embodichain.expand.size import draw_sizes, resized
from embodichain.expand.visual import VisualConfig, redraw
from embodichain.motion.frames import affordance
from embodichain.protocols import Physics, Task
from embodichain.scenes.config import SampleConfig
from embodichain.scenes.distractors import scatter
from embodichain.scenes.filling import Vessels
from embodichain.scenes.layout import Footprint, separate
from embodichain.scenes.obstacles import arm_bases, standing_parts
from embodichain.scenes.reach import ReachTable
from embodichain.scenes.settle import settle
from embodichain.scenes.visibility import Views
from embodichain.types import (
    INSTRUCTION_BYTES,
    TABLE_SIZE,
    Asset,
    Bounds,
    Nudge,
    ObjectPlacement,
    ObjectRequest,
    Pose,
    Pushed,
    Robot,
    Scene,
    SceneRequest,
    Vec3,
)
from embodichain.types.poses import compose, inverse, turn, turned, yaw_of, yaw_pose

TABLE = TABLE_SIZE[:2]
"""Extent of the table top along X and Y [m]."""
_KEPT = 512
"""Number of outlines that are cached, one for each asset and size. The cache is bounded because streams of assets are endless."""


class SceneSampler:
    """Samples scenes of any task for one robot and one set of assets. The same seed gives the same scene in any process."""

    def __init__(
        self,
        robot: Robot,
        assets: Iterable[Asset],
        reach: ReachTable | None,
        *,
        visual: VisualConfig | None = None,
        physical: PhysicalConfig | None = None,
        diversity: DiversityConfig | None = None,
        config: SampleConfig | None = None,
        bounds: Bounds | None = None,
        physics: Physics | None = None,
    ) -> None:
        """`reach` may be None as long as no task asks for reachable affordances.

        With `physics`, objects are simulated until they are at rest. The world built for that is reused by an episode of the scene.
        """
        self._robot = robot
        self._cameras = tuple(camera.name for camera in robot.cameras)
        self._all_arms = frozenset(arm.name for arm in robot.arms)
        self._assets = sorted(assets, key=lambda asset: (asset.name, asset.content_hash))
        self._reach = reach
        self._visual = visual or VisualConfig()
        self._diversity = diversity or DiversityConfig()
        self._physical = physical or PhysicalConfig()
        self._config = config or SampleConfig()
        self._bounds = bounds or Bounds()
        self._physics = physics
        self._footprints: dict[str, Footprint] = {}
        self._vessels = Vessels()

    @cached_property
    def _obstacles(self) -> tuple[Footprint, ...]:
        """Parts of the robot that stand on the table. Computed on demand, because scenes of benchmarks place no objects."""
        return standing_parts(self._robot)

    @cached_property
    def _views(self) -> Views:
        """The robot's fixed cameras."""
        return Views(self._robot)

    @cached_property
    def _bases(self) -> tuple[tuple[str, Vec3], ...]:
        """Positions of its arms' bases [m], by the arms' names."""
        return arm_bases(self._robot)

    def sample(self, task: Task, seed: int, fresh: Sequence[Asset] | None = None) -> Scene:
        """A scene of `task` with its objects at rest. They are drawn from `fresh` if that is given, else from the sampler's assets.

        Raises:
            SceneError: An asset is missing or too large, no valid layout was found, or an object does not rest where it was put;
                the message gives the reason.
        """
        scene = self._laid_out(task, seed, self._assets if fresh is None else fresh)
        return scene if self._physics is None else settle(self._physics, scene, self._config.settle)

    def _laid_out(self, task: Task, seed: int, assets: Sequence[Asset]) -> Scene:
        """A scene of `task` before its objects have settled."""
        request, placements, (visual_rng, physical_rng, clutter_rng, grain_rng, _) = self._arranged(task, seed, assets)
        placements += self._scatter(request, placements, clutter_rng)
        scene = Scene(seed=seed, task=task.name, instruction=request.instruction, objects=placements, bounds=self._bounds)
        if request.filling is not None:
            scene = replace(scene, grains=self._vessels.fill(request.filling, placements, grain_rng))
        if request.nudges:
            scene = replace(scene, happening=tuple(_happening(scene, nudge, self._robot.control_hz) for nudge in request.nudges))
        seen = furnish(redraw(scene, visual_rng, self._visual, self._cameras), self._visual.setting, self._visual.sensor)
        return vary(seen, physical_rng, self._physical)

    def _arranged(
        self, task: Task, seed: int, known: Sequence[Asset]
    ) -> tuple[SceneRequest, tuple[ObjectPlacement, ...], Sequence[np.random.Generator]]:
        """The request of `task`, the placements of its objects, and the random generators for the rest of the scene."""
        request_rng, asset_rng, pose_rng, *others = _streams(seed)
        request = task.request(request_rng)
        if (size := len(request.instruction.encode())) > INSTRUCTION_BYTES:
            raise ConfigError(
                f"task {task.name!r} says what to do in {size} bytes, and a trajectory holds {INSTRUCTION_BYTES}: "
                f"shorten {request.instruction[:40]!r}..."
            )
        assets = self._sized(request, self._choose_all(request, asset_rng, known), others[-1])
        placements: tuple[ObjectPlacement, ...] = ()
        obstacle = ""
        for _ in range(self._config.max_layouts if request.objects else 0):
            placements, obstacle = self._place(request, assets, pose_rng)
            if not obstacle:
                break
        if obstacle:
            raise SceneError(
                f"no scene of {task.name!r} for seed {seed} after {self._config.max_layouts} layouts; the last one failed because "
                f"{obstacle}. Widen the task's ranges, use smaller assets, or a robot that reaches further"
            )
        return request, placements, others

    def _sized(self, request: SceneRequest, assets: list[Asset], rng: np.random.Generator) -> list[Asset]:
        """The assets, resized a little where physical expansion varies sizes."""
        if not self._physical.enabled or self._physical.scale == (1.0, 1.0):
            return assets
        factors = draw_sizes(request, assets, rng, self._physical.scale)
        return [resized(asset, factor) for asset, factor in zip(assets, factors, strict=True)]

    def _scatter(
        self, request: SceneRequest, placements: tuple[ObjectPlacement, ...], rng: np.random.Generator
    ) -> tuple[ObjectPlacement, ...]:
        """Distractors for a scene of these objects."""
        if not self._config.distractors:
            return ()
        taken = list(self._obstacles)
        for placement in placements:
            outline = self._footprint(placement.asset).turned(yaw_of(placement.pose.quaternion))
            taken.append(Footprint(vertices=outline.vertices + placement.pose.position[:2], normals=outline.normals))
        count = int(rng.integers(self._config.distractors + 1))
        outlines = {asset.name: self._footprint(asset) for asset in self._assets}

        before = [(placement, _before(request, placement, placements)) for placement in placements]

        def hide(extras: Sequence[ObjectPlacement]) -> bool:
            least = self._config.min_visible
            return any(self._shown(one, (*others, *extras)) < least <= self._shown(one, others) for one, others in before)

        return scatter(count, self._assets, outlines, placements, taken, rng, hide)

    def choose(self, task: Task, seeds: Sequence[int], archive: Floats | None = None) -> Choice:
        """Chooses seeds for a block of scenes out of `seeds`, so that the scenes differ (`diversity.spread`).

        They also differ from the scenes with features `archive`, shape [N, F]. Seeds without a scene are skipped; raises SceneError
        when too few seeds are left.
        """
        reachable, found = [], []
        refusal = ""
        for seed in seeds:
            try:
                found.append(self.features(task, seed))
                reachable.append(seed)
            except SceneError as error:
                refusal = refusal or str(error)
        count = min(self._diversity.block, len(seeds))
        if len(reachable) < count:
            raise SceneError(f"only {len(reachable)} of {len(seeds)} candidates of {task.name!r} have a scene: {refusal}")
        chosen = spread(np.array(found), count, archive)
        return Choice(seeds=tuple(reachable[index] for index in chosen), features=np.array(found)[chosen])

    def features(self, task: Task, seed: int, fresh: Sequence[Asset] | None = None) -> Floats:
        """The demands of a seed's scene on a hand as numbers (`diversity.features`), before looks, masses and distractors."""
        request, placements, _ = self._arranged(task, seed, self._assets if fresh is None else fresh)
        return features(
            self.interaction(task, Scene(seed=seed, task=task.name, instruction=request.instruction, objects=placements))
        )

    def interaction(self, task: Task, scene: Scene) -> Interaction:
        """The first contact that a scene of `task` demands of a hand, and the motion that follows from it."""
        frames = []
        roles = {placement.role for placement in scene.objects}
        for wanted in task.request(_streams(scene.seed)[0]).objects:  # as it was when the scene was drawn
            if wanted.role not in roles:
                continue
            placement = scene.object(wanted.role)
            joints = placement.joint_positions
            frames += [(wanted, affordance(placement.asset, name, placement.pose, joints)) for name in wanted.reach]
        if not frames:
            frames = [(None, placement.pose) for placement in scene.objects[:1]]
        wanted, contact = frames[0]
        arms = self._all_arms
        if wanted is not None:
            arms = self._arms_reaching(wanted, scene.object(wanted.role).asset, scene.object(wanted.role).pose)
        x, y, z = contact.position
        if len(frames) > 1:
            a, b, c = frames[1][1].position
            result = (a - x, b - y, c - z)
        else:  # an articulation turns away from its present position
            turn = -sum(scene.objects[0].joint_positions)
            direction = turned(scene.objects[0].pose.quaternion, (0.2 * turn, 0.0, 0.0))
            result = (direction[0], direction[1], direction[2])
        bounds = scene.objects[0].asset.bounds if wanted is None else scene.object(wanted.role).asset.bounds
        return Interaction(
            contact=contact, arms=arms, bases=self._bases, result=result, size=float(np.ptp(bounds[:, :2], axis=0).min())
        )

    def _choose_all(self, request: SceneRequest, rng: np.random.Generator, known: Sequence[Asset]) -> list[Asset]:
        """An asset for every object, drawn again until those that the request ranks by size differ enough."""
        for _ in range(self._config.max_choices):
            assets = [self._choose(wanted, rng, known) for wanted in request.objects]
            edges = {wanted.role: _edge(asset) for wanted, asset in zip(request.objects, assets, strict=True)}
            ranked = [edges[role] for role in request.ascending]
            if all(larger - smaller >= request.size_step for smaller, larger in itertools.pairwise(ranked)):
                return assets
        categories = {wanted.category for wanted in request.objects if wanted.role in request.ascending}
        found = sorted(round(1000 * _edge(asset)) for asset in known if asset.category in categories)
        raise SceneError(
            f"no assets for {', '.join(request.ascending)} that differ by {1000 * request.size_step:.0f} mm in size; "
            f"their sizes are {found} mm: add instances to the catalogue"
        )

    def _choose(self, wanted: ObjectRequest, rng: np.random.Generator, known: Sequence[Asset]) -> Asset:
        fitting = [asset for asset in known if asset.category == wanted.category]
        if not fitting:
            available = ", ".join(sorted({asset.category for asset in known})) or "none"
            raise SceneError(f"no asset of category {wanted.category!r} for role {wanted.role!r}; available: {available}")
        low, high = wanted.height
        heights = [float(asset.bounds[1, 2] - asset.bounds[0, 2]) for asset in fitting] if wanted.height != (0.0, math.inf) else []
        if heights:
            fitting = [asset for asset, height in zip(fitting, heights, strict=True) if low <= height <= high]
        if not fitting:
            raise SceneError(
                f"no {wanted.category!r} for role {wanted.role!r} is {low:.3f} to {high:.3f} m high; the catalogue's are "
                f"{', '.join(f'{height:.3f}' for height in sorted(heights))} m: add instances"
            )
        asset = fitting[int(rng.integers(len(fitting)))]
        extent = asset.bounds[1, :2] - asset.bounds[0, :2]
        if min(extent) > min(TABLE) or max(extent) > max(TABLE):
            raise SceneError(
                f"asset {asset.name!r} of {extent[0]:.2f} x {extent[1]:.2f} m is larger than the table of {TABLE[0]} x {TABLE[1]} m"
            )
        joints = asset.movable_joints
        if wanted.joint_positions and len(wanted.joint_positions) != len(joints):
            raise SceneError(
                f"role {wanted.role!r} asks for {len(wanted.joint_positions)} joint positions, {asset.name!r} has {len(joints)}"
            )
        for value, joint in zip(wanted.joint_positions, joints, strict=False):
            if not joint.lower - 1e-6 <= value <= joint.upper + 1e-6:
                raise SceneError(
                    f"role {wanted.role!r} asks for {joint.name}={value:.3f}, "
                    f"which {asset.name!r} limits to {joint.lower:.3f}..{joint.upper:.3f}"
                )
        return asset

    def _place(
        self, request: SceneRequest, assets: list[Asset], rng: np.random.Generator
    ) -> tuple[tuple[ObjectPlacement, ...], str]:
        """One attempt: draws poses, moves them apart, checks. Returns the placements and what is wrong ("" if nothing)."""
        drawn: list[tuple[float, float, float]] = []
        arms = self._all_arms
        for wanted, asset in zip(request.objects, assets, strict=True):
            if wanted.onto is not None:
                drawn.append((0.0, 0.0, float(rng.uniform(*wanted.yaw))))
                continue
            for _ in range(self._config.max_poses):
                x, y, yaw = (float(rng.uniform(*limits)) for limits in (wanted.x, wanted.y, wanted.yaw))
                reaching = self._arms_reaching(wanted, asset, yaw_pose(x, y, 0.0, yaw)) & arms
                if reaching:
                    break
            else:
                return (), f"no arm reaches {' and '.join(wanted.reach)} of {wanted.role!r} ({asset.name}) within its ranges"
            drawn.append((x, y, yaw))
            arms = reaching if request.same_arm else arms
        standing = [index for index, wanted in enumerate(request.objects) if wanted.onto is None]
        ranges = [request.objects[index] for index in standing]
        layout = separate(
            [self._footprint(assets[i]).grown(request.objects[i].margin).turned(drawn[i][2]) for i in standing],
            np.array([drawn[i][:2] for i in standing]),
            np.array([(wanted.x[0], wanted.y[0]) for wanted in ranges]),
            np.array([(wanted.x[1], wanted.y[1]) for wanted in ranges]),
            self._config.layout,
            self._obstacles,
        )
        if layout.gap < self._config.layout.clearance - self._config.layout.tolerance:
            names = [repr(wanted.role) for wanted in ranges] + ["the robot"] * len(self._obstacles)
            first, second = (names[index] for index in layout.tightest)
            return (), f"{first} and {second} stay {layout.gap * 1000:.1f} mm apart"
        arms = self._all_arms
        placements: list[ObjectPlacement] = []
        positions = {index: (float(x), float(y)) for index, (x, y) in zip(standing, layout.positions, strict=True)}
        for index, (wanted, asset, (_, _, yaw)) in enumerate(zip(request.objects, assets, drawn, strict=True)):
            if index in positions:
                pose = yaw_pose(positions[index][0], positions[index][1], 0.0, yaw)
            else:
                pose = _seated(wanted, asset, yaw, placements)
            reaching = self._arms_reaching(wanted, asset, pose) & arms
            if not reaching:
                return (), f"no arm reaches {' and '.join(wanted.reach)} of {wanted.role!r} ({asset.name}) once it is moved clear"
            arms = reaching if request.same_arm else arms
            joints = wanted.joint_positions or (0.0,) * len(asset.movable_joints)
            placements.append(ObjectPlacement(role=wanted.role, asset=asset, pose=pose, joint_positions=joints, color=wanted.color))
        return tuple(placements), self._too_little_seen(request, placements)

    def _too_little_seen(self, request: SceneRequest, placements: Sequence[ObjectPlacement]) -> str:
        """Describes the object of which the fixed cameras see too little, and why; "" when there is none."""
        least = self._config.min_visible
        for shown in placements:
            before = _before(request, shown, placements)
            visible = self._shown(shown, before)
            if visible < least:
                alone = self._shown(shown, ())
                why = "in its picture" if alone < least else f"in sight behind {' and '.join(repr(o.role) for o in before)}"
                return f"no fixed camera has more than {100 * visible:.0f}% of {shown.role!r} {why}, {100 * least:.0f}% needed"
        return ""

    def _shown(self, shown: ObjectPlacement, before: Iterable[ObjectPlacement]) -> float:
        """Share of an object that some fixed camera sees when others stand before it."""
        others = [(other.asset, other.pose, other.joint_positions) for other in before]
        return self._views.share(shown.asset, shown.pose, shown.joint_positions, others)

    def _arms_reaching(self, wanted: ObjectRequest, asset: Asset, pose: Pose) -> frozenset[str]:
        """The allowed arms that reach every affordance of the request, with the asset at `pose`; all of them when it has none."""
        arms = frozenset(wanted.arms) or self._all_arms
        for name in wanted.reach:
            if self._reach is None:
                raise SceneError(f"role {wanted.role!r} must be reachable, but the sampler was given no reachability table")
            frame = affordance(asset, name, pose, wanted.joint_positions)
            arms &= frozenset(self._reach.arms_reaching(compose(frame, Pose(position=(0.0, 0.0, -wanted.standoff)))))
        return arms

    def _footprint(self, asset: Asset) -> Footprint:
        key = f"{asset.name}:{asset.content_hash}:{asset.scale!r}"
        if key not in self._footprints:
            if len(self._footprints) >= _KEPT:
                self._footprints.pop(next(iter(self._footprints)))
            self._footprints[key] = Footprint.of_asset(asset)
        return self._footprints[key]


def _happening(scene: Scene, nudge: Nudge, control_hz: int) -> Pushed:
    """A nudge converted to the world frame, and to control steps of the robot."""
    force = turned(scene.object(nudge.role).pose.quaternion, nudge.force)
    begin, steps = round(nudge.begin_s * control_hz), max(1, round(nudge.lasts_s * control_hz))
    return Pushed(begin=begin, steps=steps, body=f"{nudge.role}/{nudge.body}", force=force)


def _streams(seed: int) -> list[np.random.Generator]:
    """Random generators of a scene: first that of the request. They are separate, so that no part's draws shift another's."""
    return [np.random.default_rng(stream) for stream in np.random.SeedSequence(seed).spawn(8)]


def _before(request: SceneRequest, shown: ObjectPlacement, placements: Sequence[ObjectPlacement]) -> list[ObjectPlacement]:
    """The objects of a scene that may not hide another: all others, but for what it is in or on, and what is in or on it."""
    stacked = {(wanted.role, wanted.onto[0]) for wanted in request.objects if wanted.onto is not None}
    stacked |= {(below, above) for above, below in stacked}
    return [other for other in placements if other is not shown and (other.role, shown.role) not in stacked]


def _edge(asset: Asset) -> float:
    """Size of an asset [m]: the cube root of the volume of its bounding box."""
    lower, upper = asset.bounds
    return float(np.prod(upper - lower)) ** (1 / 3)


def _seated(wanted: ObjectRequest, asset: Asset, yaw: float, placements: list[ObjectPlacement]) -> Pose:
    """The pose of an object that stands on one placed before."""
    assert wanted.onto is not None
    role, seat, own = wanted.onto
    for base in placements:
        if base.role == role:
            world_from_seat = affordance(base.asset, seat, base.pose, base.joint_positions)
            turned_seat = compose(world_from_seat, Pose(quaternion=turn((0.0, 0.0, 1.0), yaw)))
            return compose(turned_seat, inverse(affordance(asset, own, Pose()))) if own else turned_seat
    placed = ", ".join(base.role for base in placements) or "none"
    raise SceneError(f"role {wanted.role!r} must stand on {role!r}, which is not placed before it; placed: {placed}")
