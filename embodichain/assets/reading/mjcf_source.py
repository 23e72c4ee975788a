"""Reads MJCF with MuJoCo's own compiler: bodies with inertia, colliders and looks; joints with everything that the model states.

Bodies without a joint belong to their parent. Lengths are in metres and Z is up, as the format defines.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import mujoco
import numpy as np

from embodichain.assets.families.parts import Finish, Image, Kept, Look, Part, Preservation, Stated, Touch, Value
from embodichain.assets.geometry.shapes import Solid, drawn, moved, to_mesh
from embodichain.assets.reading import mechanisms
from embodichain.assets.reading.colliders import hull_of
from embodichain.assets.reading.inertials import Inertial, together
from embodichain.assets.reading.looks import GREY, joined, moved_look, plain
from embodichain.assets.reading.mesh_files import Reading, check
from embodichain.assets.reading.references import references
from embodichain.assets.reading.xml_reading import parse
from embodichain.errors import AssetError
from embodichain.types import Joint, JointKind, Mesh, Mimic, Pose, Shape, ShapeKind
from embodichain.types.poses import compose, inverse

_GEOM, _JOINT = mujoco.mjtGeom, mujoco.mjtJoint
_KINDS = {_JOINT.mjJNT_HINGE: JointKind.REVOLUTE, _JOINT.mjJNT_SLIDE: JointKind.PRISMATIC, _JOINT.mjJNT_BALL: JointKind.REVOLUTE}
_SPIN = (0.005, 0.0001)
"""MuJoCo's default torsional and rolling friction; only other values count as stated."""
_TEXTURE_2D, _ROLE_RGB, _ROLE_RGBA = 0, 1, 8
"""`mjTEXTURE_2D` of mjtTexture, and the roles of colour in a material: `mjtTextureRole`."""


def read_mjcf(path: Path) -> Reading:
    """The bodies and joints of an MJCF file. A body on a free joint, with everything below it, is loose; any other is bolted down.

    Raises:
        AssetError: MuJoCo cannot compile the file, or it has no body.
    """
    check(path, (".xml", ".mjcf"))
    root = parse(path)
    if root.tag != "mujoco":
        raise AssetError(f"read: {path} is XML but no MJCF: its root is <{root.tag}>, expected <mujoco>")
    model, rows = _compiled(path)
    return _Model(model, path, rows).reading()


def _compiled(path: Path) -> tuple[mujoco.MjModel, list[Kept]]:
    try:
        spec = mujoco.MjSpec.from_file(str(path))
    except (ValueError, OSError) as error:
        raise AssetError(f"read: MuJoCo cannot compile {path}: {error}") from error
    try:
        return spec.compile(), []
    except ValueError as error:
        first = str(error)
    if "volume" not in first and "inertia" not in first:
        raise AssetError(f"read: MuJoCo cannot compile {path}: {first}")
    for mesh in spec.meshes:
        mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX
    try:
        model = spec.compile()
    except ValueError as error:
        raise AssetError(f"read: MuJoCo cannot compile {path}: {error}") from error
    reason = f"MuJoCo refuses the exact one: {first}"
    row = Kept(
        of=path.name, what="inertia of meshes", stated="exact", written="of the hull", fate=Preservation.CHANGED, reason=reason
    )
    return model, [row]


