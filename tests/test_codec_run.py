"""Every codec is trained by one command on the rendered stream, and loads again."""

import json
import subprocess
import sys

import pytest
from in_process import embodichain

from learner.codecs.fast import load_fast
from learner.codecs.motion import load_motion
from learner.codecs.vae import load_vae
from learner.codecs.vq import load_vq

SMALL = (
    "--tasks turn_switch --engine serial --world.painter raster --world.segmentation False --ring.min-ready 8 --ring.num-slots 8"
)


def codec(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "embodichain.cli", "codec", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)


def trained(kind: str, folder, *more: str) -> dict:
    result = codec("train", kind, *SMALL.split(), "--out", str(folder), *more, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "load", "figure"),
    [("vae", load_vae, "psnr_db"), ("vq", load_vq, "perplexity"), ("motion", load_motion, "error_over_still")],
)
def test_a_codec_is_trained_and_loads_again(kind, load, figure, tmp_path):
    record = trained(kind, tmp_path / kind, "--steps", "3")
    assert record["steps"] == 3 and record[figure] > 0.0
    load(str(tmp_path / kind))
    again = embodichain("codec", "train", kind, "--out", str(tmp_path / kind))
    assert again.code == 2 and "holds weights already" in again.err


@pytest.mark.slow
def test_an_action_tokenizer_is_made_and_loads_again(tmp_path):
    record = trained("fast", tmp_path / "fast", "--steps", "60")
    assert record["chunks"] >= 60 and record["rmse"] <= 0.5 / 30.0 and record["tokens_max"] < 224
    assert load_fast(str(tmp_path / "fast")).channels == 14


def test_an_unknown_codec_is_refused_with_those_that_exist():
    for words, said in ((("train",), "which codec? One of vae, vq, motion, fast"), (("train", "vea"), "codec to train 'vea'")):
        result = codec(*words)
        assert result.returncode == 2 and said in result.stderr
