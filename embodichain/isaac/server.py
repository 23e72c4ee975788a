"""Isaac Sim's side of the wire. It runs in Isaac Sim's interpreter, `python.sh server.py SOCKET`, and needs only two other files of
EmbodiChain, which lie beside it.

It was written for Isaac Sim 6 from its documentation, and has never run with it. On a machine that can run it, start with the
command `embodichain physics check isaac`, which reports each requirement that is not met. All worlds lie in one stage, a few metres
apart, each with its own copy of the robot. Physics is accessed through the tensor interface of PhysX.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

APPLIES = ["drives", "delay"]
"""Those of `wire.KINDS` that are applied here. Masses, friction, joints, colours and lights are in the scene's file."""
SPACING_M = 6.0
"""Distance between neighbouring worlds [m]."""
PHYSICS_HZ = 500
"""Physics steps per second, the same as in MuJoCo."""
_GRAVITY = 9.81
_TABLE, _ROBOT, _FIRST_OBJECT = 1, 2, 3
"""Labels in a segmentation image."""


def _module(name: str) -> Any:
    """Imports a module of Kit; such modules exist only once the application runs."""
    return importlib.import_module(name)


def _beside(name: str) -> Any:
    """Loads a file beside this one without its package."""
    spec = importlib.util.spec_from_file_location(f"embodichain_isaac_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


WIRE, TENSORS = _beside("wire"), _beside("tensors")


class IsaacSim:
    """Worlds of one robot in Isaac Sim; implements `wire.Simulator`."""

    def __init__(self) -> None:
        self._app: Any = None
        self._folder = tempfile.TemporaryDirectory(prefix="embodichain-robot-")
        self._robot: Mapping[str, Any] = {}
        self._count = 0
        self._scenes: list[Placed | None] = []
        self._time = np.zeros(0)
        self._views: Any = None
        self._touched: list[Any] = []

    # --------------------------------------------------------------------------------------------------------- beginning

    def hello(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Starts the application. Before that, nothing of pxr or Kit may be imported."""
        self._app = _module("isaacsim").SimulationApp({"headless": True, "renderer": "RaytracedLighting"})
        self._robot, self._count = request["robot"], int(request["num_worlds"])
        if PHYSICS_HZ % int(self._robot["control_hz"]):
            raise ValueError(f"{self._robot['control_hz']} commands a second do not divide {PHYSICS_HZ} physics steps")
        self._cameras, self._size = list(request["cameras"]), (int(request["width"]), int(request["height"]))
        self._scenes, self._time = [None] * self._count, np.zeros(self._count)
        self._touched = [TENSORS.Touched(WIRE.report_pairs) for _ in range(self._count)]
        self._home = np.asarray(self._robot["home"], np.float64)
        self._delayed = [TENSORS.Delayed(self._home, 0, 1) for _ in range(self._count)]
        self._usd = _module("pxr")
        context = _module("omni.usd").get_context()
        context.new_stage()
        self._stage = context.get_stage()
        self._define_stage()
        self._import_robots()
        self._attach_cameras()
        versions = {"isaacsim": importlib.import_module("importlib.metadata").version("isaacsim")}
        return {"versions": versions, "command_size": self._robot["command_size"], "applies": APPLIES}

    def _define_stage(self) -> None:
        geometry, physics, shader = self._usd.UsdGeom, self._usd.UsdPhysics, self._usd.PhysxSchema
        geometry.SetStageUpAxis(self._stage, geometry.Tokens.z)
        geometry.SetStageMetersPerUnit(self._stage, 1.0)
        scene = physics.Scene.Define(self._stage, "/physics")
        scene.CreateGravityDirectionAttr().Set(self._usd.Gf.Vec3f(0.0, 0.0, -1.0))
        scene.CreateGravityMagnitudeAttr().Set(_GRAVITY)
        api = shader.PhysxSceneAPI.Apply(scene.GetPrim())
        api.CreateTimeStepsPerSecondAttr().Set(PHYSICS_HZ)
        api.CreateEnableCCDAttr().Set(True)
        for world in range(self._count):
            where = geometry.Xform.Define(self._stage, f"/world{world}")
            where.AddTranslateOp().Set(self._usd.Gf.Vec3d(*self._origin(world)))

    def _origin(self, world: int) -> tuple[float, float, float]:
        return (SPACING_M * world, 0.0, 0.0)

    def _import_robots(self) -> None:
        """Imports the robot's MJCF with Isaac Sim's own importer, once per world."""
        commands = _module("omni.kit.commands")
        path = Path(self._folder.name) / "robot.xml"
        described = ElementTree.fromstring(self._robot["mjcf"])
        if self._robot["mesh_dir"] is not None:
            compiler = described.find("compiler")
            compiler = compiler if compiler is not None else ElementTree.SubElement(described, "compiler")
            compiler.set("meshdir", self._robot["mesh_dir"])
        path.write_text(ElementTree.tostring(described, encoding="unicode"), encoding="utf-8")
        base = self._robot["world_from_base"]
        for world in range(self._count):
            _, settings = commands.execute("MJCFCreateImportConfig")
            settings.set_fix_base(True)
            settings.set_import_inertia_tensor(True)
            commands.execute(
                "MJCFCreateAsset", mjcf_path=str(path), import_config=settings, prim_path=f"/world{world}/robot", dest_path=""
            )
            prim = self._usd.UsdGeom.Xformable(self._stage.GetPrimAtPath(f"/world{world}/robot"))
            prim.ClearXformOpOrder()
            prim.AddTranslateOp().Set(self._usd.Gf.Vec3d(*base["position"]))
            prim.AddOrientOp(self._usd.UsdGeom.XformOp.PrecisionDouble).Set(self._usd.Gf.Quatd(*base["quaternion"]))
            self._label(f"/world{world}/robot", "robot")

    def _label(self, path: str, what: str) -> None:
        _module("isaacsim.core.utils.semantics").add_update_semantics(self._stage.GetPrimAtPath(path), what)

    def _attach_cameras(self) -> None:
        replicator = _module("omni.replicator.core")
        self._replicator = replicator
        self._annotators: list[list[dict[str, Any]]] = []
        for world in range(self._count):
            found = []
            for name in self._cameras:
                path = self._find(f"/world{world}/robot", name.rpartition("/")[2], "Camera")
                self._set_view(path, next(camera["fovy"] for camera in self._robot["cameras"] if camera["name"] == name))
                product = replicator.create.render_product(path, self._size)
                annotators = {}
                for kind in ("rgb", "distance_to_image_plane", "semantic_segmentation"):
                    options = {"init_params": {"colorize": False}} if kind == "semantic_segmentation" else {}
                    annotators[kind] = replicator.AnnotatorRegistry.get_annotator(kind, **options)
                    annotators[kind].attach([product])
                found.append(annotators)
            self._annotators.append(found)

    def _set_view(self, path: str, fovy: float) -> None:
        """Sets a camera's vertical field of view [degrees] for the aspect ratio of the pictures."""
        camera = self._usd.UsdGeom.Camera(self._stage.GetPrimAtPath(path))
        across = float(camera.GetHorizontalApertureAttr().Get())
        high = across * self._size[1] / self._size[0]
        camera.GetVerticalApertureAttr().Set(high)
        camera.GetFocalLengthAttr().Set(high / (2.0 * math.tan(math.radians(fovy) / 2.0)))

    def _find(self, root: str, name: str, kind: str) -> str:
        """Path of the prim of that name and kind below `root`; raises ValueError when there is none."""
        for prim in self._usd.Usd.PrimRange(self._stage.GetPrimAtPath(root)):
            if prim.GetName() == name and prim.GetTypeName() == kind:
                return str(prim.GetPath())
        raise ValueError(f"the importer left no {kind} named {name!r} below {root}")

    # ------------------------------------------------------------------------------------------------------------ scenes

    def load(self, worlds: Sequence[int], paths: Sequence[str]) -> dict[int, dict[str, Any]]:
        """References each scene's file in its world, and rebuilds the physics views, whose addresses have changed."""
        found: dict[int, dict[str, Any]] = {}
        kept = self._views.snapshot() if self._views is not None else {}
        self._end_views()
        for world, path in zip(worlds, paths, strict=True):
            root = f"/world{world}/scene"
            self._stage.RemovePrim(root)
            prim = self._usd.UsdGeom.Xform.Define(self._stage, root).GetPrim()
            if not prim.GetReferences().AddReference(path):
                found[world] = {"error": f"{path} cannot be referenced"}
                self._scenes[world] = None
                continue
            placed = self._scenes[world] = Placed.of(self._stage, root, self._usd)
            for number, role in enumerate(placed.roles):
                self._label(f"{root}/objects/{role}", f"object{number}")
            self._label(f"{root}/table", "table")
            self._time[world] = 0.0
            self._touched[world] = TENSORS.Touched(WIRE.report_pairs)
            delay = round(placed.dynamics["delay_s"] * PHYSICS_HZ)
            self._delayed[world] = TENSORS.Delayed(self._home, delay, PHYSICS_HZ // int(self._robot["control_hz"]))
            found[world] = {"bodies": self._bodies(world)}
        setup = TENSORS.StageAccess(
            physx=_module("omni.physx"),
            tensors=_module("omni.physics.tensors"),
            usd=self._usd,
            stage=self._stage,
            robot=self._robot,
            scenes=self._scenes,
            origins=[self._origin(number) for number in range(self._count)],
            most_pairs=WIRE.MOST_PAIRS,
        )
        self._views = TENSORS.StageViews(setup, kept, frozenset(worlds))
        for _ in range(3):  # let the renderer catch up: the first pictures still show the old stage
            self._app.update()
        return found

    def _bodies(self, world: int) -> list[str]:
        """Names of bodies by their numbers in contacts."""
        placed = self._scenes[world]
        assert placed is not None
        robot = [f"robot/{name}" for name, _ in TENSORS.links(self._stage, f"/world{world}/robot", self._usd)]
        return ["world", "table", *robot, *(f"{role}/{body}" for role, bodies in placed.bodies.items() for body in bodies)]

    def _end_views(self) -> None:
        if self._views is not None:
            self._views.end()
            self._views = None

    def sizes(self) -> dict[str, int]:
        """See `wire.Simulator`."""
        known = [placed for placed in self._scenes if placed is not None]
        return {
            "objects": max((len(placed.free) for placed in known), default=0),
            "joints": max((len(placed.joints) for placed in known), default=0),
            "grains": 0,
        }

    # -------------------------------------------------------------------------------------------------------------- steps

    def step(self, command: NDArray[np.float64], pushes: Mapping[int, Sequence[tuple[str, Sequence[float]]]]) -> dict[int, str]:
        """See `wire.Simulator`. Contacts are summed over every physics step of the period."""
        views = self._views
        if views is None:
            return {
                world: "physics did not begin anew after a scene was loaded" for world, placed in enumerate(self._scenes) if placed
            }
        faults = {}
        for world, some in pushes.items():
            placed = self._scenes[world]
            for body, _ in some:
                if placed is None or placed.path_of(body) is None:
                    faults[world] = f"world {world} has no body {body!r} to push"
        substeps = PHYSICS_HZ // int(self._robot["control_hz"])
        for delayed, wanted in zip(self._delayed, command, strict=True):
            delayed.give(wanted)
        changes = {0, *(delayed.late for delayed in self._delayed)}
        for touched in self._touched:
            touched.begin()
        for step in range(substeps):
            if step in changes:
                views.command(np.stack([delayed.at(step) for delayed in self._delayed]))
            for world, some in pushes.items():
                if world not in faults:
                    views.push(world, some)
            views.simulate(1.0 / PHYSICS_HZ)
            views.touch(self._touched, 1.0 / PHYSICS_HZ)
        for world, placed in enumerate(self._scenes):
            if placed is not None:
                self._time[world] += substeps / PHYSICS_HZ
                self._touched[world].end(substeps)
        return faults

    def look(self, tape: Mapping[str, NDArray[Any]]) -> None:
        """See `wire.Simulator`."""
        tape["time_s"][...] = self._time
        if self._views is None:
            return
        self._views.write(tape)
        for world, touched in enumerate(self._touched):
            touched.write(tape, world)

    def render(self, worlds: Sequence[int], pictures: Mapping[str, NDArray[Any]]) -> None:
        """See `wire.Simulator`."""
        self._replicator.orchestrator.step(rt_subframes=4, pause_timeline=True, delta_time=0.0)
        for row, world in enumerate(worlds):
            for column, annotators in enumerate(self._annotators[world]):
                pictures["rgb"][row, column] = annotators["rgb"].get_data()[..., :3]
                away = np.asarray(annotators["distance_to_image_plane"].get_data())
                pictures["range"][row, column] = np.where(np.isfinite(away), away, 0.0)
                seen = annotators["semantic_segmentation"].get_data()
                labels = np.zeros(int(max(map(int, seen["info"]["idToLabels"]), default=0)) + 1, np.uint8)
                for number, entry in seen["info"]["idToLabels"].items():
                    labels[int(number)] = _label_of(str(entry.get("class", "")))
                pictures["segmentation"][row, column] = labels[np.asarray(seen["data"])]

    def close(self) -> None:
        """See `wire.Simulator`. The application may crash when it closes, so callers should not wait for its exit code."""
        self._end_views()
        if self._app is not None:
            self._app.close()


class Placed:
    """The contents that a scene's file puts into a world."""

    def __init__(self) -> None:
        self.root = ""
        self.roles: list[str] = []
        self.free: list[str] = []
        """Paths of the root bodies of objects that are free to move, in the order of the scene."""
        self.joints: list[str] = []
        """Paths of the objects' movable joints, in order."""
        self.bodies: dict[str, list[str]] = {}
        self.begin: dict[str, list[float]] = {}
        """Initial joint positions of each object."""
        self.dynamics: dict[str, float] = {}
        """How the robot's drives differ from its description, as in `types.Dynamics`."""

    @classmethod
    def of(cls, stage: Any, root: str, usd: Any) -> Placed:
        """Reads the contents of a scene from the stage."""
        placed = cls()
        placed.root = root
        facts = json.loads(stage.GetPrimAtPath(root).GetAttribute("embodichain:scene").Get())
        placed.dynamics = dict(facts["dynamics"])
        placed.begin = {entry["role"]: list(entry["joint_positions"]) for entry in facts["objects"]}
        for thing in stage.GetPrimAtPath(f"{root}/objects").GetChildren():
            role, bolted = thing.GetName(), False
            placed.roles.append(role)
            bodies: list[str] = []
            for prim in usd.Usd.PrimRange(thing):
                if prim.HasAPI(usd.UsdPhysics.RigidBodyAPI):
                    bodies.append(prim.GetName())
                elif prim.IsA(usd.UsdPhysics.FixedJoint):
                    joint = usd.UsdPhysics.Joint(prim)
                    bolted |= not joint.GetBody0Rel().GetTargets() or not joint.GetBody1Rel().GetTargets()
                elif prim.IsA(usd.UsdPhysics.RevoluteJoint) or prim.IsA(usd.UsdPhysics.PrismaticJoint):
                    placed.joints.append(str(prim.GetPath()))
            placed.bodies[role] = bodies
            if not bolted:
                placed.free.append(f"{root}/objects/{role}/{bodies[0]}")
        return placed

    def path_of(self, body: str) -> str | None:
        """The path of a body, given as a role (its root body) or "role/body"; None when there is none."""
        role, _, name = body.partition("/")
        bodies = self.bodies.get(role)
        if not bodies or (name and name not in bodies):
            return None
        return f"{self.root}/objects/{role}/{name or bodies[0]}"


def _label_of(what: str) -> int:
    """The segmentation label of one of our semantic classes; 0 for the room."""
    if what.startswith("object"):
        return _FIRST_OBJECT + int(what.removeprefix("object"))
    return {"table": _TABLE, "robot": _ROBOT}.get(what, 0)


def main(arguments: Sequence[str]) -> int:
    """Serves on the socket whose file descriptor is the last argument."""
    with socket.socket(fileno=int(arguments[-1])) as connection:
        WIRE.serve(connection, IsaacSim())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