@dataclass(slots=True)
class _Model:
    """Converts one compiled file."""

    model: mujoco.MjModel
    path: Path
    rows: list[Kept]

    def reading(self) -> Reading:
        model = self.model
        shaped = [index for index in range(1, model.nbody) if model.body_geomnum[index] or model.body_jntnum[index]]
        if not shaped:
            raise AssetError(f"read: {self.path} has no body with geoms; put what is to be an asset into a <body>")
        files = references(self.path)
        elements = [element for file in (self.path, *files) if file.suffix in (".xml", ".mjcf") for element in parse(file).iter()]
        rubs = any(element.tag == "geom" and "friction" in element.attrib for element in elements)
        data = mujoco.MjData(model)
        mujoco.mj_kinematics(model, data)
        owner = {0: 0}
        for index in range(1, model.nbody):
            parent = int(model.body_parentid[index])
            owner[index] = index if model.body_jntnum[index] or parent == 0 else owner[parent]
        parts: list[Part] = []
        joints: list[Joint] = []
        for index in sorted(set(owner.values()) - {0}):
            members = [body for body in range(1, model.nbody) if owner[body] == index]
            pose = _pose(data.xpos[index], data.xquat[index])
            parts.append(self._part(data, members, pose, rubs))
            bodies, chain = self._joints(index, self._name(owner[int(model.body_parentid[index])]), pose)
            parts += bodies
            joints += chain
        apart = []
        for signature in (int(value) for value in model.exclude_signature):
            pair = (owner[signature >> 16], owner[signature & 0xFFFF])
            if 0 not in pair and pair[0] != pair[1]:
                apart.append((self._name(pair[0]), self._name(pair[1])))
        self.rows += _left_out(model)
        self.rows += _unpainted(model)
        return Reading(
            parts=tuple(parts), joints=tuple(self._following(joints)), unit=1.0, up="z", fidelity=tuple(self.rows),
            apart=tuple(apart), files=tuple(files),
        )  # fmt: skip

    def _name(self, body: int) -> str:
        return (self.model.body(body).name or f"body_{body}") if body else ""

    def _row(self, of: str, what: str, stated: Value, written: float | str | None, reason: str) -> None:
        fate = Preservation.DROPPED if written is None else Preservation.CHANGED
        self.rows.append(Kept(of=of, what=what, stated=stated, written=written, fate=fate, reason=reason))

    # ------------------------------------------------------------------------------------------------------------- joints

    def _joints(self, body: int, parent: str, pose: Pose) -> tuple[list[Part], list[Joint]]:
        model, name = self.model, self._name(body)
        number, first = int(model.body_jntnum[body]), int(model.body_jntadr[body])
        if number == 0:
            return [], [Joint(name=f"{name}_mount", kind=JointKind.FIXED, parent=parent, child=name)]
        kinds = [_JOINT(int(model.jnt_type[first + i])) for i in range(number)]
        if kinds == [_JOINT.mjJNT_FREE]:
            return [], []
        bodies: list[Part] = []
        links: list[Joint] = []
        for index, kind in zip(range(first, first + number), kinds, strict=True):
            joint = self._joint(index, kind, parent, name)
            if kind == _JOINT.mjJNT_BALL:
                self._row(joint.name, "ball joint", "ball", "three hinges", "assets have joints of one degree of freedom")
                links += mechanisms.hinges(joint)
            elif joint.bounded and joint.lower == joint.upper:
                self._row(joint.name, "joint", f"range {joint.lower}", "fixed", "its range leaves one position: it is locked there")
            else:
                links.append(joint)
        if not links:
            return [], [Joint(name=f"{name}_mount", kind=JointKind.FIXED, parent=parent, child=name)]
        chain = mechanisms.chained(links, pose, name)
        self.rows += chain.fidelity
        bodies += chain.bodies
        return bodies, list(chain.joints)

    def _joint(self, index: int, kind: int, parent: str, child: str) -> Joint:
        model = self.model
        name, address, place = model.joint(index).name, int(model.jnt_dofadr[index]), int(model.jnt_qposadr[index])
        turning = kind == _JOINT.mjJNT_BALL
        zero = 0.0 if turning else float(model.qpos0[place])  # MuJoCo's reference position of the joint, which becomes zero here
        lower, upper = (float(value) - zero for value in model.jnt_range[index])
        if turning and model.jnt_limited[index]:
            lower, upper = -upper, upper
            self._row(name, "cone limit", upper, upper, "each of its three hinges has it")
        if not model.jnt_limited[index]:
            lower, upper = -math.inf, math.inf
        effort = math.inf
        if model.jnt_actfrclimited[index]:
            low, high = (float(value) for value in model.jnt_actfrcrange[index])
            effort = max(-low, high)
            if -low != high:
                self._row(name, "force limit", f"{low}..{high}", effort, "one number for both directions")
        for what, values, usual in (
            ("limit margin", model.jnt_margin, 0.0),
            ("limit softness", model.jnt_solref, (0.02, 1.0)),
            ("limit impedance", model.jnt_solimp, (0.9, 0.95, 0.001, 0.5, 2.0)),
        ):
            if not np.allclose(values[index], usual):
                stated = tuple(float(value) for value in np.atleast_1d(values[index]))
                self._row(name, what, stated, None, "the engine sets it for every joint alike")
        x, y, z = (float(value) for value in model.jnt_axis[index])
        ax, ay, az = (float(value) for value in model.jnt_pos[index])
        return Joint(
            name=name or f"{child}_joint_{index}", kind=_KINDS[_JOINT(kind)], parent=parent, child=child, axis=(x, y, z),
            anchor=(ax, ay, az), lower=lower, upper=upper, damping=float(np.ravel(model.dof_damping[address])[0]),
            friction=float(model.dof_frictionloss[address]), stiffness=float(np.ravel(model.jnt_stiffness[index])[0]),
            rest=0.0 if turning else float(model.qpos_spring[place]) - zero, armature=float(model.dof_armature[address]),
            effort=effort,
        )  # fmt: skip

    def _following(self, joints: list[Joint]) -> list[Joint]:
        """Adds the equality constraints between joints: each joint follows at most one other, by the first active constraint."""
        model, found = self.model, {joint.name: joint for joint in joints}
        for index in range(model.neq):
            kind, name = mujoco.mjtEq(int(model.eq_type[index])), model.equality(index).name or f"equality_{index}"
            data = [float(value) for value in model.eq_data[index][:5]]
            if kind == mujoco.mjtEq.mjEQ_JOINT and int(model.eq_obj2id[index]) >= 0 and not any(data[2:]):
                follower, leader = (model.joint(int(ids[index])).name for ids in (model.eq_obj1id, model.eq_obj2id))
                if follower in found and leader in found and model.eq_active0[index] and found[follower].mimic is None:
                    found[follower] = replace(found[follower], mimic=Mimic(joint=leader, multiplier=data[1], offset=data[0]))
                    continue
            what = kind.name.removeprefix("mjEQ_").lower()
            stated = ", ".join(f"{value:g}" for value in data)
            reason = "assets know joints that follow one other" if model.eq_active0[index] else "it is not active"
            self._row(name, f"equality {what}", stated, None, reason)
        joints, rows = mechanisms.followed(list(found.values()))
        self.rows += rows
        return joints

    # ------------------------------------------------------------------------------------------------------------- bodies

    def _part(self, data: mujoco.MjData, members: list[int], pose: Pose, rubs: bool) -> Part:
        model, name = self.model, self._name(members[0])
        geoms = [g for g in range(model.ngeom) if int(model.geom_bodyid[g]) in members]
        solid = [g for g in geoms if model.geom_contype[g] or model.geom_conaffinity[g]]
        seen = [g for g in geoms if g not in solid] or geoms
        back = inverse(pose)
        places = {g: compose(back, _pose(data.geom_xpos[g], _turn(data.geom_xmat[g]))) for g in geoms}
        looks = [moved_look(_geom_look(model, g, mesh), places[g]) for g in seen if (mesh := self._shape(g, name)) is not None]
        felt = [(g, moved(hull, places[g])) for g in solid for hull in self._felt(g, name)]
        colliders = tuple(hull for _, hull in felt)
        inertials = []
        for body in members:
            inertial = Inertial(
                mass=float(model.body_mass[body]),
                center_of_mass=(0.0, 0.0, 0.0),
                inertia=np.diag(np.asarray(model.body_inertia[body], np.float64)),
            )
            local = _pose(data.xipos[body], _turn(data.ximat[body]))
            inertials += [inertial.moved(compose(back, local))] if inertial.mass > 0.0 else []
        whole = together(inertials)
        self._unlike(members, solid, name)
        stated = Stated(
            mass=whole.mass if whole else None,
            center_of_mass=whole.center_of_mass if whole else None,
            inertia=whole.inertia if whole else None,
            colliders=colliders,
        ).touching(self._touches([g for g, _ in felt], name) if rubs else ())
        if not looks and not colliders:
            part, rows = mechanisms.shapeless(name, pose, stated)
            self.rows += rows
            return part
        look = joined(looks) if looks else joined([plain(mesh, GREY) for mesh in colliders])
        largest = max(looks, key=lambda one: float(np.prod(np.ptp(one.mesh.vertices, axis=0)))) if looks else look
        return Part(
            name=name, mesh=look.mesh, material="", color=largest.finishes[0].color, pose=pose, mass=stated.mass, look=look,
            stated=stated,
        )  # fmt: skip

    def _touches(self, geoms: list[int], name: str) -> list[Touch]:
        """Surface properties of each geom; MuJoCo has a single number for static and dynamic friction."""
        values = [tuple(float(value) for value in self.model.geom_friction[g]) for g in geoms]
        for what, index in (("torsional friction", 1), ("rolling friction", 2)):
            others = list(dict.fromkeys(value[index] for value in values if not math.isclose(value[index], _SPIN[index - 1])))
            if others:
                stated = others[0] if len(others) == 1 else tuple(others)
                self._row(name, what, stated, None, "the engine sets it for every surface alike")
        return [Touch(static_friction=value[0], dynamic_friction=value[0]) for value in values]

    def _unlike(self, members: list[int], geoms: list[int], name: str) -> None:
        """Adds a row for each property of a body or its contacts that an asset cannot represent."""
        model = self.model
        lifted = max(abs(float(model.body_gravcomp[body])) for body in members)
        if lifted:
            self._row(name, "gravity compensation", lifted, None, "everything in a scene weighs what it weighs")
        default = {
            "contact dimensions": (model.geom_condim, 3, "the engine sets them for every surface alike"),
            "contact priority": (model.geom_priority, 0, "the rougher of two surfaces decides"),
            "contact margin": (model.geom_margin, 0.0, "things touch where they are"),
            "contact gap": (model.geom_gap, 0.0, "things touch where they are"),
            "contact softness": (model.geom_solref, (0.02, 1.0), "the engine sets it for every surface alike"),
            "contact impedance": (model.geom_solimp, (0.9, 0.95, 0.001, 0.5, 2.0), "the engine sets it for every surface alike"),
        }
        for what, (values, usual, reason) in default.items():
            others = {tuple(np.atleast_1d(values[g]).tolist()) for g in geoms if not np.allclose(values[g], usual)}
            if others:
                self._row(name, what, "; ".join(", ".join(f"{v:g}" for v in one) for one in sorted(others)), None, reason)
        masks = {(int(model.geom_contype[g]), int(model.geom_conaffinity[g])) for g in geoms}
        if masks - {(1, 1)}:
            stated = "; ".join(f"{contype} and {affinity}" for contype, affinity in sorted(masks))
            self._row(name, "contact groups", stated, None, "what collides with anything collides with everything")

    def _felt(self, geom: int, name: str) -> list[Mesh]:
        kind = _GEOM(int(self.model.geom_type[geom]))
        mesh = self._shape(geom, name)
        if mesh is None:
            return []
        if mesh.shape is not None:
            return [mesh]
        hull, row = hull_of(mesh, name)
        if kind == _GEOM.mjGEOM_ELLIPSOID:
            row = replace(
                row,
                what="ellipsoid",
                fate=Preservation.CHANGED,
                reason="a hull of its points: engines have no such shape in common",
            )
        self.rows.append(row)
        return [hull]

    def _shape(self, geom: int, name: str) -> Mesh | None:
        model = self.model
        kind, (x, y, z) = _GEOM(int(model.geom_type[geom])), (float(value) for value in model.geom_size[geom])
        if kind in (_GEOM.mjGEOM_MESH, _GEOM.mjGEOM_SDF) and model.geom_dataid[geom] >= 0:
            return _mesh_of(model, int(model.geom_dataid[geom]))
        if kind == _GEOM.mjGEOM_BOX:
            return drawn(Shape(kind=ShapeKind.BOX, size=(2 * x, 2 * y, 2 * z)))
        if kind == _GEOM.mjGEOM_SPHERE:
            return drawn(Shape(kind=ShapeKind.SPHERE, size=(x, 0.0, 0.0)))
        if kind == _GEOM.mjGEOM_CYLINDER:
            return drawn(Shape(kind=ShapeKind.CYLINDER, size=(x, 2 * y, 0.0)))
        if kind == _GEOM.mjGEOM_CAPSULE:
            return drawn(Shape(kind=ShapeKind.CAPSULE, size=(x, 2 * y, 0.0)))
        if kind == _GEOM.mjGEOM_ELLIPSOID:
            return to_mesh(Solid.sphere(1.0, 48).scale((x, y, z)))
        what = kind.name.removeprefix("mjGEOM_").lower()
        row = Kept(
            of=name, what=f"geom {what}", stated=f"{x:g} {y:g} {z:g}", fate=Preservation.DROPPED, reason="no solid of a loose thing"
        )
        if row not in self.rows:
            self.rows.append(row)
        return None


