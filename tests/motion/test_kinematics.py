"""Kinematics: the compiled chain is MuJoCo's, its Jacobian is its derivative, its rotations are rotations."""

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from embodichain.errors import RobotError
from embodichain.motion.kinematics import Chain, matrix_to_quaternion, quaternion_to_matrix
from embodichain.robots import dual_piper
from embodichain.types import Arm, Pose, Robot

ROBOT = dual_piper()
unit = hnp.arrays(np.float64, 4, elements=st.floats(-1, 1)).filter(lambda q: np.linalg.norm(q) > 1e-3)


@pytest.mark.parametrize("arm", [0, 1])
def test_forward_and_jacobian_are_those_of_mujoco(arm):
    chain = Chain.of(ROBOT, arm)
    model = mujoco.MjModel.from_xml_string(ROBOT.mjcf)
    data = mujoco.MjData(model)
    joints = [model.joint(name) for name in ROBOT.arms[arm].joints]
    site = model.site(ROBOT.arms[arm].site).id
    rng = np.random.default_rng(arm)
    for _ in range(200):
        q = rng.uniform(chain.lower, chain.upper)
        data.qpos[[j.qposadr[0] for j in joints]] = q
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        position, quaternion = chain.forward(q)
        assert np.abs(position - data.site_xpos[site]).max() < 1e-12
        assert np.abs(quaternion_to_matrix(quaternion).ravel() - data.site_xmat[site]).max() < 1e-12
        assert quaternion[0] >= 0.0
        jacobian = np.zeros((6, model.nv))
        mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], site)
        assert np.abs(chain.jacobian(q) - jacobian[:, [j.dofadr[0] for j in joints]]).max() < 1e-12


def test_jacobian_is_the_derivative_of_forward():
    chain = Chain.of(ROBOT, 0)
    rng = np.random.default_rng(2)
    for _ in range(10):
        q, step = rng.uniform(chain.lower, chain.upper), 1e-6
        jacobian = chain.jacobian(q)
        for j in range(chain.dof):
            delta = step * np.eye(chain.dof)[j]
            slope = (chain.forward(q + delta)[0] - chain.forward(q - delta)[0]) / (2 * step)
            assert np.allclose(slope, jacobian[:3, j], atol=1e-8)


@given(unit)
@settings(max_examples=300, deadline=None)
def test_quaternions_and_matrices_are_inverse_with_canonical_sign(q):
    q = q / np.linalg.norm(q)
    back = matrix_to_quaternion(quaternion_to_matrix(q))
    assert back[0] >= 0.0
    assert min(np.abs(back - q).max(), np.abs(back + q).max()) < 1e-12


def test_world_from_base_moves_everything_the_arm_does():
    moved = Robot(
        name="moved",
        mjcf=ROBOT.mjcf,
        arms=ROBOT.arms,
        cameras=ROBOT.cameras,
        world_from_base=Pose(position=(0.1, -0.2, 0.3), quaternion=(0.8, 0.0, 0.0, 0.6)),
    )
    turn = quaternion_to_matrix(np.array((0.8, 0.0, 0.0, 0.6)))
    chain, home = Chain.of(moved, 1), Chain.of(ROBOT, 1)
    assert np.allclose(chain.forward(home.home)[0], turn @ home.forward(home.home)[0] + (0.1, -0.2, 0.3), atol=1e-12)
    bolted = home.capsules.frame < 0
    assert np.allclose(chain.capsules.ends[bolted], home.capsules.ends[bolted] @ turn.T + (0.1, -0.2, 0.3))
    assert np.allclose(chain.capsules.ends[~bolted], home.capsules.ends[~bolted])


def test_arm_that_names_what_the_mjcf_lacks_is_refused():
    arm = Arm(name="ghost", joints=("left/joint1", "left/joint9"), site="left/tip", home=(0.0, 0.0))
    with pytest.raises(RobotError, match="left/joint9"):
        Chain.of(Robot(name="bad", mjcf=ROBOT.mjcf, arms=(arm,), cameras=()), 0)
