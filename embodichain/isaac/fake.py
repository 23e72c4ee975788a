"""A simulator for the same wire protocol that runs the MuJoCo reference: `python -m embodichain.isaac.fake SOCKET`.

It lets everything on this side of the wire run, and be tested, on a machine that cannot run Isaac Sim.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import SceneError
from embodichain.isaac.wire import KINDS, MOST_PAIRS, report_pairs, serve
from embodichain.physics.many import Many
from embodichain.scenes import usd
from embodichain.types import Arm, Camera, Fingers, Pose, Push, Robot
from embodichain.types.tapes import Roster


class Reference:
    """`physics.many` behind a server; implements `wire.Simulator`."""

    def __init__(self) -> None:
        self._many: Many | None = None

    @property
    def many(self) -> Many:
        """The worlds; raises ValueError before `hello`."""
        if self._many is None:
            raise ValueError("there are no worlds yet: say hello first")
        return self._many

    def hello(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """See `wire.Simulator`."""
        robot = robot_of(request["robot"])
        self._many = Many(
            robot,
            num_worlds=int(request["num_worlds"]),
            width=int(request["width"]),
            height=int(request["height"]),
            cameras=tuple(request["cameras"]),
            shadows=bool(request["shadows"]),
        )
        return {"versions": {"mujoco": version("mujoco")}, "command_size": robot.command_size, "applies": list(KINDS)}

    def load(self, worlds: Sequence[int], paths: Sequence[str]) -> dict[int, dict[str, Any]]:
        """See `wire.Simulator`."""
        found: dict[int, dict[str, Any]] = {}
        for world, path in zip(worlds, paths, strict=True):
            try:
                self.many.load((world,), (usd.read(Path(path)),))
                found[world] = {"bodies": list(self.many.worlds[world].roster.bodies)}
            except SceneError as error:
                found[world] = {"error": str(error)}
        return found

    def sizes(self) -> dict[str, int]:
        """See `wire.Simulator`."""
        known = self._rosters()
        return {
            "objects": max((roster.num_free for roster in known), default=0),
            "joints": max((roster.num_joints for roster in known), default=0),
            "grains": max((roster.num_grains for roster in known), default=0),
        }

    def _rosters(self) -> list[Roster]:
        return [roster for roster in self.many.look().rosters if roster is not None]

    def step(self, command: NDArray[np.float64], pushes: Mapping[int, Sequence[tuple[str, Sequence[float]]]]) -> dict[int, str]:
        """See `wire.Simulator`."""
        told = {
            world: tuple(Push(body=body, force=(force[0], force[1], force[2])) for body, force in some)
            for world, some in pushes.items()
        }
        return dict(self.many.step(command, told).faults)

    def look(self, tape: Mapping[str, NDArray[Any]]) -> None:
        """See `wire.Simulator`."""
        seen = self.many.look()
        tape["num_pairs"][...] = [report_pairs(int(count)) for count in seen.num_pairs]
        tape["time_s"][...], tape["measured"][...] = seen.time_s, seen.measured
        for name in ("pose", "velocity", "joint", "grain"):
            values = getattr(seen, name)
            tape[name][:, : values.shape[1]] = values
        for name in ("pair", "force", "depth", "peak", "push"):
            values = getattr(seen, name)[:, :MOST_PAIRS]
            tape[name][:, : values.shape[1]] = values

    def render(self, worlds: Sequence[int], pictures: Mapping[str, NDArray[Any]]) -> None:
        """See `wire.Simulator`."""
        count = len(worlds)
        self.many.render(worlds, pictures["rgb"][:count], pictures["range"][:count], pictures["segmentation"][:count])

    def close(self) -> None:
        """See `wire.Simulator`."""
        if self._many is not None:
            self._many.close()


def robot_of(told: Mapping[str, Any]) -> Robot:
    """Converts plain values back into a robot: the inverse of `worlds.described`."""
    base = told["world_from_base"]
    arms: list[dict[str, Any]] = [
        {name: tuple(value) if isinstance(value, list) else value for name, value in arm.items()} for arm in told["arms"]
    ]
    return Robot(
        name=told["name"],
        mjcf=told["mjcf"],
        arms=tuple(Arm(**{**arm, "fingers": Fingers(**arm["fingers"])}) for arm in arms),
        cameras=tuple(Camera(**camera) for camera in told["cameras"]),
        world_from_base=Pose(position=tuple(base["position"]), quaternion=tuple(base["quaternion"])),
        mesh_dir=Path(told["mesh_dir"]) if told["mesh_dir"] is not None else None,
        control_hz=told["control_hz"],
    )


def main(arguments: Sequence[str]) -> int:
    """Serves on the socket whose file descriptor is the last argument."""
    with socket.socket(fileno=int(arguments[-1])) as connection:
        serve(connection, Reference())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
