"""What tasks may ask of the sampler beyond places on the table: an object on another, room for fingers, assets ranked by size."""

from dataclasses import dataclass

import numpy as np
import pytest
import scene_parts as parts
from table_parts import block, lid, pan, sampler_of

from embodichain.errors import SceneError
from embodichain.motion.frames import affordance
from embodichain.motion.outlines import outline_of
from embodichain.scenes.layout import Footprint
from embodichain.types import ObjectRequest, SceneRequest


@dataclass
class Wish:
    """A task that only asks."""

    objects: tuple[ObjectRequest, ...]
    name: str = "wish"

    def request(self, rng: np.random.Generator) -> SceneRequest:
        return SceneRequest(instruction="Go.", objects=self.objects)


PAN = ObjectRequest(role="pan", category="pan")
LID = ObjectRequest(role="lid", category="lid", onto=("pan", "lid_seat", "fit"))


def test_a_lid_is_placed_on_its_pan_wherever_that_stands(reach_dir) -> None:
    sampler = sampler_of([pan(), lid()], reach_dir)
    for seed in range(5):
        scene = sampler.sample(Wish((PAN, LID)), seed)
        seat, fit = (
            affordance(scene.object(role).asset, name, scene.object(role).pose)
            for role, name in (("pan", "lid_seat"), ("lid", "fit"))
        )
        np.testing.assert_allclose(seat.position, fit.position, atol=1e-12)
        assert scene.object("lid").pose.quaternion[1] == pytest.approx(0.0, abs=1e-12)


def test_a_seat_must_come_first(reach_dir) -> None:
    with pytest.raises(SceneError, match="not placed before it"):
        sampler_of([pan(), lid()], reach_dir).sample(Wish((LID, PAN)), 0)


def border(polygon: np.ndarray) -> np.ndarray:
    """Points along the edges of a polygon, a millimetre apart or less."""
    along = np.linspace(0.0, 1.0, 60)[:, None, None]
    return (polygon + along * (np.roll(polygon, -1, axis=0) - polygon)).reshape(-1, 2)


def test_a_margin_keeps_that_much_more_room(reach_dir) -> None:
    sampler = sampler_of([block(0.04)], reach_dir)
    wish = Wish(tuple(ObjectRequest(role=role, category="block", x=(-0.06, 0.06), y=(-0.06, 0.06), margin=0.02) for role in "ab"))
    for seed in range(20):
        scene = sampler.sample(wish, seed)
        first, second = (border(outline_of(scene.object(role).asset, scene.object(role).pose).vertices) for role in "ab")
        apart = np.linalg.norm(first[:, None] - second[None], axis=2).min()
        assert apart >= 2 * 0.02 + 0.01 - 1e-3


def test_a_grown_footprint_holds_every_point_that_near() -> None:
    footprint = Footprint.of_asset(parts.mouse())
    rng = np.random.default_rng(0)
    angles = rng.uniform(0, 2 * np.pi, 200)
    near = footprint.vertices[rng.integers(len(footprint.vertices), size=200)] + 0.03 * np.stack(
        [np.cos(angles), np.sin(angles)], 1
    )
    grown = footprint.grown(0.03)
    inside = np.einsum("pij,ij->pi", near[:, None] - grown.vertices[None], grown.normals)
    assert inside.max() <= 1e-9
    assert footprint.grown(0.0) is footprint
