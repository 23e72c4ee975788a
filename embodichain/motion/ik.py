"""Inverse kinematics: damped least squares from several start values, compiled by numba.

Levenberg-Marquardt with damping proportional to the error (Sugihara, "Solvability-unconcerned inverse kinematics by the
Levenberg-Marquardt method", IEEE T-RO 27(5), 2011). Joints that a step would push beyond a limit stay fixed for that step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import MotionError
from embodichain.machine_code import compiled
from embodichain.motion.clearance import Floats, lowest, place, smallest_gap
from embodichain.motion.kinematics import Chain, as_quaternion, forward_frames, forward_into, quaternion_to_matrix, site_jacobian
from embodichain.types import Pose

_ROTATION_WEIGHT = 0.3
"""Weight of the orientation error [m/rad]: one radian counts as much as this many metres."""
_LARGEST_STEP = 0.5
"""Largest change of a joint in one iteration [rad]."""
_PATIENCE = 4
"""An attempt ends when its squared error has not fallen by 30 percent within this many iterations."""
_PRIMES = (2, 3, 5, 7, 11, 13, 17)


@dataclass(frozen=True, slots=True, kw_only=True)
class IkConfig:
    """Tolerances and effort of inverse kinematics.

    `symmetric` also accepts the gripper rotated by 180 degrees about its approach axis, which is equivalent for a parallel gripper.
    `free_yaw` accepts any rotation about the approach axis. `limit_margin` [rad] is the distance from joint limits.
    """

    position_tolerance: float = 1e-4
    rotation_tolerance: float = 1e-3
    seeds: int = 16
    iterations: int = 60
    symmetric: bool = True
    free_yaw: bool = False
    limit_margin: float = 0.01
    self_clearance: float = 0.005
    """Smallest distance [m] of a solution from self-collision and from fixed parts; -inf to allow any."""

    def __post_init__(self) -> None:
        if self.seeds < 1 or self.iterations < 1:
            raise ValueError(f"seeds and iterations must be at least 1, got {self.seeds} and {self.iterations}")


_DEFAULT = IkConfig()


@compiled()
def _rotation_error(current: Floats, target: Floats, free_yaw: bool, out: Floats) -> None:
    """Writes the rotation vector [rad] in the world frame from `current` to `target` into out [3]; with `free_yaw`, the one that
    aligns only their Z axes.
    """
    if free_yaw:
        a, b = current[:, 2], target[:, 2]
        x, y, z = a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]
        sine = math.sqrt(x * x + y * y + z * z)
        cosine = a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
        if sine < 1e-12:  # parallel or opposite axes: the cross product gives no direction
            if cosine > 0.0:
                out[:] = 0.0
            else:
                for i in range(3):
                    out[i] = math.pi * current[i, 0]
            return
        scale = math.atan2(sine, cosine) / sine
        out[0], out[1], out[2] = x * scale, y * scale, z * scale
        return
    x = y = z = trace = 0.0
    for i in range(3):
        # The trace and the antisymmetric part of target @ current.T give the angle and the axis, without forming the product.
        trace += target[0, i] * current[0, i] + target[1, i] * current[1, i] + target[2, i] * current[2, i]
        x += target[2, i] * current[1, i] - target[1, i] * current[2, i]
        y += target[0, i] * current[2, i] - target[2, i] * current[0, i]
        z += target[1, i] * current[0, i] - target[0, i] * current[1, i]
    sine = 0.5 * math.sqrt(x * x + y * y + z * z)
    cosine = 0.5 * (trace - 1.0)
    if sine < 1e-9:
        if cosine > 0.0:
            out[0], out[1], out[2] = 0.5 * x, 0.5 * y, 0.5 * z
        else:
            # Half a turn: the axis is not determined, and zero would be a saddle point. Any axis will do, such as the gripper's X
            # axis.
            for i in range(3):
                out[i] = math.pi * current[i, 0]
        return
    scale = 0.5 * math.atan2(sine, cosine) / sine
    out[0], out[1], out[2] = x * scale, y * scale, z * scale


@compiled()
def _solve_spd(matrix: Floats, vector: Floats, n: int) -> None:
    """Solves matrix @ x = vector in place for a symmetric positive definite matrix [n, n] by Cholesky; x replaces vector."""
    # Written out, because for n = 6 or 7 a call of LAPACK costs more than the arithmetic.
    for i in range(n):
        for j in range(i + 1):
            total = matrix[i, j]
            for k in range(j):
                total -= matrix[i, k] * matrix[j, k]
            if i == j:
                matrix[i, i] = math.sqrt(max(total, 1e-300))
            else:
                matrix[i, j] = total / matrix[j, j]
    for i in range(n):
        total = vector[i]
        for k in range(i):
            total -= matrix[i, k] * vector[k]
        vector[i] = total / matrix[i, i]
    for i in range(n - 1, -1, -1):
        total = vector[i]
        for k in range(i + 1, n):
            total -= matrix[k, i] * vector[k]
        vector[i] = total / matrix[i, i]


@compiled()
def descend(
    positions: Floats,
    rotations: Floats,
    lower: Floats,
    upper: Floats,
    target_position: Floats,
    target_rotation: Floats,
    free_yaw: bool,
    iterations: int,
    q: Floats,
) -> tuple[float, float]:
    """Moves joints `q` [n] in place towards the target; returns the remaining position error [m] and rotation error [rad]."""
    n = q.shape[0]
    error = np.empty(6)
    hessian = np.empty((n, n))
    gradient = np.empty(n)
    step = np.empty(n)
    reduced = np.empty((n, n))
    active = np.empty(n, np.int64)
    frame_positions = np.empty((n + 1, 3))
    frame_rotations = np.empty((n + 1, 3, 3))
    jacobian = np.empty((6, n))
    tip = frame_rotations[n]
    position_error = rotation_error = math.inf
    checkpoint = math.inf
    for iteration in range(iterations + 1):
        forward_into(positions, rotations, q, frame_positions, frame_rotations)
        for i in range(3):
            error[i] = target_position[i] - frame_positions[n, i]
        _rotation_error(tip, target_rotation, free_yaw, error[3:])
        position_error = math.sqrt(error[0] ** 2 + error[1] ** 2 + error[2] ** 2)
        rotation_error = math.sqrt(error[3] ** 2 + error[4] ** 2 + error[5] ** 2)
        if iteration == iterations or (position_error < 1e-9 and rotation_error < 1e-8):
            break
        site_jacobian(frame_positions, frame_rotations, jacobian)
        if free_yaw:
            # Rotation about the approach axis is free, so remove its component from the Jacobian: no step is spent on it.
            for j in range(n):
                along = jacobian[3, j] * tip[0, 2] + jacobian[4, j] * tip[1, 2] + jacobian[5, j] * tip[2, 2]
                for i in range(3):
                    jacobian[3 + i, j] -= along * tip[i, 2]
        for i in range(3, 6):
            error[i] *= _ROTATION_WEIGHT
            for j in range(n):
                jacobian[i, j] *= _ROTATION_WEIGHT
        squared = 0.0
        for i in range(6):
            squared += error[i] * error[i]
        if iteration % _PATIENCE == _PATIENCE - 1:
            if squared > 0.7 * checkpoint:
                break  # stuck in a local minimum or at limits
            checkpoint = squared
        # Far from the target or near singularities this is strong damping; near the target it vanishes, and convergence is
        # quadratic. The constant keeps the matrix positive definite.
        damping = 0.5 * squared + 1e-9
        for j in range(n):
            gradient[j] = 0.0
            for i in range(6):
                gradient[j] += jacobian[i, j] * error[i]
            for k in range(j + 1):
                total = 0.0
                for i in range(6):
                    total += jacobian[i, j] * jacobian[i, k]
                hessian[j, k] = total
                hessian[k, j] = total
        # Active set: a joint at its limit whose gradient points outwards is left out of this step, and the others compensate.
        num_active = 0
        for j in range(n):
            if not ((q[j] <= lower[j] and gradient[j] < 0.0) or (q[j] >= upper[j] and gradient[j] > 0.0)):
                active[num_active] = j
                num_active += 1
        for a in range(num_active):
            step[a] = gradient[active[a]]
            for b in range(num_active):
                reduced[a, b] = hessian[active[a], active[b]]
            reduced[a, a] += damping
        _solve_spd(reduced, step, num_active)
        # Scaling the whole step keeps its direction, which clipping each joint would not.
        largest = 0.0
        for a in range(num_active):
            largest = max(largest, abs(step[a]))
        scale = min(1.0, _LARGEST_STEP / largest) if largest > 0.0 else 0.0
        for a in range(num_active):
            j = active[a]
            q[j] = min(max(q[j] + scale * step[a], lower[j]), upper[j])
    return position_error, rotation_error


@compiled()
def attempt(
    positions: Floats,
    rotations: Floats,
    lower: Floats,
    upper: Floats,
    target_position: Floats,
    target_rotation: Floats,
    free_yaw: bool,
    iterations: int,
    position_tolerance: float,
    rotation_tolerance: float,
    capsule_frame: NDArray[np.int64],
    capsule_ends: Floats,
    capsule_radius: Floats,
    capsule_pairs: NDArray[np.int64],
    clearance: float,
    table: float,
    q: Floats,
) -> tuple[float, float, bool]:
    """`descend` from `q` [n] in place, and whether the result is a solution in the sense of `explore`.

    Returns position error [m], rotation error [rad], solved.
    """
    position_error, rotation_error = descend(
        positions, rotations, lower, upper, target_position, target_rotation, free_yaw, iterations, q
    )
    reached = position_error <= position_tolerance and rotation_error <= rotation_tolerance
    if reached and (clearance > -math.inf or table > -math.inf):
        frame_positions, frame_rotations = forward_frames(positions, rotations, q)
        parts = place(frame_positions, frame_rotations, capsule_frame, capsule_ends)
        reached = (
            smallest_gap(parts, capsule_radius, parts, capsule_radius, capsule_pairs, clearance) >= clearance
            and lowest(parts, capsule_radius, capsule_frame) >= table
        )
    return position_error, rotation_error, reached


@compiled()
def explore(
    positions: Floats,
    rotations: Floats,
    lower: Floats,
    upper: Floats,
    target_position: Floats,
    target_rotation: Floats,
    symmetric: bool,
    free_yaw: bool,
    seeds: Floats,
    iterations: int,
    position_tolerance: float,
    rotation_tolerance: float,
    capsule_frame: NDArray[np.int64],
    capsule_ends: Floats,
    capsule_radius: Floats,
    capsule_pairs: NDArray[np.int64],
    clearance: float,
    table: float,
    first_only: bool,
) -> Floats:
    """Runs `descend` from every row of `seeds` [s, n], to the target and, if `symmetric`, also to its half turn.

    A solution is within the tolerances, has a self-clearance of `clearance` [m], and its moving parts are `table` [m] above z = 0.
    With `first_only` it ends with the first solution. Returns a row for each attempt, shape [m, n + 3]: joints, position error [m],
    rotation error [rad], and 1 for a solution.
    """
    n = lower.shape[0]
    flips = 2 if symmetric and not free_yaw else 1
    found = np.empty((seeds.shape[0] * flips, n + 3))
    flipped = target_rotation.copy()
    flipped[:, :2] *= -1.0  # half a turn about the approach axis Z negates the X and Y axes
    for k in range(found.shape[0]):
        q = found[k, :n]
        for j in range(n):
            q[j] = min(max(seeds[k // flips, j], lower[j]), upper[j])
        position_error, rotation_error, reached = attempt(
            positions, rotations, lower, upper, target_position, flipped if k % flips else target_rotation, free_yaw, iterations,
            position_tolerance, rotation_tolerance, capsule_frame, capsule_ends, capsule_radius, capsule_pairs,
            clearance, table, q,
        )  # fmt: skip
        found[k, n], found[k, n + 1], found[k, n + 2] = position_error, rotation_error, 1.0 if reached else 0.0
        if reached and first_only:
            return found[: k + 1]
    return found


@compiled()
def _nearest(attempts: Floats, seed: Floats) -> int:
    """Index of the attempt of `explore` that is the solution nearest to `seed` [n]; without any, the one with the least error."""
    n = seed.shape[0]
    best, best_score = 0, math.inf
    solved = False
    for k in range(attempts.shape[0]):
        reached = attempts[k, n + 2] > 0.0
        if solved and not reached:
            continue
        score = 0.0
        if reached:
            for j in range(n):
                score += (attempts[k, j] - seed[j]) ** 2
        else:
            score = attempts[k, n] + _ROTATION_WEIGHT * attempts[k, n + 1]
        if (reached and not solved) or score < best_score - 1e-9:
            best, best_score = k, score
        solved = solved or reached
    return best


def seed_grid(chain: Chain, seed: Floats, count: int) -> Floats:
    """`count` start values [count, n]: `seed`, home, then a Halton sequence within the joint limits."""
    rows = _grid(chain, count).copy()
    rows[0] = seed
    return rows


@lru_cache(maxsize=64)
def _grid(chain: Chain, count: int) -> Floats:
    rows = np.empty((max(count, 1), chain.dof))
    rows[:2] = chain.home
    for j, prime in enumerate(_PRIMES[: chain.dof]):
        for i in range(2, count):
            value, scale, index = 0.0, 1.0, i
            while index:
                scale /= prime
                value += scale * (index % prime)
                index //= prime
            rows[i, j] = chain.lower[j] + value * (chain.upper[j] - chain.lower[j])
    return rows


@lru_cache(maxsize=64)
def joint_range(chain: Chain, margin: float = _DEFAULT.limit_margin) -> tuple[Floats, Floats]:
    """Lower and upper joint limits [rad], shape [n] each, narrowed by `margin` [rad], but at most by a quarter of the range."""
    inward = np.minimum(margin, 0.25 * (chain.upper - chain.lower))
    return chain.lower + inward, chain.upper - inward


def solve(chain: Chain, target: Pose, seed: Floats, config: IkConfig = _DEFAULT) -> Floats:
    """Joint angles [rad], shape [n], that bring the site to `target` (world_from_site): the solution found nearest to `seed`.

    Raises MotionError with the remaining error of the best attempt.
    """
    return _solve(chain, target, seed, config)


def solve_near(chain: Chain, target: Pose, seed: Floats, config: IkConfig = _DEFAULT, *, max_change: float = 0.25) -> Floats:
    """The solution in which no joint moves more than `max_change` [rad] from `seed`; raises MotionError if there is none."""
    q = _solve(chain, target, seed, replace(config, seeds=1, symmetric=False))
    change = float(np.max(np.abs(q - seed)))
    if change > max_change:
        raise MotionError(
            f"the {chain.arm} arm cannot continue to {_describe(target)}: a joint would jump {change:.2f} rad,"
            f" {max_change:.2f} allowed; move more slowly or pass a via pose"
        )
    return q


@compiled()
def _trace(
    positions: Floats,
    rotations: Floats,
    lower: Floats,
    upper: Floats,
    target_positions: Floats,
    target_quaternions: Floats,
    start: Floats,
    iterations: int,
    position_tolerance: float,
    rotation_tolerance: float,
    capsule_frame: NDArray[np.int64],
    capsule_ends: Floats,
    capsule_radius: Floats,
    capsule_pairs: NDArray[np.int64],
    clearance: float,
    table: float,
    free_yaw: bool,
    max_change: float,
    out: Floats,
) -> int:
    """Fills `out` [T, n] with solutions that each continue the one before; returns the number found before the first failure."""
    # One compiled loop for the whole path: a call from Python for each point would cost several times the solving.
    before = start
    for i in range(target_positions.shape[0]):
        q = out[i]
        for j in range(q.shape[0]):
            q[j] = min(max(before[j], lower[j]), upper[j])
        rotation = quaternion_to_matrix(target_quaternions[i])
        _, _, solved = attempt(
            positions, rotations, lower, upper, target_positions[i], rotation, free_yaw, iterations,
            position_tolerance, rotation_tolerance, capsule_frame, capsule_ends, capsule_radius, capsule_pairs,
            clearance, table, q,
        )  # fmt: skip
        if not solved:
            return i
        for j in range(q.shape[0]):
            if abs(q[j] - before[j]) > max_change:
                return i
        before = q
    return target_positions.shape[0]


def trace(
    chain: Chain, positions: Floats, quaternions: Floats, start: Floats, config: IkConfig = _DEFAULT, *, max_change: float = 0.25
) -> Floats:
    """`solve_near` along tip poses, positions [m] [T, 3] and quaternions [T, 4]: joint angles [rad], shape [T, n].

    Raises MotionError for the first pose to which the path cannot be continued.
    """
    out = np.empty((len(positions), chain.dof))
    start = np.ascontiguousarray(start, np.float64)
    found = _trace(
        *(chain.positions, chain.rotations, *joint_range(chain, config.limit_margin)),
        *(np.ascontiguousarray(positions, np.float64), np.ascontiguousarray(quaternions, np.float64), start),
        *(config.iterations, config.position_tolerance, config.rotation_tolerance),
        *(chain.capsules.frame, chain.capsules.ends, chain.capsules.radius, chain.capsules.pairs),
        *(config.self_clearance, -math.inf, config.free_yaw, max_change, out),
    )
    if found < len(positions):
        x, y, z = (float(value) for value in positions[found])
        failed = Pose(position=(x, y, z), quaternion=as_quaternion(quaternions[found]))
        solve_near(chain, failed, out[found - 1] if found else start, config, max_change=max_change)
        raise MotionError(f"the {chain.arm} arm cannot continue to {_describe(failed)}; pass a via pose")
    return out


def reachable(chain: Chain, target: Pose, config: IkConfig = _DEFAULT) -> bool:
    """Whether `solve` from home finds a solution."""
    return bool(_explore(chain, target, _grid(chain, config.seeds), config, first_only=True)[-1, -1])


def _explore(chain: Chain, target: Pose, seeds: Floats, config: IkConfig, *, first_only: bool = False) -> Floats:
    return explore(
        *(chain.positions, chain.rotations, *joint_range(chain, config.limit_margin)),
        *(np.array(target.position, np.float64), quaternion_to_matrix(np.array(target.quaternion, np.float64))),
        *(config.symmetric, config.free_yaw, seeds),
        *(config.iterations, config.position_tolerance, config.rotation_tolerance),
        *(chain.capsules.frame, chain.capsules.ends, chain.capsules.radius, chain.capsules.pairs),
        *(config.self_clearance, -math.inf, first_only),
    )


@lru_cache(maxsize=64)
def _elsewhere(chain: Chain, target: Pose, config: IkConfig) -> Floats:
    """The attempts from all start values except the caller's seed. Cached, as a target is often solved again from other joints."""
    return _explore(chain, target, _grid(chain, config.seeds)[1:], config)


