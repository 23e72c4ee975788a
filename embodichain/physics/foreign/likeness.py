"""A copy of a benchmark's MuJoCo model for our painters, which shows the same as the benchmark's own pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import mujoco
import numpy as np
from numpy.typing import NDArray

_HIDDEN_GROUP = 3
"""A geom group that no painter draws."""
_SHOWN_GROUPS = 3
"""Sites of groups below this are shown, as in MuJoCo's own pictures."""
_FAINTEST = 0.05
"""Opacity below which a site is not shown; our painters draw no transparency."""
_SOLID = (mujoco.mjtGeom.mjGEOM_SPHERE, mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_ELLIPSOID)
_SITES = {int(kind) for kind in (*_SOLID, mujoco.mjtGeom.mjGEOM_CYLINDER, mujoco.mjtGeom.mjGEOM_BOX)}


class Likeness:
    """The compiled copy, posed like the benchmark's model; only kinematics are computed in it.

    Benchmarks mark goals by sites, which our painters do not draw, so each site becomes a body in the same place. All lamps become
    directional lights, because the rasteriser supports no others.
    """

    def __init__(self, *, path: str, xml: str, hidden: Sequence[int], site_rgba: NDArray[np.float64]) -> None:
        """Compiles the model from the MJCF file `path` or the text `xml`; geoms of groups `hidden` are not drawn.

        `site_rgba`, shape [sites, 4], decides which sites are shown and in which colours.
        """
        spec = mujoco.MjSpec.from_file(path) if path else mujoco.MjSpec.from_string(xml)
        original = spec.compile()
        for key in list(spec.keys):
            spec.delete(key)  # keyframes would not fit the changed number of bodies
        for lamp in spec.lights:
            lamp.type = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
        self._sites: list[int] = []
        for site in range(original.nsite):
            visible = original.site_group[site] < _SHOWN_GROUPS and site_rgba[site, 3] >= _FAINTEST
            if not visible or int(original.site_type[site]) not in _SITES:
                continue
            self._sites.append(site)
            body = spec.worldbody.add_body(name=f"shown_site_{site}", mocap=True)
            body.add_geom(
                type=original.site_type[site],
                size=original.site_size[site],
                rgba=[*site_rgba[site, :3], 1.0],
                contype=0,
                conaffinity=0,
                group=1,
            )
        self.model = spec.compile()
        self.data = mujoco.MjData(self.model)
        self._theirs = original.nmocap
        for group in hidden:
            self.model.geom_group[: original.ngeom][original.geom_group == group] = _HIDDEN_GROUP

    def begin(self, fields: Mapping[str, NDArray[np.float64]]) -> None:
        """Applies the differences of an episode's model from its file, except those of sites."""
        for name, values in fields.items():
            if not name.startswith("site_"):
                getattr(self.model, name)[: len(values)] = values

    def pose(self, arrays: Mapping[str, NDArray[np.float64]]) -> None:
        """Copies a pose of the benchmark's model; arrays as in `embodichain_host.POSE`."""
        data = self.data
        data.qpos[:] = arrays["qpos"]
        data.mocap_pos[: self._theirs], data.mocap_quat[: self._theirs] = arrays["mocap_pos"], arrays["mocap_quat"]
        for number, site in enumerate(self._sites, self._theirs):
            data.mocap_pos[number] = arrays["site_xpos"][site]
            mujoco.mju_mat2Quat(data.mocap_quat[number], arrays["site_xmat"][site])
