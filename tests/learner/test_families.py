"""A family of world models that this repository does not know trains, is judged and is served through the public commands."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from learner_parts import GRID, exact_model, window
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from workshop.toy import TOY, Toy, ToyConfig

from embodichain.errors import ConfigError
from embodichain.metrics import read_metrics
from learner.codecs.config import LatentSpec
from learner.inference.policy_file import load_agent
from learner.models.clwm.family import CLWM
from learner.models.config import AgentConfig
from learner.models.world_model import Mode, Seen

PLUGIN = Path(__file__).parents[1] / "plugin"
KNOWING_THE_TOY = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PLUGIN), os.environ.get("PYTHONPATH", "")])}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "embodichain.cli", *arguments]


def ended_well(*arguments: str) -> str:
    result = subprocess.run(command(*arguments), env=KNOWING_THE_TOY, capture_output=True, text=True, timeout=400, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A run that trained the toy for six steps on real episodes."""
    folder = tmp_path_factory.mktemp("toy") / "run"
    told = ended_well(
        "run", "workshop.toy:toy_cpu", "--steps", "6", "--episodes", "1", "--size", "broad", "--json", "--out", str(folder)
    )
    assert json.loads(told)["steps"] == 6
    return folder


def test_a_family_trains_with_losses_of_its_own_names_and_a_size_of_its_own(run_folder):
    records = read_metrics(run_folder / "metrics.jsonl", "train")
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]
    assert all(record["loss_chunk"] == record["loss"] for record in records) and "loss_video" not in records[0]
    assert "<svg" in (run_folder / "report.html").read_text()
    agent = load_agent(run_folder / "checkpoints" / "last.ckpt")
    assert isinstance(agent.model, Toy) and agent.config.model == ToyConfig(width=32)


@pytest.mark.slow
def test_a_family_is_judged_and_saved_as_one_file(run_folder, tmp_path):
    policy = tmp_path / "toy.safetensors"
    ended_well("export", str(run_folder), "-o", str(policy))
    told = ended_well(
        "eval", str(policy), "--episodes", "1", "--pilots", "policy", "--sai", "early", "--out", str(tmp_path / "eval"), "--json"
    )
    summary = json.loads(told)
    assert summary["episodes"] == 1 and summary["speculation"].startswith("early")
    kept = [json.loads(line) for line in (tmp_path / "eval" / "episodes.jsonl").read_text().splitlines()]
    assert kept[0]["imagined_error"] == kept[0]["unchanged_error"], "it expects that nothing changes"


def test_a_family_is_served_to_the_stock_client(run_folder):
    server = subprocess.Popen(
        command("serve", str(run_folder), "--port", "0", "--json", "--sai", "early"),
        env=KNOWING_THE_TOY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        assert line, server.stderr and server.stderr.read()
        client = WebsocketClientPolicy("127.0.0.1", json.loads(line)["port"])
        cameras = client.get_server_metadata()["cameras"]
        observation = {"images": {name: np.zeros((32, 32, 3), np.uint8) for name in cameras}, "state": np.zeros(30, np.float32)}
        first, second = (client.infer({**observation, "prompt": "turn the switch"}) for _ in range(2))
        assert first["actions"].shape == (16, 30) and first["policy_timing"]["chunk_evaluations"] == 1
        assert second["policy_timing"]["outcome"] == "speculated"
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.parametrize(
    "mode", [("toy", "early", 1.0), *(("clwm", name, share) for name in ("video", "video+action") for share in (0.0, 0.5))]
)
@torch.inference_mode()
def test_what_is_begun_with_the_state_that_finishes_it_is_what_is_decided_to_the_bit(mode):
    family, name, share = mode
    model = Toy(ToyConfig(), LatentSpec(6), 5).double() if family == "toy" else exact_model(video_steps=2, action_steps=4)
    w = window(batch=2)
    text, noise = model.read_text(w.text_BLC), model.noise(w.latents_BTNC[:, 0], torch.Generator().manual_seed(3))
    state = model.observe(model.empty(), Seen(w.latents_BTNC[:, 0], w.proprio_BTA[:, 0], None), text, GRID)
    begun = model.begin(state, noise, text, GRID, Mode(name, share), made=model.prepare(noise, GRID))
    decided, finished = model.decide(state, noise, text, GRID), model.finish(state, begun, text, GRID)
    assert torch.equal(decided.actions_BHA, finished.actions_BHA) and torch.equal(decided.imagined_BNC, finished.imagined_BNC)
    assert state.steps == 1 and decided.actions_BHA.shape == (2, model.horizon, 30)


def test_settings_name_their_family_and_come_back_and_a_file_without_a_name_is_clwms():
    toy, clwm = AgentConfig(model=ToyConfig(width=5)), AgentConfig(model=CLWM.size("small"))
    for config in (toy, clwm):
        assert AgentConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    old = clwm.to_dict()
    assert old.pop("family") == "clwm"
    assert AgentConfig.from_dict(old) == clwm


def test_a_family_that_does_not_exist_is_refused_with_those_that_do():
    saved = AgentConfig().to_dict() | {"family": "clvm"}
    with pytest.raises(ConfigError, match=r"unknown model family 'clvm'; available: clwm"):
        AgentConfig.from_dict(saved)
    with pytest.raises(ConfigError, match="unknown model size 'huge'; available: broad"):
        TOY.size("huge")


def test_help_and_names_bring_no_model():
    """Command lines name and check settings of every family before anything heavy is imported."""
    code = (
        "import sys; from learner.runs import catalog; catalog.make('turn_switch_cpu'); print({'torch', 'mujoco'} & {*sys.modules})"
    )
    before = time.process_time()
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()", f"after {time.process_time() - before:.1f} s"
