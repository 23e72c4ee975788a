"""Cheats that a robot carries out by commands alone, in the real physics, judged by the task's own grader.

Each kind is a generator that yields commands and is sent the state after each, like an expert. Its docstring says how it alters,
extends or replaces an expert's episode. A kind that makes no sense for a task, or that the robot cannot do in this scene, raises
MotionError before it does anything wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from experience_cheats import Played

from embodichain.errors import MotionError
from embodichain.motion.action import ActionCodec
from embodichain.motion.hand import Hand, Waypoint, moved
from embodichain.motion.ik import IkConfig, solve, trace
from embodichain.motion.kinematics import Chain
from embodichain.motion.outlines import outlines
from embodichain.motion.plan import timing
from embodichain.physics.mujoco import MujocoPhysics
from embodichain.protocols import Task
from embodichain.tasks.holding import resting_on
from embodichain.types import CONTROL_HZ, Pose, Scene, WorldState
from embodichain.types.poses import turned

Doing = Generator[np.ndarray, WorldState, None]
_TAIL_S = 1.5
_PRESSED = 60.0
"""Least contact force on an object [N] for `press`; a gripper that pressed less cannot be distinguished from one that holds."""
_FINGER_BELOW = 0.010
SWITCHES = ("turn_switch", "switch_as_it_was")
"""Tasks without a loose object; closed or open grippers are no cheat there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """An expert's successful episode (scene, commands [T, A], states) and what is needed to play a variation of it."""

    task: Task
    scene: Scene
    commands: np.ndarray
    states: list[WorldState]
    physics: MujocoPhysics
    start: WorldState
    chains: tuple[Chain, ...]

    @property
    def columns(self) -> list[slice]:
        """The joints of each arm in a command."""
        return [arm.joints for arm in self.start.arms]

    @property
    def grippers(self) -> list[int]:
        """Index of each gripper's opening in a command."""
        return [arm.joints.stop for arm in self.start.arms]

    def opened(self, command: np.ndarray, share: float) -> np.ndarray:
        """The command with every gripper at `share` of its full opening."""
        changed = command.copy()
        changed[self.grippers] = [share * arm.gripper_open for arm in self.physics.robot.arms]
        return changed

    @property
    def role(self) -> str:
        """Role of the loose object that moved farthest; raises MotionError when none moved."""
        end = self.states[-1].object_poses
        far = {role: math.dist(pose.position, self.start.object_poses[role].position) for role, pose in end.items()}
        role = max(far, key=lambda name: far[name], default="")
        if not role or far[role] < 0.03:
            raise MotionError("nothing is carried in this task")
        return role

    def touching(self, role: str) -> list[int]:
        """Control steps in which the robot touched an object."""
        return [number for number, state in enumerate(self.states) if state.touching("robot/", f"{role}/")]

    @property
    def last_touch(self) -> int:
        """The last control step in which the robot touched anything."""
        roles = [placed.role for placed in self.scene.objects]
        return max(number for role in roles for number in self.touching(role) or [0])

    @property
    def highest(self) -> int:
        """The control step at which the carried object was highest."""
        role = self.role
        held = self.touching(role)
        return max(held, key=lambda number: self.states[number].object_poses[role].position[2])

    def arm(self, role: str) -> int:
        """The arm that touched an object first."""
        state = self.states[self.touching(role)[0]]
        bodies = {body for c in state.contacts for body in (c.first, c.second) if f"{role}/" in c.first + c.second}
        return next(number for number, arm in enumerate(state.arms) if not bodies.isdisjoint(arm.bodies))

    def shifted(self, arm: int, first: int, last: int, shift: Callable[[int, Pose], Sequence[float]]) -> np.ndarray:
        """The commands with one arm's tip displaced by `shift` [m] in steps `first` to `last`; MotionError if out of reach."""
        chain, columns, commands = self.chains[arm], self.columns[arm], self.commands.copy()
        poses = [chain.pose(row) for row in commands[first:last, columns]]
        goals = np.array([np.add(pose.position, shift(number, pose)) for number, pose in enumerate(poses)])
        quaternions = np.array([pose.quaternion for pose in poses])
        commands[first:last, columns] = trace(chain, goals, quaternions, commands[max(first - 1, 0), columns], IkConfig(seeds=1))
        return commands


