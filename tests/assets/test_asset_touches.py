"""Colliders of one body that rub differently: each keeps its own friction, through files, worlds and scenes."""

import json
from dataclasses import replace

import mujoco
import numpy as np
import pytest

from embodichain import robots
from embodichain.assets.chain import fidelity, optimize, settings
from embodichain.assets.reading.files import FileFacts, FileJob
from embodichain.assets.usd import files as usd
from embodichain.assets.usd.foreign import resolve
from embodichain.expand import physical
from embodichain.physics import world
from embodichain.scenes import usd as scenes
from embodichain.types import ObjectPlacement, Pose, Scene

FREE = FileFacts(licence="CC0-1.0")
PAD, SHAFT = 0.9, 0.2
MJCF = f"""<mujoco><worldbody><body name="thing"><freejoint/>
<geom name="shaft" type="box" size="0.03 0.03 0.01" pos="0 0 0.01" mass="0.2" friction="{SHAFT} 0.005 0.0001"/>
<geom name="pad" type="box" size="0.01 0.01 0.01" pos="0 0 0.03" mass="0.1" friction="{PAD} 0.005 0.0001"/>
</body></worldbody></mujoco>"""
URDF = f"""<robot name="thing">
<link name="shaft"><inertial><mass value="0.2"/><inertia ixx="1e-4" iyy="1e-4" izz="1e-4" ixy="0" ixz="0" iyz="0"/></inertial>
<contact><lateral_friction value="{SHAFT}"/></contact>
<collision><origin xyz="0 0 0.01"/><geometry><box size="0.06 0.06 0.02"/></geometry></collision></link>
<link name="pad"><contact><lateral_friction value="{PAD}"/></contact>
<collision><origin xyz="0 0 0.01"/><geometry><box size="0.02 0.02 0.02"/></geometry></collision></link>
<joint name="glue" type="fixed"><parent link="shaft"/><child link="pad"/><origin xyz="0 0 0.02"/></joint></robot>"""
SDF = f"""<sdf version="1.9"><model name="thing"><link name="thing"><inertial><mass>0.3</mass></inertial>
<collision name="shaft"><pose>0 0 0.01 0 0 0</pose><geometry><box><size>0.06 0.06 0.02</size></box></geometry>
<surface><friction><ode><mu>{SHAFT}</mu></ode></friction></surface></collision>
<collision name="pad"><pose>0 0 0.03 0 0 0</pose><geometry><box><size>0.02 0.02 0.02</size></box></geometry>
<surface><friction><ode><mu>{PAD}</mu></ode></friction></surface></collision></link></model></sdf>"""
USD = f"""#usda 1.0
( defaultPrim = "thing"
 metersPerUnit = 1
 upAxis = "Z" )
def Xform "thing" (prepend apiSchemas = ["PhysicsRigidBodyAPI", "PhysicsMassAPI"]) {{
 float physics:mass = 0.3
 def Cube "shaft" (prepend apiSchemas = ["PhysicsCollisionAPI", "MaterialBindingAPI"]) {{
  double size = 1
  double3 xformOp:translate = (0, 0, 0.01)
  float3 xformOp:scale = (0.06, 0.06, 0.02)
  uniform token[] xformOpOrder = ["xformOp:translate", "xformOp:scale"]
  rel material:binding:physics = </thing/slick>
 }}
 def Cube "pad" (prepend apiSchemas = ["PhysicsCollisionAPI", "MaterialBindingAPI"]) {{
  double size = 1
  double3 xformOp:translate = (0, 0, 0.03)
  float3 xformOp:scale = (0.02, 0.02, 0.02)
  uniform token[] xformOpOrder = ["xformOp:translate", "xformOp:scale"]
  rel material:binding:physics = </thing/rubber>
 }}
 def Material "slick" (prepend apiSchemas = ["PhysicsMaterialAPI"]) {{
  float physics:dynamicFriction = {SHAFT}
  float physics:staticFriction = {SHAFT}
 }}
 def Material "rubber" (prepend apiSchemas = ["PhysicsMaterialAPI"]) {{
  float physics:dynamicFriction = {PAD}
  float physics:staticFriction = {PAD}
 }}
}}"""
KINDS = {"thing.xml": MJCF, "thing.urdf": URDF, "thing.sdf": SDF, "thing.usda": USD}


@pytest.fixture(scope="module", params=KINDS)
def built(request, tmp_path_factory):
    """The thing out of one kind of file: (source, asset)."""
    place = tmp_path_factory.mktemp("touches")
    source = place / request.param
    source.write_text(KINDS[request.param])
    return source, optimize.build_job(FileJob(path=source, facts=FREE), place / "out", config=settings.ChainConfig())


