"""Do the built-in encoder's tokens tell where objects are? A linear probe on its tokens, on those of a random encoder, on pixels.

    python benchmarks/encoder.py [--quick] [--json] [--source builtin]

Experts play scenes of every rendered task; at random times all cameras are rendered and the true state is kept. An attentive
linear probe (learner/vision/probe.py) is fitted on streamed scenes and judged on held-out ones: it predicts the place of the task's
object and, for the switch, the lever's angle. The same probe reads three kinds of tokens: the encoder's, those of the same
architecture with random weights, and pixels pooled to as many values per patch. A fourth kind, in no ratio, is the encoder's tokens
with the built-in segmenter's moments, the input of `turn_switch_cpu`. Every error is a mean over held-out frames; a ratio above 1
means that the trained encoder is better.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import harness
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from embodichain.assets.chain.config import AssetsConfig
from embodichain.config import WorldConfig
from embodichain.episode import Episode, NoPictures
from embodichain.errors import MotionError, SceneError
from embodichain.expand.visual import VisualConfig
from embodichain.motion.action import ActionCodec
from embodichain.physics.mujoco import MujocoPhysics
from embodichain.prepare import prepare
from embodichain.recovery.config import RecoveryConfig
from embodichain.rollout import ExpertPilot, drive
from embodichain.stages import SceneStage
from embodichain.world import Split, World
from learner.codecs.config import EncoderConfig
from learner.codecs.dino import Encoder
from learner.vision.config import BUILTIN
from learner.vision.probe import probe

SIDE = 128
OBJECTS = {"turn_switch": "switch", "place_mouse_pad": "mouse"}
"""For each probed task, the role of the object whose place the probe predicts."""
CATEGORIES = {"turn_switch": ("switch",), "place_mouse_pad": ("mouse", "pad")}


class Frames(NamedTuple):
    """Observations and truth: rgb uint8 [N, cameras, h, w, 3], place [N, 2] in metres, lever [N] in radians."""

    rgb: NDArray[np.uint8]
    place: NDArray[np.float32]
    lever: NDArray[np.float32]


def observe(world: World, split: Split, episodes: int, moments: int) -> Frames:
    """`moments` random frames of each of `episodes` expert episodes of the world's one task."""
    physics = world.make_physics()
    stage = SceneStage(world, split, physics)
    assert isinstance(physics, MujocoPhysics)
    cameras, codec, spec = len(world.robot.cameras), ActionCodec(world.robot), world.trajectory_spec
    out = spec.allocate()
    rgb = np.zeros((episodes * moments, cameras, SIDE, SIDE, 3), np.uint8)
    place, lever = np.zeros((len(rgb), 2), np.float32), np.zeros(len(rgb), np.float32)
    done, number = 0, 0
    while done < episodes:
        number += 1
        try:
            task, scene = stage.step(number)
            pilot = ExpertPilot(task, scene, physics, np.random.default_rng(scene.seed))
            episode = Episode(scene, pilot, task.grader(scene), codec, NoPictures(), out, spec)
            rng = np.random.default_rng(scene.seed)
            # Nearly all episodes end within 400 steps (8 s); times after the end get the last frame.
            wanted = sorted(int(t) for t in rng.integers(0, 400, moments))
            states = drive(physics, scene, episode)
            time, state = 0, next(states)
            for index, moment in enumerate(wanted):
                while time < moment:
                    state = next(states, state)
                    time += 1
                row = done * moments + index
                physics.render(rgb[row])
                role = OBJECTS[task.name]
                place[row] = state.object_poses[role].position[:2]
                joints = state.object_joints.get(role, ())
                lever[row] = joints[0] if joints else 0.0
        except (MotionError, SceneError):
            continue
        done += 1
    physics.close()
    return Frames(rgb, place, lever)