def _left_out(model: mujoco.MjModel) -> Iterator[Kept]:
    """One row for each other element of a model, which is not converted."""
    for index in range(model.nu):
        gain, bias = (
            ", ".join(f"{float(v):g}" for v in values[index][:3]) for values in (model.actuator_gainprm, model.actuator_biasprm)
        )
        name = model.actuator(index).name or f"actuator_{index}"
        stated = f"gain {gain}, bias {bias}"
        yield Kept(of=name, what="actuator", stated=stated, fate=Preservation.DROPPED, reason="an asset is driven by who uses it")
    counts = {
        "tendons": (model.ntendon, "no counterpart in the asset"),
        "sensors": (model.nsensor, "no counterpart in the asset"),
        "contact pairs": (model.npair, "contacts follow from surfaces"),
        "keyframes": (model.nkey, "a scene gives the joints their positions"),
        "sites": (model.nsite, "no counterpart in the asset"),
        "cameras": (model.ncam, "a scene has its own"),
        "lights": (model.nlight, "a scene has its own"),
        "geoms of the world": (int(model.body_geomnum[0]), "the world is the scene's"),
        "flexible bodies": (model.nflex, "assets are rigid"),
    }
    for what, (number, reason) in counts.items():
        if number:
            yield Kept(of="the file", what=what, stated=float(number), fate=Preservation.DROPPED, reason=reason)
    option = model.opt
    medium = (float(option.density), float(option.viscosity), *(float(value) for value in option.wind))
    if any(medium):
        yield Kept(
            of="the file", what="medium", stated=medium, fate=Preservation.DROPPED, reason="what is around a thing is the scene's"
        )