# ------------------------------------------------------------------------------------------------- the expert's way, altered


def fast(case: Case) -> Doing:
    """The expert's motions in half the time."""
    yield from _play(case.commands[::2])


def flick(case: Case) -> Doing:
    """A quarter of a second of commands is left out where the arms move fastest, so that they jump."""
    joints = np.concatenate([case.commands[:, columns] for columns in case.columns], axis=1)
    steps = np.abs(np.diff(joints, axis=0)).max(axis=1)
    quickest = int(steps.argmax())
    if steps[quickest] < 0.01:
        raise MotionError("the arms stand still in this scene")
    yield from _play(case.commands[: max(quickest - 6, 0)])
    yield from _play(case.commands[quickest + 7 :])


def held(case: Case) -> Doing:
    """The expert's motions, but the gripper never opens again."""
    yield from _play(case.commands[: case.last_touch - 2])


def drop(case: Case) -> Doing:
    """The grippers open where the object is highest."""
    command = case.commands[0]
    for command in case.commands[: case.highest + 1]:
        yield command
    for _ in range(25):
        yield case.opened(command, 1.0)


def throw(case: Case) -> Doing:
    """The grippers open while the object moves fastest, and the arms continue."""
    role = case.role
    carried = [n for n in case.touching(role) if not resting_on(case.states[n], role)]
    speeds = {n: float(np.linalg.norm(case.states[n].object_velocities[role][:2])) for n in carried}
    begin = max(speeds, key=lambda n: speeds[n], default=-1)
    if begin < 0 or speeds[begin] < 0.15:  # released more slowly it may be validly put down, such as a mug on a branch
        raise MotionError("nothing is carried fast enough to be thrown")
    for number, command in enumerate(case.commands):
        yield case.opened(command, 1.0) if begin <= number < begin + 40 else command


def drag(case: Case) -> Doing:
    """The object is held but never lifted: the gripper stays at the height of the grasp."""
    role = case.role
    arm, taken = case.arm(role), case.touching(role)
    low = case.chains[arm].pose(case.commands[taken[0], case.columns[arm]]).position[2]
    yield from _play(case.shifted(arm, taken[0], taken[-1], lambda _, pose: (0.0, 0.0, min(low - pose.position[2], 0.0))))


def deep(case: Case) -> Doing:
    """From the first touch on, all motions of the touching arm are 15 mm lower."""
    _about_objects(case)
    roles = [placed.role for placed in case.scene.objects if case.touching(placed.role)]
    first, role = min((case.touching(role)[0], role) for role in roles)
    begin = max(first - 30, 0)
    commands = case.shifted(case.arm(role), begin, len(case.commands), lambda n, _: (0.0, 0.0, -0.015 * min(n / 25, 1.0)))
    yield from _play(commands)


def beside(case: Case) -> Doing:
    """The carried object is put down 160 mm beside its goal."""
    arm, highest = case.arm(case.role), case.highest
    failure = MotionError("there is no way beside the goal")
    for y in (0.16, -0.16):
        try:
            yield from _play(case.shifted(arm, highest, len(case.commands), lambda n, _, y=y: (0.0, y * min(n / 40, 1.0), 0.0)))
            return
        except MotionError as error:
            failure = error
    raise failure


def fist(case: Case) -> Doing:
    """The expert's motions with closed grippers: objects can only be pushed."""
    _about_objects(case)
    for command in case.commands:
        yield case.opened(command, 0.0)


def open_hand(case: Case) -> Doing:
    """The expert's motions with open grippers."""
    _about_objects(case)
    for command in case.commands:
        yield case.opened(command, 1.0)


