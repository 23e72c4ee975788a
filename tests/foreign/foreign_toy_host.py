"""A benchmark of a few lines behind the wire: a hand above a plane that is to reach a marked place; for any Python with MuJoCo."""

import ctypes
import os
import signal
from pathlib import Path

import embodichain_host as host
import mujoco
import numpy as np

XML = """
<mujoco>
  <option timestep="0.01"/>
  <worldbody>
    <light directional="true" dir="0 0 -1" diffuse="0.8 0.8 0.8"/>
    <camera name="above" pos="0 0 2"/>
    <geom type="plane" size="2 2 0.1" rgba="0.3 0.3 0.3 1"/>
    <site name="goal" pos="0.5 0.5 0.1" size="0.1" rgba="0 1 0 1"/>
    <body name="hand">
      <joint name="x" type="slide" axis="1 0 0" damping="5"/>
      <joint name="y" type="slide" axis="0 1 0" damping="5"/>
      <geom size="0.1" pos="0 0 0.3" rgba="1 0 0 1" mass="1"/>
    </body>
  </worldbody>
  <actuator><motor joint="x" gear="20"/><motor joint="y" gear="20"/></actuator>
</mujoco>
"""


COLOURS = ((0, 1, 0, 1), (0, 0, 1, 1), (0, 1, 0, 0))


def hang():
    """Makes a note in the file $FOREIGN_TOY_HANGS, and then nothing runs in this process any more."""
    if mark := os.environ.get("FOREIGN_TOY_HANGS"):
        with Path(mark).open("a") as notes:
            notes.write("once\n")
    os.write(2, b"about to hang\n")
    ctypes.PyDLL(None).sleep(1000)  # and keeps the interpreter's lock: no other thread of Python runs


class Toy:
    """Implements `embodichain_host.Environment`.

    The tasks "never", "moody" and "late" cannot be done; "fault" raises in its third step, "late" in its tenth if anything is
    commanded there. The expert of "moody" moves every other time that it is asked. In "colours" the goal's colour depends on the
    seed. In the third step of "dies" the process is killed, in that of "hangs" it hangs, and "hangs_at_once" does not begin.
    """

    def __init__(self):
        self._model = mujoco.MjModel.from_xml_string(XML)
        self._data = mujoco.MjData(self._model)

    def reset(self, task, seed):
        self._task, self._steps, self._asked = task, 0, 0
        if task == "hangs_at_once":
            hang()
        mujoco.mj_resetData(self._model, self._data)
        goal = np.random.default_rng(seed).uniform(-0.6, 0.6, 2)
        self._model.site("goal").pos[:] = (*goal, 0.1)
        self._model.site("goal").rgba[:] = COLOURS[seed % 3 if task == "colours" else 0]
        mujoco.mj_forward(self._model, self._data)

    def step(self, action):
        self._steps += 1
        if (self._task, self._steps) == ("fault", 3) or ((self._task, self._steps) == ("late", 10) and action.any()):
            raise ValueError("this task is broken")
        if (self._task, self._steps) == ("dies", 3):
            os.kill(os.getpid(), signal.SIGKILL)
        if (self._task, self._steps) == ("hangs", 3):
            hang()
        self._data.ctrl[:] = np.clip(action[:2], -1.0, 1.0)
        for _ in range(5):
            mujoco.mj_step(self._model, self._data)
        mujoco.mj_forward(self._model, self._data)

    def reading(self):
        self._asked += 1
        goal, at = self._data.site("goal").xpos[:2], self._data.qpos
        far = float(np.linalg.norm(goal - at))
        done = far < 0.05 and self._task not in ("never", "late", "moody")
        expert = np.clip(2.0 * (goal - at), -1.0, 1.0) * (self._task != "moody" or self._asked % 2)
        head = (float(done), -far, max(0.0, 1.0 - far))
        pose = (getattr(self._data, name).ravel() for name in host.POSE)
        return np.concatenate([head, at, [0.0], expert, [0.0], goal, [self._asked], *pose])

    def facts(self):
        sizes = {"measured": 3, "expert": 3, "goal": 2, "asked": 1}
        return {"sizes": sizes, "pose": host.shapes(self._data), "xml": XML, "hidden": []}

    def fields(self):
        return {name: getattr(self._model, name) for name in host.FIELDS}


if __name__ == "__main__":
    host.serve(Toy, ("mujoco",))
