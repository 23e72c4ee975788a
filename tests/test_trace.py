"""From a sample back to what made it: the episode of any trajectory is simulated again to the bit, and a change is seen."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from in_process import embodichain

from embodichain.assets.chain.config import AssetsConfig
from embodichain.config import WorldConfig
from embodichain.engine import Engine
from embodichain.expand.physical import PhysicalConfig
from embodichain.expand.visual import VisualConfig
from embodichain.prepare import prepare
from embodichain.recovery.config import RecoveryConfig
from embodichain.resimulation import fingerprints, resimulate
from embodichain.ring.ring import Ring
from embodichain.types import RingSpec, TrajectoryId, read_text

RUN = (
    "run tiny_cpu --engine serial --ring.num-slots 8 --ring.min-ready 2 --learner.data.batch-size 2 --learner.measure-batches 1 "
    "--steps 3 --episodes 0 --tasks turn_switch --world.visual.enabled True"
)


def told(*arguments: str, code: int = 0) -> dict:
    """What a command says in JSON that runs in this process, which is another one than that of the run."""
    said = embodichain(*arguments, "--json")
    assert said.code == code, said.err + said.out
    return json.loads(said.out.splitlines()[-1])


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("traced") / "run"
    command = [sys.executable, "-m", "embodichain.cli", *RUN.split(), "--out", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stderr
    return folder


def test_a_streamed_trajectory_is_simulated_again_to_the_bit_pictures_included() -> None:
    """Whatever is drawn for it: looks, physics, failures that are provoked."""
    config = WorldConfig(
        tasks=("turn_switch", "put_block_back"),
        width=32,
        height=32,
        horizon=80,
        depth=True,
        visual=VisualConfig(enabled=True),
        physical=PhysicalConfig(enabled=True),
        recovery=RecoveryConfig(probability=1.0),
        assets=AssetsConfig(counts={"switch": 1, "block": 1, "mark": 1, "button_panel": 1}),
    )
    world = prepare(config)
    with Ring.create(RingSpec(trajectory=world.stream_spec, num_slots=4, max_reads=1)) as ring, Engine(world, ring) as engine:
        seen = set()
        for _ in range(12):
            engine.step(timeout_s=10.0)
            if not ring.stats().ready:
                continue
            with ring.sample(1, timeout_s=1.0) as batch:
                number = TrajectoryId.unpack(int(batch[0].trajectory_id)).sequence
                again = resimulate(world, number)
                assert fingerprints(again.trajectory) == fingerprints({f.name: batch[0][f.name] for f in world.stream_spec.fields})
                assert again.scene.instruction == read_text(np.array(batch[0]["instruction"]))
                seen.add(again.scene.task)
            if len(seen) == 2:
                return
    pytest.fail(f"only {seen} were published in twelve scenes")


@pytest.mark.slow
def test_a_batch_row_leads_to_scene_assets_licences_draws_reads_and_a_film(run, tmp_path) -> None:
    found = told("trace", str(run), "step:1:1", "-o", str(tmp_path / "trace"))
    assert 1 in [read["step"] for read in found["reads"]] and found["instruction"] and found["expansion"]
    assert all(asset["licence"] and asset["source"] and asset["content_hash"] for asset in found["assets"].values())
    assert Path(found["film"]).stat().st_size > 5_000
    identity = f"{found['worker']}/{found['epoch']}/{found['number']}"
    same = [told("trace", str(run), name, "--dry-run")["id"] for name in (identity, str(found["id"]), hex(found["id"]))]
    assert same == [found["id"]] * 3
    again = told("replay", found["record"], "-o", str(tmp_path / "again.mp4"))
    assert again["differing"] == [] and again["fields"] >= 6
    assert Path(again["film"]).stat().st_size > 5_000
    text = embodichain("trace", str(run), identity, "--no-film", "-o", str(tmp_path / "text"))
    assert found["instruction"] in text.out and "licence" not in text.err and not (tmp_path / "text" / "episode.mp4").exists()


def test_an_episode_that_differs_is_told_with_what_has_changed_since(run, tmp_path) -> None:
    found = told("trace", str(run), "line:9", "--no-film", "-o", str(tmp_path))
    record = json.loads(Path(found["record"]).read_text())
    record["world"]["seed"] += 1
    record["versions"]["numpy"] = "1.0"
    record["robot_hash"] = "another"
    (tmp_path / "other.json").write_text(json.dumps(record))
    again = told("replay", str(tmp_path / "other.json"), code=1)
    assert {"action", "rgb"} <= set(again["differing"])
    assert any("numpy 1.0" in change for change in again["changed"]) and "robot" in again["changed"]


@pytest.mark.parametrize(
    ("sample", "why"),
    [
        ("line:99999", "it has lines 0.."),
        ("step:99999", "steps go to"),
        ("7/7/7", "its ledger knows"),
        ("the third", "line:N or step:S:ROW"),
    ],
)
def test_a_sample_that_is_not_there_is_answered_with_what_is(run, sample, why) -> None:
    refused = told("trace", str(run), sample, code=2)
    assert why in refused["error"]


def test_an_asset_that_is_no_longer_what_the_run_had_is_refused(run, tmp_path) -> None:
    found = told("trace", str(run), "line:9", "--no-film", "-o", str(tmp_path))
    name = next(iter(found["assets"].values()))["name"]
    for file in (f"{name}.usd", "payload/physics.usdc"):
        kept = run / "assets" / name / file
        before = kept.read_bytes()
        kept.write_bytes(before + b"x")
        try:
            assert f"asset {name} is not what the run had" in told("trace", str(run), "line:9", code=2)["error"]
        finally:
            kept.write_bytes(before)
    (tmp_path / "no.json").write_text("{}")
    assert "is no record of an episode" in told("replay", str(tmp_path / "no.json"), code=2)["error"]