def one_finger(case: Case) -> Doing:
    """The open gripper is displaced by 35 mm along the fingers' direction, so that one finger is where both should be."""
    _about_objects(case)
    role = case.role
    arm, begin = case.arm(role), max(case.touching(role)[0] - 60, 0)

    def aside(number: int, pose: Pose) -> Sequence[float]:
        return turned(pose.quaternion, (0.0, 0.035 * min(number / 25, 1.0), 0.0))

    for command in case.shifted(arm, begin, len(case.commands), aside):
        yield case.opened(command, 1.0)


# ---------------------------------------------------------------------------------------- the expert's way, and then or first


def jerk(case: Case) -> Doing:
    """After the expert's episode, the first arm shakes at 10 Hz."""
    yield from _play(case.commands)
    for number in range(30):
        command = case.commands[-1].copy()
        command[case.columns[0]] += 0.03 * math.sin(2 * math.pi * 10 * number / CONTROL_HZ)
        yield command


def regrab(case: Case) -> Doing:
    """After the expert's episode, the gripper returns on its path and touches the object that it had released."""
    yield from _play(case.commands)
    yield from _play(case.commands[case.last_touch + 1 :][::-1])
    yield case.commands[case.last_touch]


def ram(case: Case) -> Doing:
    """After the expert's episode, an arm presses its closed gripper down on the table."""
    yield from _play(case.commands)
    arm = _free_arm(case)
    yield from _onto_table(case, arm, ((0.0, 0.0, -0.05), (0.0, 0.0, 0.05)))


def scrape(case: Case) -> Doing:
    """After the expert's episode, an arm scrapes over the table."""
    yield from _play(case.commands)
    arm = _free_arm(case)
    yield from _onto_table(case, arm, ((0.0, 0.0, -0.012), (-0.06, 0.0, 0.0), (0.0, 0.0, 0.012)))


def clash(case: Case) -> Doing:
    """After the expert's episode, both grippers move to the same place above the middle and collide."""
    yield from _play(case.commands)
    if len(case.chains) < 2:
        raise MotionError("one arm alone runs into no other")
    home = case.physics.robot.home
    middle = home.copy()
    for chain, columns in zip(case.chains, case.columns, strict=True):
        pose = chain.pose(chain.home)
        middle[columns] = solve(chain, Pose(position=(0.02, 0.0, 0.26), quaternion=pose.quaternion), chain.home)
    yield from _ramp(case.commands[-1], home)
    yield from _ramp(home, middle)
    yield from _ramp(middle, home)


def press(case: Case) -> Doing:
    """After the expert's episode, a closed gripper presses on the object from above."""
    yield from _play(case.commands)
    state = case.states[-1]
    role = case.role if case.scene.task not in SWITCHES else "switch"
    x, y, _ = state.object_poses[role].position
    top = outlines(case.scene, state)[role].top
    hands = Hand.all_of(case.physics.robot, state)
    failure = MotionError("no hand comes above the object")
    for arm, hand in enumerate(hands):
        above = Pose(position=(x, y, top + 0.03), quaternion=hand.chain.pose(hand.chain.home).quaternion)
        try:
            over = hand.route([Waypoint(pose=above, straight=False)], hand.chain.home)
        except MotionError as error:
            failure = error
            continue
        command = case.physics.robot.home
        yield from _ramp(case.commands[-1], case.opened(command, 0.0))
        for row in [*over, *_line(hand.chain, over[-1], (0.0, 0.0, -0.05)), *_line(hand.chain, over[-1], (0.0, 0.0, -0.05))[::-1]]:
            command = case.opened(command, 0.0)
            command[case.columns[arm]] = row
            yield command
        return
    raise failure


def push(case: Case) -> Doing:
    """A closed gripper first pushes the object 60 mm over the table; then the expert solves the task."""
    yield from _shoved(case, 0.1)


def creep(case: Case) -> Doing:
    """As `push`, at 4.5 mm/s: too slow for any check that looks at single steps."""
    yield from _shoved(case, 0.0045)


