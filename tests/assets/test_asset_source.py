import json
from pathlib import Path

import numpy as np
import pytest
from asset_parts import exact_union

from embodichain.assets import families
from embodichain.assets.families import source, tables
from embodichain.assets.geometry import articulate
from embodichain.assets.geometry.shapes import box, to_solid
from embodichain.assets.geometry.topology import components
from embodichain.errors import AssetError, ConfigError
from embodichain.types import rotate
from embodichain.types.poses import compose, inverse

SEEDS = range(6)


@pytest.mark.parametrize("category", source.categories())
@pytest.mark.parametrize("seed", SEEDS)
def test_every_instance_is_made_of_closed_solids_that_rest_on_the_plane(category, seed):
    clean = source.procedural(category, seed)
    lowest = min(rotate(part.pose.quaternion, part.mesh.vertices)[:, 2].min() + part.pose.position[2] for part in clean.parts)
    assert lowest == pytest.approx(0.0, abs=1e-9)
    for part in clean.parts:
        assert not to_solid(part.mesh).is_empty()
        assert part.material in tables.material_table()


def test_the_same_seed_is_the_same_mesh_and_another_seed_another():
    one, same, other = (source.procedural("mug", seed).parts[0].mesh for seed in (1, 1, 2))
    assert np.array_equal(one.vertices, same.vertices)
    assert not np.array_equal(one.vertices, other.vertices)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_70_mm_gripper_spans_every_grasp(seed):
    """Along the closing axis through the frame the object is thinner than the gripper opens."""
    for category in source.categories():
        clean = source.procedural(category, seed)
        for name in ("grasp", "side_grasp", "handle", "lever_tip"):
            if name not in clean.affordances:
                continue
            owner, pose = clean.affordances[name]
            part = next(part for part in clean.parts if part.name == owner)
            closing = rotate(pose.quaternion, np.array([0.0, 1.0, 0.0]))
            solid = to_solid(part.mesh)
            start, end = (np.asarray(pose.position) + sign * 0.035 * closing for sign in (-1, 1))
            hits = solid.ray_cast(start, end)
            assert hits, (category, name)
            outside = [to_solid(part.mesh) ^ box((2e-4,) * 3).translate(point) for point in (start, end)]
            assert all(piece.volume() < 1e-14 for piece in outside), (category, name)


def test_top_grasps_point_down_and_frames_are_right_handed():
    for category in source.categories():
        for name, (_, pose) in source.procedural(category, 0).affordances.items():
            axes = rotate(pose.quaternion, np.eye(3))
            assert np.linalg.det(axes) == pytest.approx(1.0)
            if name in ("grasp", "lever_tip", "center"):
                assert axes[2] == pytest.approx([0, 0, -1])


@pytest.mark.parametrize("seed", SEEDS)
def test_any_lid_covers_any_pan_and_goes_into_it(seed):
    for other in SEEDS:
        pan, lid = source.procedural("pan", seed), source.procedural("lid", other)
        inner, wall = float(pan.parameters["inner_radius"]), float(pan.parameters["wall"])
        slack = inner - float(lid.parameters["ring_radius"])
        assert 0.001 < slack < 0.007
        assert float(lid.parameters["flange_radius"]) - slack > inner + wall, "pushed to one side it covers the other"


@pytest.mark.parametrize("seed", range(3))
def test_a_hanging_mug_clears_the_rack_when_its_loop_lies_on_a_seat(seed):
    """Frames that agree are a hung mug: the branch goes through the handle, and the cup hangs below it."""
    for other in range(2):
        mug, rack = source.procedural("mug", seed), source.procedural("rack", other)
        cup, handle = (to_solid(piece) for piece in components(mug.parts[0].mesh))
        tree = exact_union(rack.parts[0].mesh)
        for index in range(int(rack.parameters["branches"])):
            pose = compose(rack.affordances[f"seat_{index}"][1], inverse(mug.affordances["hang_loop"][1]))
            columns = np.column_stack([*(rotate(pose.quaternion, axis) for axis in np.eye(3)), np.asarray(pose.position)])
            hung = (cup + handle).transform(columns)
            assert (hung ^ tree).volume() < 1e-12
            middle = hung.bounding_box()
            assert (middle[2] + middle[5]) / 2 < rack.affordances[f"seat_{index}"][1].position[2]
            assert middle[2] > 0.02, "above the foot"


def test_the_mouse_fits_a_gripper_and_stands_where_its_name_says():
    for seed in SEEDS:
        mesh = source.procedural("mouse", seed).parts[0].mesh
        length, width, height = np.ptp(mesh.vertices, axis=0)
        assert 0.09 < length < 0.11
        assert width <= 0.0581
        assert 0.03 < height < 0.04


@pytest.mark.parametrize("seed", SEEDS)
def test_a_lever_clears_its_housing_throughout_its_range(seed):
    design = families.FAMILIES["switch"](np.random.default_rng(seed))
    joint = design.joints[1]
    base, lever = (to_solid(solid.pieces[0]) for solid in design.solids)
    for piece in design.solids[0].pieces[1:]:
        base = base + to_solid(piece)
    for piece in design.solids[1].pieces[1:]:
        lever = lever + to_solid(piece)
    for position in np.linspace(joint.lower, joint.upper, 5):
        turn = joint.motion(float(position))
        columns = [rotate(turn.quaternion, axis) for axis in np.eye(3)]
        offset = np.asarray(design.solids[1].pose.position)
        assert base.min_gap(lever.transform(np.column_stack([*columns, offset])), 0.01) > 0.0015


def test_the_lever_stays_where_it_is_pushed(catalog):
    switch = catalog["switch"]
    (joint,) = switch.movable_joints
    assert joint.friction >= 1.9 * articulate.gravity_load(switch.bodies, switch.joints, joint) > 0
    assert (joint.lower, joint.upper) == pytest.approx((-0.5, 0.5))
    assert switch.fixed_base


def test_gravity_load_is_weight_times_lever_arm(catalog):
    switch = catalog["switch"]
    (joint,) = switch.movable_joints
    lever = next(body for body in switch.bodies if body.name == joint.child)
    expected = lever.mass * articulate.GRAVITY * np.hypot(*np.array(lever.center_of_mass)[[0, 2]]) * np.sin(0.5)
    assert articulate.gravity_load(switch.bodies, switch.joints, joint) == pytest.approx(expected, rel=0.01)


def test_every_material_names_its_sources():
    table = json.loads(Path(source.__file__).with_name("materials.json").read_text())
    for name, entry in table["materials"].items():
        assert 0 < entry["dynamic_friction"] <= entry["static_friction"], name
        assert set(entry["sources"]) == {"density", "friction", "restitution"}, name
        for text in entry["sources"].values():
            assert text.split()[0].strip(",") in table["sources"], name


def test_unknown_names_list_what_exists():
    with pytest.raises(ConfigError, match=r"available: .*mug"):
        source.procedural("mugg", 0)
    with pytest.raises(AssetError, match=r"available: .*steel"):
        tables.material("unobtainium")
