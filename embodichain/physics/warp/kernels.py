# ruff: noqa: D103
# pyright: reportIndexIssue=false, reportGeneralTypeIssues=false, reportOperatorIssue=false, reportArgumentType=false
# pyright: reportCallIssue=false, reportAssignmentType=false, reportAttributeAccessIssue=false
"""The Warp kernels of a control period. Warp compiles their source by rules that type checkers of Python do not know."""

from __future__ import annotations

import warp as wp

_LIMIT = wp.constant(1e10)
"""Larger positions, velocities and accelerations mean that the simulation became unstable: MuJoCo's `mjMAXVAL`."""


@wp.kernel(enable_backward=False)
def begin(
    vacant: wp.array[int],
    rest: wp.array[float],
    qpos: wp.array2d[float],
    qvel: wp.array2d[float],
    warmstart: wp.array2d[float],
) -> None:
    """Resets the state of vacant rows, because an unstable simulation there could disturb the others."""
    world = wp.tid()
    if vacant[world] != 0:
        for i in range(qpos.shape[1]):
            qpos[world, i] = rest[i]
        for i in range(qvel.shape[1]):
            qvel[world, i] = 0.0
            warmstart[world, i] = 0.0


@wp.kernel(enable_backward=False)
def aim(step: int, plan: wp.array3d[float], ctrl: wp.array2d[float]) -> None:
    world, actuator = wp.tid()
    ctrl[world, actuator] = plan[step, world, actuator]


@wp.kernel(enable_backward=False)
def watch(
    qpos: wp.array2d[float],
    qvel: wp.array2d[float],
    smooth: wp.array2d[float],
    qacc: wp.array2d[float],
    unstable: wp.array[int],
) -> None:
    """Marks worlds in which a value is too large or not a number.

    Accelerations without contacts are checked as well: when their square overflows single precision, the solver stops and leaves
    the world unchanged, so that all other values remain finite.
    """
    world = wp.tid()
    for i in range(qpos.shape[1]):
        if not wp.abs(qpos[world, i]) < _LIMIT:
            unstable[world] = 1
    for i in range(qvel.shape[1]):
        if not wp.max(wp.abs(qvel[world, i]), wp.max(wp.abs(smooth[world, i]), wp.abs(qacc[world, i]))) < _LIMIT:
            unstable[world] = 1
        if wp.isnan(qvel[world, i]) or wp.isnan(smooth[world, i]) or wp.isnan(qacc[world, i]):
            unstable[world] = 1


@wp.kernel(enable_backward=False)
def clear(
    key: wp.array2d[int],
    since: wp.array2d[int],
    force: wp.array2d[float],
    depth: wp.array2d[float],
    peak: wp.array2d[float],
    now: wp.array2d[wp.vec3],
    push: wp.array2d[wp.vec3],
    lost: wp.array[int],
) -> None:
    world, row = wp.tid()
    key[world, row] = 0
    since[world, row] = 1 << 30
    force[world, row] = 0.0
    depth[world, row] = 0.0
    peak[world, row] = 0.0
    now[world, row] = wp.vec3(0.0)
    push[world, row] = wp.vec3(0.0)
    if row == 0:
        lost[world] = 0


@wp.kernel(enable_backward=False)
def add(
    step: int,
    num_bodies: int,
    num_contacts: wp.array[int],
    owners: wp.array[int],
    geom: wp.array[wp.vec2i],
    worlds: wp.array[int],
    address: wp.array2d[int],
    frame: wp.array[wp.mat33],
    distance: wp.array[float],
    row_force: wp.array2d[float],
    key: wp.array2d[int],
    since: wp.array2d[int],
    force: wp.array2d[float],
    depth: wp.array2d[float],
    now: wp.array2d[wp.vec3],
    push: wp.array2d[wp.vec3],
    lost: wp.array[int],
) -> None:
    contact = wp.tid()
    if contact >= num_contacts[0]:
        return
    first_row = address[contact, 0]
    if first_row < 0:  # no contact, or between bodies that cannot move
        return
    world = worlds[contact]
    normal = row_force[world, first_row]  # with elliptic friction cones, the first row of a contact is its normal force
    if normal <= 0.0:
        return
    pair = geom[contact]
    one = owners[pair[0]]
    other = owners[pair[1]]
    wanted = wp.min(one, other) * num_bodies + wp.max(one, other) + 1  # 0 is an empty row
    size = key.shape[1]
    row = (wanted * 7919) % size
    for _ in range(size):
        found = wp.atomic_cas(key, world, row, 0, wanted)
        if found == 0 or found == wanted:
            # A contact's normal points from its first geom to its second, which is the direction of the force on the second.
            signed = wp.where(one <= other, normal, -normal)
            share = signed * wp.vec3(frame[contact][0, 0], frame[contact][0, 1], frame[contact][0, 2])
            wp.atomic_min(since, world, row, step)
            wp.atomic_add(force, world, row, normal)
            wp.atomic_max(depth, world, row, -distance[contact])
            wp.atomic_add(now, world, row, share)
            wp.atomic_add(push, world, row, share)
            return
        row = (row + 1) % size
    lost[world] = 1


@wp.kernel(enable_backward=False)
def close(now: wp.array2d[wp.vec3], peak: wp.array2d[float]) -> None:
    world, row = wp.tid()
    peak[world, row] = wp.max(peak[world, row], wp.length(now[world, row]))
    now[world, row] = wp.vec3(0.0)
