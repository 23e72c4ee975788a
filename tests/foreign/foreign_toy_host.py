"""A benchmark of a few lines behind the wire: a hand above a plane that is to reach a marked place; for any Python with MuJoCo."""

import sys
from pathlib import Path

import mujoco
import numpy as np

sys.path.append(str(Path(__file__).parents[2] / "embodichain/physics/foreign/hosts"))
import embodichain_host as host

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


class Toy:
    """Implements `embodichain_host.Environment`. The task "never" cannot be done; "fault" raises in its third step."""

    def __init__(self):
        self._model = mujoco.MjModel.from_xml_string(XML)
        self._data = mujoco.MjData(self._model)

    def reset(self, task, seed):
        self._task, self._steps = task, 0
        mujoco.mj_resetData(self._model, self._data)
        goal = np.random.default_rng(seed).uniform(-0.6, 0.6, 2)
        self._model.site("goal").pos[:] = (*goal, 0.1)
        mujoco.mj_forward(self._model, self._data)

    def step(self, action):
        self._steps += 1
        if self._task == "fault" and self._steps == 3:
            raise ValueError("this task is broken")
        self._data.ctrl[:] = np.clip(action[:2], -1.0, 1.0)
        for _ in range(5):
            mujoco.mj_step(self._model, self._data)
        mujoco.mj_forward(self._model, self._data)

    def reading(self):
        goal, at = self._data.site("goal").xpos[:2], self._data.qpos
        far = float(np.linalg.norm(goal - at))
        done = far < 0.05 and self._task != "never"
        expert = np.clip(2.0 * (goal - at), -1.0, 1.0)
        head = (float(done), -far, max(0.0, 1.0 - far))
        return np.concatenate([head, at, [0.0], expert, [0.0], goal, *(getattr(self._data, name).ravel() for name in host.POSE)])

    def facts(self):
        return {"sizes": {"measured": 3, "expert": 3, "goal": 2}, "pose": host.shapes(self._data), "xml": XML, "hidden": []}

    def fields(self):
        return {name: getattr(self._model, name) for name in host.FIELDS}


if __name__ == "__main__":
    host.serve(Toy, ("mujoco",))