def _unpainted(model: mujoco.MjModel) -> Iterator[Kept]:
    """Rows for what the materials of a model say and a look does not keep; the world's geoms are not looked at."""
    told = set[tuple[int, str]]()
    for geom in range(model.ngeom):
        material = int(model.geom_matid[geom])
        if material < 0 or not model.geom_bodyid[geom]:
            continue
        name, textures = model.mat(material).name, [int(number) for number in model.mat_texid[material] if number >= 0]
        shown = _texture(model, material)
        mesh = int(model.geom_dataid[geom]) if int(model.geom_type[geom]) in (_GEOM.mjGEOM_MESH, _GEOM.mjGEOM_SDF) else -1
        laid = mesh >= 0 and int(model.mesh_texcoordadr[mesh]) >= 0
        lost = {
            f"texture {model.tex(number).name}": "only pictures of a colour on meshes with texture coordinates are kept"
            for number in textures
            if number != shown or not laid
        }
        repeats = tuple(float(value) for value in model.mat_texrepeat[material])
        if shown is not None and laid and repeats != (1.0, 1.0):
            lost["texrepeat"] = "a picture lies as the coordinates of its mesh have it"
        glows = {"emission": float(model.mat_emission[material]), "reflectance": float(model.mat_reflectance[material])}
        lost |= {what: "a look has no such property" for what, value in glows.items() if value > 0.0}
        for what, reason in lost.items():
            if (material, what) not in told:
                told.add((material, what))
                stated = {"texrepeat": repeats, **glows}.get(what, "given")
                yield Kept(of=name, what=what, stated=stated, fate=Preservation.DROPPED, reason=reason)