def misled(case: Case) -> Doing:
    """The expert confuses two objects of the same kind."""
    _about_objects(case)
    if case.scene.task == "stack_bowls":
        raise MotionError("any bowl may be the lowest")
    if case.scene.task == "put_block_back":
        raise MotionError("the block goes back to where it stood, whatever the marks are called")
    objects = case.scene.objects
    for index, one in enumerate(objects):
        for other in objects[index + 1 :]:
            if one.asset.category == other.asset.category:
                roles = {one.role: other.role, other.role: one.role}
                wrong = replace(case.scene, objects=tuple(replace(o, role=roles.get(o.role, o.role)) for o in objects))
                yield from _expert(case, wrong, case.start, roles)
                return
    raise MotionError("no two objects of this scene can be taken for each other")


KINDS: dict[str, Callable[[Case], Doing]] = {
    kind.__name__: kind
    for kind in (
        *(fast, flick, held, drop, throw, drag, deep, beside, fist, open_hand, one_finger),
        *(jerk, regrab, ram, scrape, clash, press, push, creep, misled),
    )
}
CONDUCT = ("fast", "jerk", "ram", "scrape", "clash", "press")
"""Kinds that reach the goal and are rejected for the way they do it."""


def perform(kind: str, task: Task, played: Played, physics: MujocoPhysics, codec: ActionCodec) -> tuple[bool, str] | None:
    """Plays a cheat: whether the grader wrongly passes it, and its reason; None when the kind is impossible in this scene."""
    commands = np.concatenate([codec.decode(action) for action in played.actions])
    start = physics.reset(played.scene)
    case = Case(
        task=task,
        scene=played.scene,
        commands=commands,
        states=played.states,
        physics=physics,
        start=start,
        chains=codec.chains,
    )
    grader = task.grader(played.scene)
    doing, command, met, hardest = KINDS[kind](case), commands[0], False, 0.0
    try:
        command = next(doing)
        while True:
            state = physics.step(codec.round(command))
            grader.observe(state)
            met |= any(_arms_meet(state, contact.first, contact.second) for contact in state.contacts)
            hardest = max([hardest, *(state.force_between("robot/", f"{placed.role}/") for placed in played.scene.objects)])
            command = doing.send(state)
    except StopIteration:
        pass
    except MotionError:
        return None
    if (kind == "clash" and not met) or (kind == "press" and hardest < _PRESSED):
        return None  # the arms missed each other, or the gripper missed the object
    for _ in range(round(_TAIL_S * CONTROL_HZ)):
        state = physics.step(codec.round(command))
        grader.observe(state)
    if kind in ("held", "regrab") and not any(state.touching("robot/", f"{placed.role}/") for placed in played.scene.objects):
        return None  # the object slipped out, so it was released after all
    verdict = grader.verdict()
    return verdict.success, verdict.reason


# ---------------------------------------------------------------------------------------------------------------- motions


def _play(commands: np.ndarray) -> Doing:
    """Yields the commands [T, A], without regard to the states."""
    for command in commands:
        _ = yield command  # `yield from` would fail: an array's iterator has no `send`


def _about_objects(case: Case) -> None:
    if case.scene.task in SWITCHES:
        raise MotionError("a lever is pressed with any part of the hand")


def _ramp(first: np.ndarray, last: np.ndarray) -> Generator[np.ndarray, WorldState, None]:
    """Interpolates from one command to another within the experts' speed limits."""
    for share in timing(max(1.875 * float(np.abs(last - first).max()) / 1.8, 0.4)):
        yield first + share * (last - first)


def _line(chain: Chain, joints: np.ndarray, offset: Sequence[float], speed: float = 0.15) -> np.ndarray:
    """Joints [T, dof] that move the tip in a straight line by `offset` [m], without regard to obstacles."""
    pose = chain.pose(joints)
    progress = timing(1.875 * float(np.linalg.norm(offset)) / speed)
    goals = np.array(pose.position) + progress[:, None] * np.array(offset)
    return trace(chain, goals, np.tile(pose.quaternion, (len(goals), 1)), joints, IkConfig(seeds=1))


