"""How many actions lie between two frames is a user's choice: every family learns and plays with as many as the stream has."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from in_process import embodichain, ended_well, ran
from openpi_client.websocket_client_policy import WebsocketClientPolicy

from learner.inference.policy_file import load_agent
from learner.runs.catalog import make

SMALL = (
    "--engine serial --ring.num-slots 8 --ring.min-ready 2 --learner.data.batch-size 2 --learner.measure-batches 1 --steps 2 "
    "--episodes 0 --learner.agent.model.layers 2"
)
EIGHT = "--world.chunk 8 --world.horizon 80 --learner.agent.model.chunk 8"


def tokenizer_for_eight(tmp_path) -> list[str]:
    folder = tmp_path / "fast"
    ended_well("codec", "train", "fast", "--world.chunk", "8", "--fast.chunks", "60", "--out", str(folder))
    return ["--learner.agent.model.fast", str(folder)]


@pytest.mark.parametrize(
    ("recipe", "mode"),
    [
        pytest.param("tiny_cpu", "video+action", marks=pytest.mark.slow),
        pytest.param("lingbot_va_cpu", "grounded", marks=pytest.mark.slow),
        pytest.param("x_wam_cpu", "guided", marks=pytest.mark.slow),
        pytest.param("cowvla_cpu", "", marks=pytest.mark.slow),
    ],
)
def test_a_family_learns_is_judged_and_served_with_the_streams_chunks(recipe, mode, tmp_path):
    run = tmp_path / "run"
    more = tokenizer_for_eight(tmp_path) if recipe == "cowvla_cpu" else []
    assert ran(recipe, "--out", str(run), *SMALL.split(), *EIGHT.split(), *more)["steps"] == 2
    assert load_agent(run / "checkpoints" / "last.ckpt").config.model.chunk == 8
    ahead = ["--sai", mode] if mode else []
    judged = ended_well(
        "eval", str(run), "--episodes", "1", "--pilots", "policy", *ahead, "--no-films", "--out", str(tmp_path / "e")
    )
    assert judged["episodes"] == len(make(recipe).world.tasks)
    if recipe != "tiny_cpu":
        return
    command = [sys.executable, "-m", "embodichain.cli", "serve", str(run), "--port", "0", "--json"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=dict(os.environ))
    try:
        assert server.stdout is not None
        client = WebsocketClientPolicy("127.0.0.1", json.loads(server.stdout.readline())["port"])
        told = client.get_server_metadata()
        assert told["action_horizon"] == 8 and told["execution_horizon"] == [0, 8]
        seen = {"images": {name: np.zeros((*told["image_shape"][:2], 3), np.uint8) for name in told["cameras"]}}
        first = client.infer({**seen, "state": np.zeros(14, np.float32), "prompt": "turn the switch"})["actions"]
        assert first.shape == (8, 14)
        done = first[:3].astype(np.float32)  # interrupted after three commands
        assert client.infer({**seen, "state": first[2], "executed": done})["actions"].shape == (8, 14)
        with pytest.raises(RuntimeError, match=r"0\.\.8"):
            client.infer({**seen, "state": first[2], "executed": np.zeros((9, 14), np.float32)})
    finally:
        server.terminate()
        server.wait(timeout=60)


def test_a_model_of_other_chunks_than_the_streams_is_refused_before_anything_starts(tmp_path):
    refused = embodichain("run", "tiny_cpu", "--world.chunk", "8", "--out", str(tmp_path / "run"), "--json")
    assert refused.code == 2 and not (tmp_path / "run").exists()
    told = json.loads(refused.out.splitlines()[-1])
    assert "8 actions in a chunk, the model 16" in json.dumps(told) and "learner.agent.model.chunk" in json.dumps(told)
