import json
import math

import numpy as np
import pytest

from embodichain.assets.chain import candidates, jobs, optimize, part_stages, search, settings
from embodichain.assets.chain import record as record_room
from embodichain.assets.chain.candidates import SearchConfig
from embodichain.assets.families import source
from embodichain.assets.geometry import supports
from embodichain.assets.geometry.collision import CollisionConfig
from embodichain.assets.geometry.shapes import box, cylinder, to_mesh
from embodichain.assets.physical.mass import solid_properties
from embodichain.errors import ConfigError
from embodichain.types import rotate


def repaired(category):
    raw = source.procedural(category, 0)
    return optimize.replace(
        raw, parts=tuple(part_stages.repaired(part, settings.ChainConfig(), record_room.Record()) for part in raw.parts)
    )


def assemble(raw, config):
    record = record_room.Record()
    return optimize.assembled(raw, config, record), record


@pytest.fixture(scope="module")
def block():
    return repaired("block")


def found(raw, **settings):
    return search.search(raw, settings.ChainConfig(), SearchConfig(**settings), assemble)


def test_a_larger_budget_never_ends_worse_and_the_plain_chain_is_the_start(block):
    small, large = found(block, budget=3, seed=4), found(block, budget=12, seed=4)
    assert small.plain == large.plain
    assert large.score.total >= small.score.total >= small.plain.total
    assert large.tried == 12


def test_the_same_seed_finds_the_same_asset(block):
    first, second = found(block, budget=6, seed=1), found(block, budget=6, seed=1)
    assert (first.candidate, first.score) == (second.candidate, second.score)
    assert np.array_equal(first.asset.bodies[0].visual.vertices, second.asset.bodies[0].visual.vertices)


def test_a_wasteful_collision_budget_is_improved(block):
    wasteful = settings.ChainConfig(collision=CollisionConfig(hull_cost=0.001, max_vertices=64, convex_fill=1.0))
    result = search.search(repaired("mouse"), wasteful, SearchConfig(budget=8, over=("collision",)), assemble)
    assert result.score.total > result.plain.total
    assert result.candidate.scale == 1.0
    assert result.candidate.material == ""


def test_only_what_is_asked_for_is_varied(block):
    for name, values in {"scale": "scale", "material": "material", "support": "support"}.items():
        result = found(block, budget=5, over=(name,))
        plain = candidates.Candidate()
        others = {"scale", "material", "hull_cost", "max_vertices", "support"} - {values}
        assert all(getattr(result.candidate, other) == getattr(plain, other) for other in others)
    with pytest.raises(ConfigError, match="available: collision"):
        SearchConfig(over=("colour",))
    with pytest.raises(ConfigError, match="negative"):
        SearchConfig(budget=-1)


def test_scaling_and_other_materials_are_what_the_chain_itself_would_make():
    for category in ("block", "switch"):
        raw = repaired(category)
        asset, _ = assemble(raw, settings.ChainConfig())
        part = search.main_part(raw)
        larger = search.of_material(search.scaled(asset, raw, 1.2), raw, "glass")
        parts = tuple(
            optimize.replace(
                p, mesh=type(p.mesh)(vertices=p.mesh.vertices * 1.2, faces=p.mesh.faces),
                pose=search._scaled_pose(p.pose, 1.2), material="glass" if p is part else p.material,
            )
            for p in raw.parts
        )  # fmt: skip
        joints = tuple(search._scaled_joint(joint, 1.2) for joint in raw.joints)
        again, _ = assemble(optimize.replace(raw, parts=parts, joints=joints), settings.ChainConfig())
        for one, other in zip(larger.bodies, again.bodies, strict=True):
            assert one.material.name == other.material.name
            assert one.mass == pytest.approx(other.mass, rel=1e-3)
            assert np.allclose(one.diagonal_inertia, other.diagonal_inertia, rtol=2e-3)
            assert np.allclose(one.center_of_mass, other.center_of_mass, atol=1e-5)


def test_an_object_stands_on_its_sides_and_leans_as_far_as_geometry_says():
    brick = to_mesh(box((0.2, 0.1, 0.04)))
    found = supports.supports(brick, (0.0, 0.0, 0.0), most=10)
    assert len(found) == 5  # every side but the lowest
    heights = [np.ptp(rotate(turn, brick.vertices)[:, 2]) for turn in found]
    assert heights == pytest.approx([0.04, 0.1, 0.1, 0.2, 0.2])
    tall = to_mesh(cylinder(0.02, 0.2, segments=64))
    down = [turn for turn in supports.supports(tall, (0, 0, 0), most=99) if abs(rotate(turn, np.eye(3))[2, 2]) < 0.1]
    assert all(np.ptp(rotate(turn, tall.vertices)[:, 2]) < 0.05 for turn in down)
    assert not supports.supports(brick, (0.5, 0.5, 0.5))  # its centre of mass lies over no side


def test_tipping_angles_are_those_of_the_footprint(catalog):
    block = catalog["block"]
    half = np.min(block.bounds[1][:2])
    assert supports.tipping_angle(block) == pytest.approx(math.atan(half / block.bodies[0].center_of_mass[2]), rel=0.1)
    assert supports.tipping_angle(catalog["switch"]) == math.pi
    assert 0.1 < supports.tipping_angle(catalog["bottle"]) < supports.tipping_angle(catalog["pad"])


def test_a_turned_source_rests_on_the_plane_with_its_frames(block):
    (part,) = block.parts
    turns = supports.supports(part.mesh, solid_properties(part.mesh, 1.0).center_of_mass)
    for turn in turns:
        other = search.turned(block, turn)
        low, high = (f(other.parts[0].mesh.vertices, axis=0) for f in (np.min, np.max))
        assert low[2] == pytest.approx(0.0, abs=1e-9)
        assert (low + high)[:2] == pytest.approx([0.0, 0.0], abs=1e-9)
        before = np.linalg.norm(part.mesh.vertices - block.affordances["grasp"][1].position, axis=1)
        after = np.linalg.norm(other.parts[0].mesh.vertices - other.affordances["grasp"][1].position, axis=1)
        assert np.allclose(before, after)


def test_what_was_found_is_delivered_with_its_terms(tmp_path):
    config = settings.ChainConfig(search=SearchConfig(budget=4))
    asset = optimize.build_job(jobs.ProceduralJob(category="mouse", seed=0), tmp_path, config=config)
    report = json.loads(asset.path.with_suffix(".json").read_text())
    assert report["score"]["tried"] == 4
    assert report["score"]["total"] >= report["score"]["plain"] > 0.3
    assert set(report["score"]["terms"]) == {"fidelity", "stability", "graspability", "speed"}
    assert report["key"] != jobs.key(jobs.ProceduralJob(category="mouse", seed=0), settings.ChainConfig())
