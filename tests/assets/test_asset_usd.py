import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pxr import Usd, UsdGeom, UsdPhysics, UsdSemantics

from embodichain.assets.families.tables import material
from embodichain.assets.geometry import articulate
from embodichain.assets.geometry.collision import convex_hull
from embodichain.assets.geometry.shapes import box, to_mesh
from embodichain.assets.usd import files as usd
from embodichain.errors import AssetError
from embodichain.types import Asset, Body, Joint, JointKind, Pose
from embodichain.types.poses import compose, turn

CUBE = to_mesh(box((0.1, 0.08, 0.06)))


def body(name, **changes):
    values = {
        "mass": 0.123456789,
        "center_of_mass": (0.001, -0.002, 0.003),
        "diagonal_inertia": (1.1e-5, 2.2e-5, 2.9e-5),
        "principal_axes": turn((0.6, 0.0, 0.8), 0.7),
        "visual": CUBE,
        "hulls": (convex_hull(CUBE.vertices),),
        "material": material("steel"),
        "color": (0.1, 0.2, 0.3, 0.9),
    }
    return Body(name=name, **(values | changes))


def assert_same(first: Asset, second: Asset, tolerance: float = 1e-6):
    assert (first.name, first.category, first.licence, first.source) == (
        second.name,
        second.category,
        second.licence,
        second.source,
    )
    assert first.content_hash == second.content_hash
    for one, other in zip(first.bodies, second.bodies, strict=True):
        assert one.name == other.name
        assert one.material.name == other.material.name
        for field in ("density", "static_friction", "dynamic_friction", "restitution"):
            assert getattr(one.material, field) == pytest.approx(getattr(other.material, field), rel=tolerance)
        assert one.mass == pytest.approx(other.mass, rel=tolerance)
        assert one.diagonal_inertia == pytest.approx(other.diagonal_inertia, rel=tolerance)
        assert one.center_of_mass == pytest.approx(other.center_of_mass, abs=tolerance)
        assert one.principal_axes == pytest.approx(other.principal_axes, abs=tolerance)
        assert one.color == pytest.approx(other.color, abs=tolerance)
        assert_pose(one.body_pose, other.body_pose, tolerance)
        for mesh, copy in zip((one.visual, *one.hulls), (other.visual, *other.hulls), strict=True):
            assert np.allclose(mesh.vertices, copy.vertices, atol=tolerance, rtol=0)
            assert np.array_equal(mesh.faces, copy.faces)
    for joint, copy in zip(first.joints, second.joints, strict=True):
        assert (joint.name, joint.kind, joint.parent, joint.child) == (copy.name, copy.kind, copy.parent, copy.child)
        for field in ("anchor", "axis") if joint.kind is not JointKind.FIXED else ("anchor",):
            assert getattr(joint, field) == pytest.approx(getattr(copy, field), abs=tolerance)
        for field in ("lower", "upper", "damping", "friction", "stiffness", "rest"):
            assert getattr(joint, field) == pytest.approx(getattr(copy, field), rel=tolerance, abs=1e-9)
    assert first.affordances.keys() == second.affordances.keys()
    for name, (owner, pose) in first.affordances.items():
        assert second.affordances[name][0] == owner
        assert_pose(pose, second.affordances[name][1], tolerance)


def assert_pose(first: Pose, second: Pose, tolerance: float):
    assert first.position == pytest.approx(second.position, abs=tolerance)
    sign = math.copysign(1.0, np.dot(first.quaternion, second.quaternion))
    assert np.allclose(first.quaternion, np.multiply(second.quaternion, sign), atol=tolerance)


def unit(values):
    x, y, z = np.asarray(values) / np.linalg.norm(values)
    return (float(x), float(y), float(z))


axes = st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1).map(unit)
points = st.tuples(*[st.floats(-0.2, 0.2)] * 3)


