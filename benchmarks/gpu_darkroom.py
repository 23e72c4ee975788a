"""How many pictures a second does a card draw, and are they the CPU's?

    python benchmarks/gpu_darkroom.py [--quick] [--json] [--device cuda|cpu] [--load FOLDER] [--write FOLDER]

The load is made where MuJoCo is, by `--write`: for each task the numbers of some frames of a moving robot, looks expanded, with the
pictures that the rasteriser draws of them. Drawing them needs nothing but Warp. A figure is reported only when at most 0.5% of the
pixels differ by more than two levels; everything that differs is counted.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import harness
import numpy as np
from numpy.typing import NDArray

TASKS = ("turn_switch", "stack_bowls")
SIZE = 128
FRAMES = 24
MOST_DIFFER = 0.005
"""Largest share of pixels that may differ by more than two levels."""
_PARTS = ("views", "lamps", "solids", "skins")
_LIGHTS = ("still", "moving", "background")


class Frozen:
    """What a card asks of the rasteriser that would draw a shot here."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        cameras, height, width, channels = (int(value) for value in arrays["shape"])
        self.shape, self.far = (cameras, height, width, channels), float(arrays["far"])
        self.solids, self.skins = (_part(arrays, name) for name in ("solids", "skins"))
        size = int(arrays["map_size"])
        self.lights = SimpleNamespace(**vars(_part(arrays, "lights")), maps=np.empty((0, size, size), np.uint16))


def write(folder: Path, *, frames: int = FRAMES, size: int = SIZE, tasks: tuple[str, ...] = TASKS) -> None:
    """Writes a file for each task."""
    from embodichain.config import WorldConfig
    from embodichain.expand.visual import VisualConfig
    from embodichain.physics.mujoco import MujocoPhysics
    from embodichain.prepare import prepare
    from embodichain.stages import SceneStage
    from embodichain.types import NoiseSource
    from embodichain.types.reels import MOST_NUMBERS

    folder.mkdir(parents=True, exist_ok=True)
    for task in tasks:
        visual = VisualConfig(enabled=True, noise_source=NoiseSource.HASH)
        world = prepare(WorldConfig(tasks=(task,), width=size, height=size, visual=visual))
        physics = world.make_physics()
        assert isinstance(physics, MujocoPhysics)
        physics.reset(SceneStage(world).step(0)[1])
        rng, notes = np.random.default_rng(0), np.zeros((frames, MOST_NUMBERS))
        rgb = np.zeros((frames, len(world.robot.cameras), size, size, 3), np.uint8)
        depth = np.zeros(rgb.shape[:-1], np.float32)
        for frame in range(frames):
            for _ in range(5):
                physics.step(np.asarray(world.robot.home) + rng.normal(size=world.robot.command_size) * 0.1)
            physics.note(notes[frame])
            physics.render(rgb[frame], depth[frame])
        arrays: dict[str, Any] = {"rgb": rgb, "depth": depth, **flat(physics.shoot(notes))}
        np.savez_compressed(folder / f"{task}.npz", **arrays)
        physics.close()


def flat(shot: Any) -> dict[str, NDArray[Any]]:
    """A shot as named arrays."""
    painter = shot.painter
    found = {name: getattr(shot, name) for name in ("labels", "paint", "surface", "ambient", "head")}
    found |= {"exposures": np.array([(one.stops, one.amplitude, 0) for one in shot.exposures])}
    found |= {"keys": np.array([one.key for one in shot.exposures], np.uint64)}
    found |= {"shape": np.array(painter.shape), "far": np.array(painter.far), "map_size": np.array(painter.lights.maps.shape[1])}
    parts = {"views": shot.views, "lamps": shot.lamps, "solids": painter.solids, "skins": painter.skins}
    for name in _PARTS:
        found |= {f"{name}.{field}": getattr(parts[name], field) for field in parts[name]._fields}
    found |= {f"lights.{field}": getattr(painter.lights, field) for field in _LIGHTS}
    return {**found, "lights.texel": painter.lights.texel}