def _turn(matrix: np.ndarray) -> np.ndarray:
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(matrix, np.float64).ravel())
    return quaternion


def _pose(position: np.ndarray, quaternion: np.ndarray) -> Pose:
    x, y, z = (float(value) for value in position)
    a, b, c, d = (float(value) for value in quaternion)
    return Pose(position=(x, y, z), quaternion=(a, b, c, d))


# ------------------------------------------------------------------------------------------------------------- looks


def _mesh_of(model: mujoco.MjModel, mesh: int) -> Mesh:
    """A mesh of a model."""
    first, count = int(model.mesh_vertadr[mesh]), int(model.mesh_vertnum[mesh])
    start, faces = int(model.mesh_faceadr[mesh]), int(model.mesh_facenum[mesh])
    return Mesh(
        vertices=np.array(model.mesh_vert[first : first + count], np.float64),
        faces=np.array(model.mesh_face[start : start + faces], np.int32),
    )


def _geom_look(model: mujoco.MjModel, geom: int, mesh: Mesh) -> Look:
    """The look of a geom whose triangles are `mesh`."""
    material = int(model.geom_matid[geom])
    rgba = model.geom_rgba[geom] if material < 0 else model.mat_rgba[material]
    red, green, blue, alpha = (float(value) for value in np.clip(rgba, 0.0, 1.0))
    name = model.mat(material).name if material >= 0 else ""
    finish = Finish(name=name, color=(red, green, blue, alpha or 1.0))
    look = replace(plain(mesh, finish.color), finishes=(finish,))
    texture = _texture(model, material)
    if texture is None or mesh.shape is not None or int(model.geom_dataid[geom]) < 0:
        return look
    laid = _laid(model, int(model.geom_dataid[geom]), mesh)
    if laid is None:
        return look
    corners, uv = laid
    images = {"diffuse": Image(name=f"{name or 'material'}_diffuse", data=_png(model, texture))}
    return replace(look, mesh=corners, uv=uv, finishes=(replace(finish, images=images),))