@given(
    kind=st.sampled_from([JointKind.REVOLUTE, JointKind.PRISMATIC]),
    axis=st.one_of(axes, st.sampled_from([(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, -1.0)])),
    anchor=points,
    place=points,
    about=st.tuples(axes, st.floats(-3, 3)),
    lower=st.floats(-2.0, 0.0),
    span=st.floats(0.1, 3.0),
    damping=st.floats(0.0, 1.0),
    friction=st.floats(0.0, 1.0),
    stiffness=st.floats(0.0, 500.0),
    rest=st.floats(-1.0, 1.0),
    mass=st.floats(1e-3, 50.0),
    bolted=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_any_articulated_asset_survives_the_file(
    tmp_path_factory, kind, axis, anchor, place, about, lower, span, damping, friction, stiffness, rest, mass, bolted
):
    pose = Pose(position=place, quaternion=turn(*about))
    joint = Joint(
        name="hinge", kind=kind, parent="base", child="arm", axis=axis, anchor=anchor,
        lower=lower, upper=lower + span, damping=damping, friction=friction, stiffness=stiffness, rest=rest,
    )  # fmt: skip
    mount = (Joint(name="mount", kind=JointKind.FIXED, parent="", child="base"),) if bolted else ()
    asset = Asset(
        name="thing",
        category="switch",
        bodies=(body("base", mass=mass), body("arm", body_pose=pose, material=material("wood"))),
        joints=(*mount, joint),
        affordances={"tip": ("arm", Pose(position=anchor, quaternion=pose.quaternion))},
        licence="CC0-1.0",
        source="a test",
        content_hash="0123456789abcdef",
    )
    path = tmp_path_factory.getbasetemp() / "thing.usd"
    usd.write(asset, path)
    assert_same(asset, usd.read(path))
    assert usd.read(path).fixed_base == bolted


@pytest.mark.parametrize("ending", ["usd", "usda", "usdc"])
def test_writing_what_was_read_changes_nothing(catalog, tmp_path, ending):
    for asset in catalog.values():
        path = tmp_path / f"{asset.name}.{ending}"
        usd.write(asset, path)
        assert_same(asset, usd.read(path), tolerance=1e-7)


def test_the_file_meets_the_delivery_checklist(catalog):
    for asset in catalog.values():
        stage = Usd.Stage.Open(str(asset.path))
        root = stage.GetDefaultPrim()
        assert UsdGeom.GetStageMetersPerUnit(stage) == 1.0
        assert UsdPhysics.GetStageKilogramsPerUnit(stage) == 1.0
        assert UsdGeom.GetStageUpAxis(stage) == "Z"
        assert Usd.ModelAPI(root).GetKind() == "component"
        assert UsdSemantics.LabelsAPI(root, "class").GetLabelsAttr().Get() == [asset.category]
        metadata = stage.GetRootLayer().customLayerData
        assert metadata["SimReady_Metadata"]["asset_license"] == asset.licence == "Apache-2.0"
        assert metadata["embodichain"]["content_hash"] == asset.content_hash != ""
        assert "seed" in asset.source
        assert asset.path.parent.name == asset.path.stem == asset.name
        assert asset.path.read_bytes()[:8] == b"PXR-USDC"
        bodies = [prim for prim in stage.Traverse() if prim.HasAPI(UsdPhysics.RigidBodyAPI)]
        assert {prim.GetParent() for prim in bodies} == {root}
        for prim in bodies:
            assert prim.HasAPI(UsdPhysics.MassAPI)
            visual = UsdGeom.Mesh(stage.GetPrimAtPath(prim.GetPath().AppendChild("visual")))
            assert visual.GetSubdivisionSchemeAttr().Get() == "none"
            assert len(visual.GetNormalsAttr().Get()) == len(visual.GetFaceVertexCountsAttr().Get())
            for hull in stage.GetPrimAtPath(prim.GetPath().AppendChild("collision")).GetChildren():
                assert UsdPhysics.MeshCollisionAPI(hull).GetApproximationAttr().Get() == "convexHull"
                assert UsdGeom.Imageable(hull).GetPurposeAttr().Get() == "guide"
        if asset.fixed_base:
            mount = stage.GetPrimAtPath(root.GetPath().AppendPath("joints/mount"))
            assert mount.HasAPI(UsdPhysics.ArticulationRootAPI)
            assert not UsdPhysics.Joint(mount).GetBody0Rel().GetTargets()


def test_pxr_itself_finds_the_mass_that_we_wrote(catalog):
    for asset in catalog.values():
        stage = Usd.Stage.Open(str(asset.path))
        for one in asset.bodies:
            prim = stage.GetPrimAtPath(f"/{asset.name}/{one.name}")
            assert UsdPhysics.MassAPI(prim).GetMassAttr().Get() == pytest.approx(one.mass)


def test_joint_positions_move_the_child_as_the_frames_say():
    joint = Joint(
        name="j", kind=JointKind.REVOLUTE, parent="base", child="arm", axis=(0, 1, 0), anchor=(0, 0, 0.1), lower=-1, upper=1
    )
    bodies = (body("base"), body("arm", body_pose=Pose(position=(0.0, 0.0, 0.2))))
    pose = articulate.body_poses(bodies, [joint], {"j": math.pi / 2})["arm"]
    tip = compose(pose, Pose(position=(0.0, 0.0, 0.2)))
    assert tip.position == pytest.approx((0.1, 0.0, 0.3), abs=1e-12)


def test_hostile_files_and_names_are_refused(tmp_path):
    (tmp_path / "empty.usd").touch()
    (tmp_path / "noise.usd").write_bytes(b"PXR-USDC" + bytes(range(256)))
    (tmp_path / "bare.usda").write_text('#usda 1.0\n(\n defaultPrim = "a"\n)\ndef Xform "a" {}\n')
    for name, reason in {"none.usd": "no file", "empty.usd": "empty", "noise.usd": "read", "bare.usda": "RigidBodyAPI"}.items():
        with pytest.raises(AssetError, match=reason):
            usd.read(tmp_path / name)
    asset = Asset(name="bad name!", category="x", bodies=(body("b"),))
    with pytest.raises(AssetError, match="prim name"):
        usd.write(asset, tmp_path / "x.usd")
    with pytest.raises(AssetError, match="cannot write"):
        usd.write(Asset(name="fine", category="x", bodies=(body("b"),)), tmp_path / "noise.usd" / "x.usd")


def test_a_file_of_non_ascii_path_is_written_and_read(tmp_path):
    path = tmp_path / "tasse ☕ é" / "c.usd"
    usd.write(Asset(name="fine", category="x", bodies=(body("b"),), licence="CC0-1.0"), path)
    assert usd.read(path).name == "fine"