def _solve(chain: Chain, target: Pose, seed: Floats, config: IkConfig) -> Floats:
    seed = np.ascontiguousarray(seed, np.float64)
    attempts = _explore(chain, target, seed.reshape(1, -1), config)
    if config.seeds > 1:
        attempts = np.concatenate([attempts, _elsewhere(chain, target, config)])
    row = attempts[_nearest(attempts, seed)]
    if row[-1]:
        return row[: chain.dof].copy()
    position_error, rotation_error = row[-3:-1].tolist()
    if position_error <= config.position_tolerance and rotation_error <= config.rotation_tolerance:
        raise MotionError(
            f"the {chain.arm} arm would hit itself or its base at {_describe(target)} in all of {config.seeds} attempts;"
            " move the target, allow another yaw, or use the other arm"
        )
    raise MotionError(
        f"the {chain.arm} arm cannot reach {_describe(target)}: the best of {config.seeds} attempts stayed"
        f" {1e3 * position_error:.1f} mm and {math.degrees(rotation_error):.1f} degrees away;"
        " move the target, allow another yaw, or use the other arm"
    )


def _describe(target: Pose) -> str:
    position = ", ".join(f"{value:.3f}" for value in target.position)
    quaternion = ", ".join(f"{value:.3f}" for value in target.quaternion)
    return f"position ({position}) m with orientation ({quaternion})"
