"""Laws of scenes as files: what is read is what was written, bit for bit, and replays the same; what cannot be is named."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import scene_parts as parts
from pxr import Usd, UsdPhysics, UsdShade

from embodichain.assets.usd import files as asset_usd
from embodichain.errors import SceneError
from embodichain.expand.physical import PhysicalConfig
from embodichain.expand.visual import VisualConfig
from embodichain.physics.mujoco import MujocoPhysics
from embodichain.scenes import usd
from embodichain.scenes.reach import ReachTable
from embodichain.scenes.sample import SceneSampler
from embodichain.tasks.place_mouse_pad import PlaceMousePad
from embodichain.tasks.turn_switch import TurnSwitch
from embodichain.types import Grains, Scene
from embodichain.types.mishaps import Pushed


@pytest.fixture(scope="module")
def sampler(tmp_path_factory):
    """Samples scenes of assets that lie in files, all expansion on."""
    folder = tmp_path_factory.mktemp("catalog")
    found = []
    for asset in parts.assets():
        path = folder / f"{asset.name}.usd"
        asset_usd.write(replace(asset, licence="Apache-2.0", source="test"), path)
        found.append(asset_usd.read(path))
    reach = ReachTable.load_or_build(parts.ROBOT, parts.COARSE, cache_dir=folder)
    expansion = {"visual": VisualConfig(enabled=True), "physical": PhysicalConfig(enabled=True)}
    return SceneSampler(parts.ROBOT, found, reach, **expansion)


def test_a_scene_read_back_is_the_scene_written_and_replays_bitwise(sampler, tmp_path):
    rng = np.random.default_rng(0)
    physics = MujocoPhysics(parts.ROBOT, width=32, height=32)
    for number, task in enumerate((TurnSwitch(), PlaceMousePad())):
        scene = sampler.sample(task, 40 + number)
        push = Pushed(begin=5, steps=9, body=scene.objects[0].role, force=(0.1, -0.25, 1e-9))
        scene = replace(scene, happening=(push,) * number, bounds=replace(scene.bounds, grip_force=31.5, table_force=float("inf")))
        if number:
            loose = rng.uniform((-0.1, -0.2, 0.2), (0.1, 0.2, 0.5), (6, 3)).astype(np.float32).tolist()
            scene = replace(scene, grains=Grains(radius=0.0061, density=777.7, positions=tuple((x, y, z) for x, y, z in loose)))
        read = usd.read(usd.write(scene, tmp_path / "deep" / f"{number}.usda"))
        for name in {field.name for field in fields(Scene)} - {"objects"}:
            assert getattr(read, name) == getattr(scene, name), name
        for before, after in zip(scene.objects, read.objects, strict=True):
            assert (after.role, after.pose, after.color) == (before.role, before.pose, before.color)
            assert after.joint_positions == before.joint_positions
        commands = parts.ROBOT.home + 0.2 * rng.standard_normal((30, parts.ROBOT.command_size)).cumsum(axis=0) / 10
        shape = (len(parts.ROBOT.cameras), 32, 32, 3)
        ends = []
        for played in (scene, read):
            physics.reset(played)
            rgb = np.zeros(shape, np.uint8)
            for command in commands:
                physics.step(command)
            physics.render(rgb)
            ends.append((physics.world.data.qpos.tobytes(), physics.world.data.qvel.tobytes(), rgb.tobytes()))
        assert ends[0] == ends[1]


def test_other_usd_tools_see_references_poses_and_masses(sampler, tmp_path):
    scene = sampler.sample(PlaceMousePad(), 7)
    path = usd.write(scene, tmp_path / "scene.usda")
    facts = asset_usd.inspect(path)
    assert (facts.up_axis, facts.meters_per_unit, facts.default_prim) == ("Z", 1.0, "/scene")
    prims = {prim.path: prim for prim in facts.prims}
    for placement in scene.objects:
        body = placement.asset.bodies[0]
        prim = prims[f"/scene/objects/{placement.role}/{body.name}"]
        assert prim.values["physics:mass"] == pytest.approx(body.mass, rel=1e-6)
        assert f"/scene/objects/{placement.role}/{body.name}/visual" in prims
        at_origin = np.array((*body.body_pose.position, 1.0)) @ prims[f"/scene/objects/{placement.role}"].matrix
        np.testing.assert_allclose(prim.matrix[3], at_origin, atol=1e-9)


def test_an_object_moved_in_the_file_is_moved(sampler, tmp_path):
    scene = sampler.sample(TurnSwitch(), 3)
    path = usd.write(scene, tmp_path / "scene.usda")
    x, y, z = scene.objects[0].pose.position
    text = path.read_text().replace(f"({x!r}, {y!r}, {z!r})", f"({x + 0.01!r}, {y!r}, {z!r})")
    path.write_text(text)
    assert usd.read(path).objects[0].pose.position == (x + 0.01, y, z)


def test_what_cannot_be_written_or_read_is_named(sampler, tmp_path):
    scene = sampler.sample(TurnSwitch(), 3)
    with pytest.raises(SceneError, match=r"name the file scene\.usda"):
        usd.write(scene, tmp_path / "scene.usd")
    homeless = replace(scene.objects[0], asset=replace(scene.objects[0].asset, path=Path("nowhere.usd")))
    with pytest.raises(SceneError, match="no file to refer to"):
        usd.write(replace(scene, objects=(homeless,)), tmp_path / "scene.usda")
    with pytest.raises(SceneError, match="is no scene of this engine"):
        usd.read(scene.objects[0].asset.path)
    with pytest.raises(SceneError, match="cannot read a scene"):
        usd.read(tmp_path / "missing.usda")
    path = usd.write(scene, tmp_path / "scene.usda")
    path.write_text(path.read_text().replace(scene.objects[0].asset.content_hash, "another"))
    with pytest.raises(SceneError, match="it would not replay"):
        usd.read(path)
    whole = usd.write(scene, tmp_path / "scene.usda").read_text()
    for found, put in ((r"\"looks\"", r"\"loks\""), (r"\"seed\":", r"\"seed\""), (r"\"lights\": [", r"\"lights\": [7, ")):
        assert found in whole
        path.write_text(whole.replace(found, put))
        with pytest.raises(SceneError, match="sample the scene again"):
            usd.read(path)


def test_grains_are_points_to_other_tools_and_must_be_32_bit_numbers(sampler, tmp_path):
    scene = replace(sampler.sample(TurnSwitch(), 1), grains=Grains(radius=0.005, positions=((0.125, 0.25, 0.5), (0.0, -0.5, 1.0))))
    prims = {prim.path: prim for prim in asset_usd.inspect(usd.write(scene, tmp_path / "grains.usda")).prims}
    found = prims["/scene/grains"].values
    np.testing.assert_array_equal(found["points"], scene.grains.positions)
    np.testing.assert_allclose(found["widths"], 0.01)
    with pytest.raises(SceneError, match="32-bit coordinates"):
        usd.write(replace(scene, grains=Grains(positions=((0.1, 0.0, 0.3),))), tmp_path / "refused.usda")


def test_resized_objects_are_resized_for_other_tools_too(sampler, tmp_path):
    scene = sampler.sample(PlaceMousePad(), 7)
    prims = {prim.path: prim for prim in asset_usd.inspect(usd.write(scene, tmp_path / "scene.usda")).prims}
    assert any(placement.asset.scale != 1.0 for placement in scene.objects)
    for placement in scene.objects:
        asset, body = placement.asset, placement.asset.bodies[0]
        at = f"/scene/objects/{placement.role}"
        assert np.linalg.det(prims[at].matrix[:3, :3]) == pytest.approx(asset.scale**3, rel=1e-5)
        center = np.array(prims[f"{at}/{body.name}"].values["physics:centerOfMass"])
        np.testing.assert_allclose(asset.scale * center, body.center_of_mass, atol=1e-7)
        assert scene.expansion[f"{placement.role}.scale"] == pytest.approx(asset.scale, rel=1e-3)


def test_any_reader_of_usd_finds_friction_joints_and_colours_of_the_scene_and_not_of_the_catalogue(sampler, tmp_path):
    nominal = {asset.name: asset for asset in sampler._assets}
    seen: set[str] = set()
    for number, task in enumerate((TurnSwitch(), PlaceMousePad())):
        scene = sampler.sample(task, 40 + number)
        stage = Usd.Stage.Open(str(usd.write(scene, tmp_path / f"{number}.usda")))
        for placement in scene.objects:
            root = f"/scene/objects/{placement.role}"
            before = nominal[placement.asset.name]
            for body, plain in zip(placement.asset.bodies, before.bodies, strict=True):
                for prim in Usd.PrimRange(stage.GetPrimAtPath(f"{root}/{body.name}")):
                    if not prim.HasAPI(UsdPhysics.CollisionAPI):
                        continue
                    bound, _ = UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial("physics")
                    found = UsdPhysics.MaterialAPI(bound.GetPrim()).GetDynamicFrictionAttr().Get()
                    assert found in [pytest.approx(one.dynamic_friction) for one in (body.material, *body.surfaces)]
                    assert body.material.dynamic_friction != plain.material.dynamic_friction
                    seen.add("friction")
                shown = stage.GetPrimAtPath(f"{root}/{body.name}/visual")
                if placement.color is not None and shown:
                    bound, _ = UsdShade.MaterialBindingAPI(shown).ComputeBoundMaterial()
                    shader = UsdShade.Shader(bound.ComputeSurfaceSource()[0].GetPrim())
                    assert shader.GetInput("diffuseColor").Get() == pytest.approx(placement.color[:3])
                    seen.add("color")
            for joint, plain in zip(placement.asset.movable_joints, before.movable_joints, strict=True):
                prim = stage.GetPrimAtPath(f"{root}/joints/{joint.name}")
                turns = prim.IsA(UsdPhysics.RevoluteJoint)
                damping = UsdPhysics.DriveAPI(prim, "angular" if turns else "linear").GetDampingAttr().Get()
                assert damping == pytest.approx(np.radians(joint.damping) if turns else joint.damping)
                assert prim.GetAttribute("physxJoint:jointFriction").Get() == pytest.approx(joint.friction)
                assert joint.damping != plain.damping
                seen.add("joint")
    assert seen == {"friction", "color", "joint"}
