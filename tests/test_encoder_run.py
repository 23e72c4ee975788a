"""`embodichain encoder train` leaves an encoder that recipes can name, and its record."""

import json
from pathlib import Path

import pytest
import torch

from embodichain.assets.catalog import AssetsConfig
from embodichain.errors import ConfigError, RunError
from embodichain.stages import WorldConfig
from learner.encoder import Encoder, EncoderConfig
from learner.encoder_run import EncoderRunConfig, main, train
from learner.pretrain import PretrainConfig
from learner.recipes import RingConfig, StreamConfig


def config(out: Path) -> EncoderRunConfig:
    return EncoderRunConfig(
        out=out,
        world=WorldConfig(tasks=("turn_switch",), width=32, height=32, assets=AssetsConfig(counts={"switch": 1})),
        stream=StreamConfig(engine="serial"),
        ring=RingConfig(num_slots=4, max_reads=3, min_ready=2),
        encoder=EncoderConfig(dim=24, layers=2, heads=2),
        pretrain=PretrainConfig(steps=4, decoder_dim=32),
        trajectories=2,
        images=5,
    )


@pytest.mark.slow
def test_training_saves_an_encoder_that_loads_and_says_how_it_was_made(tmp_path, no_shared_memory_left):
    summary = train(config(tmp_path))
    assert summary["steps"] == 4 and summary["images"] == 40 and not summary["interrupted"]
    # Eight reads of at most three each: no fewer than three trajectories.
    assert 3 <= summary["trajectories"] <= 4
    assert json.loads((tmp_path / "training.json").read_text())["hidden_error"] == summary["hidden_error"]
    encoder, fresh = Encoder(EncoderConfig(source=str(tmp_path))), Encoder(config(tmp_path).encoder)
    assert not encoder.is_random and encoder.latent_dim == 24
    assert not torch.equal(encoder.vit.embeddings.patch_embeddings.weight, fresh.vit.embeddings.patch_embeddings.weight)
    with pytest.raises(RunError, match="holds an encoder already"):
        train(config(tmp_path))


def test_training_starts_from_random_weights(tmp_path):
    with pytest.raises(ConfigError, match=r"leave encoder\.source empty"):
        EncoderRunConfig(out=tmp_path, encoder=EncoderConfig(source="builtin"))


def test_the_command_says_what_it_takes(capsys):
    assert main([]) == 2 and main(["--help"]) == 0
    assert "embodichain encoder train" in capsys.readouterr().err
