"""That benchmark as a distribution would add it: robot, physics and tasks."""

from functools import partial
from pathlib import Path

from embodichain.physics.foreign.physics import ForeignPhysics
from embodichain.physics.foreign.wire import Benchmark
from embodichain.tasks.foreign.task import ForeignTask
from embodichain.types import Arm, Camera, Robot

LIMIT = 60


def robot():
    hand = Arm(name="hand", joints=("x", "y"), site="", home=(0.0, 0.0), gripper_joints=("none",), gripper_open=0.0)
    return Robot(name="toy", mjcf="", arms=(hand,), cameras=(Camera(name="above", fovy=45.0),), control_hz=20, channels=(0, 1, 28))


class ToyPhysics(ForeignPhysics):
    benchmark = Benchmark(name="toy", host=str(Path(__file__).with_name("foreign_toy_host.py")), requirement="nothing")


def tasks():
    begin = lambda: lambda state: state.expert  # noqa: E731
    return {
        name: partial(ForeignTask, f"toy:{name}", instruction=f"Do {name}.", limit=LIMIT, begin=begin)
        for name in ("reach", "never", "fault", "late", "moody", "colours", "dies", "hangs")
    }