def by_height(body):
    """Friction of each collider of a body, the lowest first."""
    order = np.argsort([hull.vertices[:, 2].mean() for hull in body.hulls])
    return [pytest.approx(body.touching[index].dynamic_friction, abs=1e-6) for index in order]


def test_each_collider_keeps_its_friction_in_usd_and_mjcf(built):
    _, asset = built
    (body,) = usd.read(asset.path).bodies
    assert by_height(body) == [SHAFT, PAD]
    pieces = sorted((p for p in resolve(asset.path).bodies[0].pieces if p.collides), key=lambda piece: piece.matrix[3, 2])
    assert [piece.friction[1] for piece in pieces] == [pytest.approx(SHAFT), pytest.approx(PAD)], "as pxr resolves it"
    model = mujoco.MjModel.from_xml_string(asset.path.with_suffix(".xml").read_text())
    solid = sorted((g for g in range(model.ngeom) if model.geom_contype[g]), key=lambda g: model.geom_pos[g][2])
    assert [model.geom_friction[g][0] for g in solid if model.geom_bodyid[g]] == [pytest.approx(SHAFT), pytest.approx(PAD)]


def test_the_table_has_both_numbers_and_a_lost_one_is_seen(built):
    source, asset = built
    raw = FileJob(path=source, facts=FREE).source()
    rows = {row.what: row for row in fidelity.table(raw, asset, ())}
    assert rows["dynamic friction of colliders"].written == pytest.approx((SHAFT, PAD), abs=1e-6)
    (body,) = asset.bodies
    dulled = replace(asset, bodies=(replace(body, surfaces=()),))
    lost = fidelity.unexplained(fidelity.table(raw, dulled, ()))
    assert "dynamic friction of colliders" in {row.what for row in lost}


def varied(asset):
    """A scene of the thing alone, its physics drawn anew."""
    placement = ObjectPlacement(role="thing", asset=asset, pose=Pose(position=(0.4, 0.0, 0.5)))
    scene = Scene(seed=0, task="none", instruction="", objects=(placement,))
    config = physical.PhysicalConfig(enabled=True, density=(1.0, 1.0), friction=(1.1, 1.1), ballast=(0.0, 0.0))
    return physical.vary(scene, np.random.default_rng(0), config)


def test_what_varies_a_thing_varies_every_surface_of_it(built):
    _, asset = built
    (before,), (after,) = asset.bodies, varied(asset).objects[0].asset.bodies
    assert [s.dynamic_friction for s in after.surfaces] == pytest.approx([1.1 * s.dynamic_friction for s in before.surfaces])


def test_each_collider_rubs_in_a_world_as_it_says(built):
    scene = varied(built[1])
    found = world.compile_world(robots.get("dual_piper"), scene.objects)
    world.write_scene(found, scene)
    model, (body,) = found.model, scene.objects[0].asset.bodies
    rubs = {model.geom(g).name.rpartition("/")[2]: model.geom_friction[g][0] for g in np.concatenate(found.objects[0].geoms)}
    assert [rubs[f"hull{index}"] for index in range(len(body.hulls))] == pytest.approx([s.dynamic_friction for s in body.surfaces])


def test_what_replays_a_scene_replays_every_surface(built, tmp_path):
    scene = varied(built[1])
    replayed = scenes.read(scenes.write(scene, tmp_path / "scene.usda"))
    assert replayed.objects[0].asset.bodies[0].surfaces == scene.objects[0].asset.bodies[0].surfaces


def test_a_surface_that_none_has_is_changed_with_both_numbers(tmp_path):
    source = tmp_path / "odd.usda"
    text = USD.replace(
        f"float physics:staticFriction = {PAD}", "float physics:staticFriction = 0.4\n  float physics:restitution = 1.5"
    )
    source.write_text(text)
    asset = optimize.build_job(FileJob(path=source, facts=FREE), tmp_path / "out", config=settings.ChainConfig())
    rows = {row["what"]: row for row in json.loads(asset.path.with_suffix(".json").read_text())["fidelity"]}
    assert rows["static friction of colliders"]["stated"] == pytest.approx([SHAFT, 0.4])
    assert rows["static friction of colliders"]["written"] == pytest.approx([SHAFT, PAD])
    assert (rows["restitution of colliders"]["stated"], rows["restitution of colliders"]["written"]) == ([1.5], [1.0])
    assert rows["restitution of colliders"]["reason"].startswith("no surface has that")