def tokens(encoder: Encoder, rgb: NDArray[np.uint8]) -> Tensor:
    """The encoder's tokens of all cameras, [N, P, C]."""
    return torch.cat([encoder(torch.from_numpy(part)) for part in np.array_split(rgb, max(1, len(rgb) // 64))])


def pooled(rgb: NDArray[np.uint8], patch: int, channels: int) -> Tensor:
    """Pixels of every patch pooled to `channels` values, laid out as an encoder's tokens, [N, P, C]."""
    rows = int(np.sqrt(channels / 3))
    while (channels // 3) % rows or patch % rows or patch % (channels // 3 // rows):
        rows -= 1
    columns = channels // 3 // rows
    window = (patch // rows, patch // columns)
    out = []
    for part in np.array_split(rgb, max(1, len(rgb) // 64)):
        images = torch.from_numpy(part).flatten(0, 1).permute(0, 3, 1, 2).float() / 255.0
        cells = F.unfold(F.avg_pool2d(images, window), (rows, columns), stride=(rows, columns)).transpose(1, 2)
        out.append(cells.reshape(len(part), -1, channels))
    return torch.cat(out)


def measure(source: str, episodes: int, held_out: int, moments: int) -> dict[str, Any]:
    """Errors of each kind of tokens for each predicted quantity, and their ratios."""
    trained = Encoder(EncoderConfig(source=source))
    finding = Encoder(EncoderConfig(source=source, segmenter=BUILTIN))
    shape = trained.vit.config
    random = Encoder(
        EncoderConfig(dim=shape.hidden_size, layers=shape.num_hidden_layers, heads=shape.num_attention_heads, patch=trained.patch)
    )
    errors: dict[str, dict[str, float]] = {}
    for name, role in OBJECTS.items():
        config = WorldConfig(
            tasks=(name,),
            width=SIDE,
            height=SIDE,
            assets=AssetsConfig(counts=dict.fromkeys(CATEGORIES[name], 2)),
            recovery=RecoveryConfig(probability=0.3),
            visual=VisualConfig(enabled=True),
        )
        world = prepare(config, lambda *_: None)
        train, test = observe(world, Split.STREAM, episodes, moments), observe(world, Split.HELD_OUT, held_out, moments)
        assert np.ptp(train.place, axis=0).min() > 0.2, "objects must lie all over the table"
        kinds = {
            "trained": (tokens(trained, train.rgb), tokens(trained, test.rgb)),
            "trained, with moments": (tokens(finding, train.rgb), tokens(finding, test.rgb)),
            "random": (tokens(random, train.rgb), tokens(random, test.rgb)),
            "pixels": tuple(pooled(frames.rgb, trained.patch, shape.hidden_size) for frames in (train, test)),
        }
        for kind, (seen, unseen) in kinds.items():
            answers = probe(seen, torch.from_numpy(train.place), unseen)
            off = (answers - torch.from_numpy(test.place)).norm(dim=1)
            errors.setdefault(f"{role}_place_mm", {})[kind] = 1e3 * float(off.mean())
            if role == "switch":
                angle = probe(seen, torch.from_numpy(train.lever)[:, None], unseen)[:, 0]
                errors.setdefault("lever_rad", {})[kind] = float((angle - torch.from_numpy(test.lever)).abs().mean())
                wrong = (angle > 0) != torch.from_numpy(test.lever > 0)
                errors.setdefault("lever_wrong_side", {})[kind] = float(wrong.float().mean())
        guess = np.linalg.norm(test.place - train.place.mean(axis=0), axis=1).mean()
        errors[f"{role}_place_mm"]["mean answer"] = 1e3 * float(guess)
    ratios = {other: [row[other] / row["trained"] for row in errors.values()] for other in ("random", "pixels")}
    return {
        "source": source,
        "episodes": episodes,
        "held_out": held_out,
        "moments": moments,
        "errors": errors,
        "probe_over_random": float(np.exp(np.mean(np.log(ratios["random"])))),
        "probe_over_pixels": float(np.exp(np.mean(np.log(ratios["pixels"])))),
    }


def main() -> None:
    """Command line."""
    parser = harness.parser(__doc__, "few scenes: for trying, not for figures")
    parser.add_argument("--source", default=BUILTIN, help="the encoder: builtin, or a folder of `embodichain encoder train`")
    options = parser.parse_args()
    counts = (16, 8, 2) if options.quick else (240, 80, 3)
    result = measure(options.source, *counts)
    harness.give(result, options, lambda: _table(result))


def _table(result: dict[str, Any]) -> None:
    for question, row in result["errors"].items():
        print(f"{question:<20}" + "  ".join(f"{kind} {error:.3g}" for kind, error in row.items()))
    print(
        f"random / trained {result['probe_over_random']:.2f}   pixels / trained {result['probe_over_pixels']:.2f} (geometric means)"
    )


if __name__ == "__main__":
    main()
