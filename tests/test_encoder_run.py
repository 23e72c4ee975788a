"""`embodichain encoder train` and `segmenter train` leave weights that recipes can name, and their record."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from embodichain import cli
from embodichain.assets.chain.config import AssetsConfig
from embodichain.config import WorldConfig
from embodichain.errors import ConfigError, RunError
from learner.codecs.config import EncoderConfig, PretrainConfig
from learner.codecs.dino import Encoder
from learner.runs.config import RingConfig, StreamConfig
from learner.runs.encoder import train
from learner.runs.frames_config import EncoderRunConfig, SegmenterRunConfig
from learner.runs.segmenter import train as train_segmenter
from learner.vision.config import SegmenterConfig
from learner.vision.segmenter import Segmenter, load_segmenter


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
    with pytest.raises(RunError, match="holds weights already"):
        train(config(tmp_path))


def test_training_starts_from_random_weights(tmp_path):
    with pytest.raises(ConfigError, match=r"leave encoder\.source empty"):
        EncoderRunConfig(out=tmp_path, encoder=EncoderConfig(source="builtin"))


def test_the_command_says_what_it_takes(capsys):
    for words, code in (([], 2), (["--help"], 0)):
        with pytest.raises(SystemExit) as ended:
            cli.main(["encoder", *words])
        assert (ended.value.code or 0) == code
        told = capsys.readouterr()
        assert "embodichain encoder" in (told.err if code else told.out) and "train" in (told.err if code else told.out)


@pytest.mark.slow
def test_a_segmenter_learns_from_the_stream_to_tell_objects_and_is_found_again(tmp_path, no_shared_memory_left):
    options = SegmenterRunConfig(
        out=tmp_path,
        world=WorldConfig(
            tasks=("turn_switch",), width=64, height=64, segmentation=True, assets=AssetsConfig(counts={"switch": 1})
        ),
        stream=StreamConfig(engine="serial"),
        ring=RingConfig(num_slots=4, max_reads=20, min_ready=2),
        segmenter=SegmenterConfig(channels=8, steps=150, rate=1e-2),
        trajectories=2,
        images=8,
    )
    record = train_segmenter(options)
    assert record["steps"] == 150 and record["images"] == 2400 and record["max_reads"] == 20
    assert record["object_overlap"] > 0.2, "chance is below 0.03"
    assert json.loads((tmp_path / "training.json").read_text())["object_overlap"] == record["object_overlap"]
    with Image.open(tmp_path / "objects.png") as picture:
        assert picture.size == (8 * 128, 2 * 128)
        pixels = np.asarray(picture)
    assert all((pixels[128:, :, channel] == 255).any() for channel in range(3)), "found, missed and mistaken pixels are painted"
    trained, fresh = load_segmenter(str(tmp_path)), Segmenter(8)
    assert not torch.equal(trained.layers[0].weight, fresh.layers[0].weight)
    with pytest.raises(RunError, match="holds weights already"):
        train_segmenter(options)


def test_a_segmenter_asks_for_segmentation(tmp_path, capsys):
    with pytest.raises(ConfigError, match=r"world\.segmentation"):
        SegmenterRunConfig(out=tmp_path, world=WorldConfig())
    with pytest.raises(SystemExit, match="2"):
        cli.main(["segmenter"])
    assert "embodichain segmenter train" in capsys.readouterr().err
