"""Hashed noise is normal enough, has nothing to do with its neighbours, and is a function of scene, moment and place alone."""

from dataclasses import replace

import numpy as np
import pytest
from physics_parts import block, gantry, placed, scene

from embodichain import processes
from embodichain.physics import noise
from embodichain.physics.mujoco import MujocoPhysics
from embodichain.types import Looks, NoiseSource, Wander

COUNT = 10_000_000
GREY = 128
HASHED = Looks(exposure=0.3, noise=0.03, noise_source=NoiseSource.HASH, wander=Wander(seed=5, exposure=0.05))


def sums(moment: int, count: int) -> np.ndarray:
    """The definition, in NumPy: the bytes of splitmix64's outputs after `moment`, less their mean."""
    with np.errstate(over="ignore"):
        drawn = np.uint64(moment) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(noise.STEP)
        drawn = (drawn ^ (drawn >> np.uint64(30))) * np.uint64(noise.FIRST)
        drawn = (drawn ^ (drawn >> np.uint64(27))) * np.uint64(noise.SECOND)
        drawn ^= drawn >> np.uint64(31)
    return drawn.view(np.uint8).reshape(count, 8).sum(axis=1, dtype=np.int64) - noise.MEAN


def test_the_generator_is_splitmix64():
    """Its published first outputs from the seed 1234567."""
    first = [noise._mixed((1234567 + number * noise.STEP) % 2**64) for number in range(3)]
    assert first == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_noise_has_the_mean_and_deviation_of_its_kind_and_no_ties_to_neighbours():
    drawn = sums(noise.key(3, 4, 5), COUNT).astype(np.float64)
    exact = np.sqrt(8 * (256**2 - 1) / 12)
    assert abs(drawn.mean()) < 4 * exact / COUNT**0.5
    kurtosis = 3 - 1.2 * (256**2 + 1) / (8 * (256**2 - 1))  # of a sum of eight discrete uniform numbers
    assert abs(drawn.std() / exact - 1) < 4 * ((kurtosis - 1) / (4 * COUNT)) ** 0.5
    assert abs(((drawn / exact) ** 4).mean() - kurtosis) < 0.02
    for apart in (1, 2, 3, 3 * 128, 3 * 128 * 128):  # the next value, colour, pixel, row and camera
        assert abs(np.mean(drawn[:-apart] * drawn[apart:])) / exact**2 < 4 / COUNT**0.5, apart
    for other in (noise.key(3, 4, 6), noise.key(3, 5, 5), noise.key(4, 4, 5)):
        assert abs(np.mean(drawn[:COUNT] * sums(other, COUNT))) / exact**2 < 4 / COUNT**0.5


@pytest.mark.parametrize(("stops", "amount"), [(0.0, 0.02), (-1.5, 0.2), (2.0, 0.01), (0.35, 0.0)])
def test_pictures_are_developed_in_integers_as_the_definition_says(stops, amount):
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    gain, amplitude, moment = noise.gain_of(stops), noise.amplitude_of(amount), noise.key(1, 2, 3)
    whole = rgb.astype(np.int64) * gain + sums(moment, rgb.size).reshape(rgb.shape) * amplitude
    expected = np.clip((whole + 2**15) >> 16, 0, 255).astype(np.uint8)
    for layout in (rgb.copy(), np.asfortranarray(rgb)):
        noise.develop(layout, gain, amplitude, moment)
        assert np.array_equal(layout, expected)


def seen(looks: Looks, cameras: tuple[str, ...], steps: int, seed: int = 7) -> np.ndarray:
    physics = MujocoPhysics(gantry(), width=16, height=16, cameras=cameras)
    physics.reset(scene(placed("a", block()), looks=looks, seed=seed))
    for _ in range(steps):
        physics.step(np.asarray(physics.robot.home))
    rgb = np.zeros((len(cameras), 16, 16, 3), np.uint8)
    physics.render(rgb)
    physics.close()
    return rgb


def test_a_scene_says_what_its_noise_is_drawn_from_and_each_moment_and_camera_has_its_own():
    both, plain = ("head", "left/wrist"), replace(HASHED, noise=0.0, exposure=0.0, wander=Wander(seed=5))
    noisy = replace(plain, noise=0.03)
    clean, hashed, normal = (
        seen(look, both, 2).astype(int) for look in (plain, noisy, replace(noisy, noise_source=NoiseSource.NORMAL))
    )
    inside = (clean > 60) & (clean < 195)
    for drawn in (hashed, normal):
        assert (drawn - clean)[inside].std() == pytest.approx(255 * 0.03, rel=0.15)
    assert not np.array_equal(hashed, normal)
    fields = [hashed[0] - clean[0], hashed[1] - clean[1]]
    fields += [seen(noisy, both, 3).astype(int)[0] - seen(plain, both, 3)[0]]
    fields += [seen(noisy, both, 2, seed=8).astype(int)[0] - seen(plain, both, 2, seed=8)[0]]
    for number, one in enumerate(fields):
        for other in fields[:number]:
            assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 4 / one.size**0.5 + 0.02


def test_noise_is_the_same_in_any_process():
    expected = seen(HASHED, ("head",), 1)
    assert np.array_equal(processes.call(seen, HASHED, ("head",), 1), expected)
    assert np.array_equal(seen(HASHED, ("head",), 1), expected)