def _free_arm(case: Case) -> int:
    """An arm with no object near its home pose."""
    objects = [np.array(pose.position[:2]) for pose in case.states[-1].object_poses.values()]
    homes = [np.array(chain.pose(chain.home).position[:2]) for chain in case.chains]
    return max(range(len(homes)), key=lambda arm: min(float(np.linalg.norm(homes[arm] - thing)) for thing in objects))


def _onto_table(case: Case, arm: int, offsets: Sequence[Sequence[float]]) -> Doing:
    """Moves an arm's closed gripper from its home down to the table, then by `offsets` [m] as if the table were not there."""
    chain, home = case.chains[arm], case.opened(case.physics.robot.home, 0.0)
    yield from _ramp(case.commands[-1], home)
    joints = chain.home
    down = chain.pose(joints).position[2] - _FINGER_BELOW - 0.002
    for offset in ((0.0, 0.0, -down), *offsets, (0.0, 0.0, down)):
        path = _line(chain, joints, offset)
        for row in path:
            command = home.copy()
            command[case.columns[arm]] = row
            yield command
        joints = path[-1]


def _shoved(case: Case, speed: float) -> Doing:
    """A closed gripper pushes the carried object 60 mm at `speed` [m/s] and goes home; then the expert takes over."""
    _about_objects(case)
    role = case.role
    place = outlines(case.scene, case.start)[role]
    x, y = place.vertices.mean(axis=0)
    failure = MotionError("no hand shoves the object")
    for arm, hand in enumerate(Hand.all_of(case.physics.robot, case.start)):
        for angle in np.linspace(0.0, 2 * math.pi, 8, endpoint=False):
            way = np.array((math.cos(angle), math.sin(angle)))
            far = float(np.abs((place.vertices - (x, y)) @ way).max()) + 0.022
            down = Pose(position=(x - far * way[0], y - far * way[1], 0.016), quaternion=hand.pose.quaternion)
            try:
                reach = hand.route([Waypoint(pose=moved(down, (0.0, 0.0, 0.1)), straight=False), Waypoint(pose=down)])
                along = _line(hand.chain, reach[-1], (0.065 * way[0], 0.065 * way[1], 0.0), speed)
                up = hand.route([Waypoint(pose=moved(hand.chain.pose(along[-1]), (0.0, 0.0, 0.1)))], along[-1])
            except MotionError as error:
                failure = error
                continue
            home = case.physics.robot.home
            command = home
            for row in (*reach, *along, *along[-1:-20:-1], *up):
                command = case.opened(home, 0.0)
                command[case.columns[arm]] = row
                state = yield command
            yield from _ramp(command, home)
            state = yield home
            if math.dist(state.object_poses[role].position, case.start.object_poses[role].position) < 0.04:
                raise MotionError("the object was missed")
            yield from _expert(case, case.scene, state, {})
            return
    raise failure


def _expert(case: Case, scene: Scene, state: WorldState, roles: dict[str, str]) -> Doing:
    """The task's expert planning in `scene`, a changed scene; states reach it with objects renamed by `roles`."""

    def seen(state: WorldState) -> WorldState:
        def named(values: dict) -> dict:
            return {roles.get(role, role): value for role, value in values.items()}

        def body(name: str) -> str:
            role, _, rest = name.partition("/")
            return f"{roles.get(role, role)}/{rest}" if rest else name

        contacts = tuple(replace(c, first=body(c.first), second=body(c.second)) for c in state.contacts)
        parts = (dict(state.object_poses), dict(state.object_velocities), dict(state.object_joints))
        poses, velocities, joints = (named(part) for part in parts)
        return replace(state, object_poses=poses, object_velocities=velocities, object_joints=joints, contacts=contacts)

    expert = case.task.expert(scene, case.physics.robot, seen(state), np.random.default_rng(scene.seed))
    try:
        step = next(expert)
        for _ in range(64 * 16):
            step = expert.send(seen((yield step.command)))
    except StopIteration:
        return


def _arms_meet(state: WorldState, first: str, second: str) -> bool:
    owners = [next((arm.name for arm in state.arms if body in arm.bodies), "") for body in (first, second)]
    return all(owners) and owners[0] != owners[1]