def _texture(model: mujoco.MjModel, material: int) -> int | None:
    """The texture that gives a material its colour, if it is a two-dimensional one."""
    if material < 0:
        return None
    for role in (_ROLE_RGB, _ROLE_RGBA):
        texture = int(model.mat_texid[material][role])
        if texture >= 0 and int(model.tex_type[texture]) == _TEXTURE_2D:
            return texture
    return None


def _laid(model: mujoco.MjModel, number: int, mesh: Mesh) -> tuple[Mesh, np.ndarray] | None:
    """The mesh with one vertex for each pair of position and texture coordinate, and these coordinates, with v upwards."""
    start, count = int(model.mesh_texcoordadr[number]), int(model.mesh_texcoordnum[number])
    if start < 0 or count == 0:
        return None
    first, faces = int(model.mesh_faceadr[number]), int(model.mesh_facenum[number])
    indices = np.array(model.mesh_facetexcoord[first : first + faces], np.int64)
    pairs = np.stack([mesh.faces.astype(np.int64).ravel(), indices.ravel()], axis=1)
    distinct, corners = np.unique(pairs, axis=0, return_inverse=True)
    uv = np.array(model.mesh_texcoord[start : start + count], np.float64)[distinct[:, 1]]
    split = Mesh(vertices=mesh.vertices[distinct[:, 0]], faces=corners.reshape(-1, 3).astype(np.int32))
    return split, uv * [1.0, -1.0] + [0.0, 1.0]


def _png(model: mujoco.MjModel, texture: int) -> bytes:
    from PIL import Image as Picture

    height, width, channels = (int(v[texture]) for v in (model.tex_height, model.tex_width, model.tex_nchannel))
    start = int(model.tex_adr[texture])
    pixels = np.array(model.tex_data[start : start + height * width * channels], np.uint8).reshape(height, width, channels)
    buffer = io.BytesIO()
    Picture.fromarray(pixels[..., 0] if channels == 1 else pixels[..., :4]).save(buffer, "PNG")
    return buffer.getvalue()