def _part(arrays: Mapping[str, NDArray[Any]], name: str) -> SimpleNamespace:
    return SimpleNamespace(**{key.partition(".")[2]: value for key, value in arrays.items() if key.startswith(f"{name}.")})


def thawed(arrays: Mapping[str, NDArray[Any]]) -> Any:
    """The shot that `flat` made these arrays of."""
    from embodichain.physics import noise

    exposures = [
        SimpleNamespace(stops=stops, gain=noise.gain_of(stops), amplitude=int(amplitude), key=int(key))
        for (stops, amplitude, _), key in zip(arrays["exposures"].tolist(), arrays["keys"], strict=True)
    ]
    rest = {name: arrays[name] for name in ("labels", "paint", "surface", "ambient", "head")}
    views, lamps = _part(arrays, "views"), _part(arrays, "lamps")
    return SimpleNamespace(painter=Frozen(arrays), views=views, lamps=lamps, exposures=exposures, **rest)


def measure(load: Path, device: str, quick: bool) -> dict[str, Any]:
    """Pictures a second by task, and how they differ from the CPU's."""
    from embodichain.physics.warp.card import open_card

    card = open_card("cuda" if device == "cuda" else "delayed")
    figures: dict[str, Any] = {}
    for task, arrays in _loads(load):
        shot, expected = thawed(arrays), arrays["rgb"]
        out = _canvas(expected, device)
        began = time.perf_counter()
        card.draw(shot, out)
        drawn, away = (_host(out[name]) for name in ("rgb", "depth"))
        apart = np.abs(drawn.astype(np.int16) - expected).max(axis=-1)
        found = {
            "first_s": round(time.perf_counter() - began, 2),
            "differ": float((apart > 0).mean()),
            "differ_by_more_than_2": float((apart > 2).mean()),
            "depth_differs": float((np.abs(away - arrays["depth"]) > 1e-4).mean()),
        }
        assert found["differ_by_more_than_2"] <= MOST_DIFFER, f"{task}: these are other pictures: {found}"
        times = []
        for _ in range(3 if quick else 23):
            began = time.perf_counter()
            card.draw(shot, out)
            _host(out["rgb"][:1])  # waits
            times.append(time.perf_counter() - began)
        pictures = expected.shape[0] * expected.shape[1]
        figures[task] = found | {"pictures_s": round(pictures / statistics.median(times)), "slowest_s": max(times)}
    return {"darkroom_differs": max(found["differ_by_more_than_2"] for found in figures.values()), "darkroom_by_task": figures}


def _loads(folder: Path) -> Iterator[tuple[str, dict[str, NDArray[Any]]]]:
    paths = sorted(folder.glob("*.npz"))
    if not paths:
        raise SystemExit(f"no load in {folder}: make it where MuJoCo is with --write, and bring it here")
    for path in paths:
        with np.load(path) as file:
            yield path.stem, dict(file)


def _canvas(rgb: NDArray[np.uint8], device: str) -> dict[str, Any]:
    """Poisoned arrays on the device."""
    if device == "cuda":
        import torch

        whole = torch.full(rgb.shape, 99, dtype=torch.uint8, device="cuda")
        return {"rgb": whole, "depth": torch.full(rgb.shape[:-1], 9.9, device="cuda")}
    return {"rgb": np.full(rgb.shape, 99, np.uint8), "depth": np.full(rgb.shape[:-1], 9.9, np.float32)}


def _host(array: Any) -> NDArray[Any]:
    """An array in host memory, once all kernels that write it are done."""
    if isinstance(array, np.ndarray):
        return array
    import torch

    torch.cuda.synchronize()
    return array.cpu().numpy()


def main() -> None:
    """Parses the command line, writes or measures, prints."""
    parser = harness.parser(__doc__, "three repeats")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cpu")
    parser.add_argument("--load", type=Path, default=Path(".gpu/b/load"), help="where the load is")
    parser.add_argument("--write", type=Path, help="make the load here instead")
    options = parser.parse_args()
    if options.write is not None:
        write(options.write)
        return
    harness.give(measure(options.load, options.device, options.quick), options)


if __name__ == "__main__":
    main()
