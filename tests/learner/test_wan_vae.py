"""Wan's video autoencoder, from a small checkpoint that its own library saved: the same latents, and both of its traps closed."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from embodichain.errors import ConfigError, LearnerError
from learner.codecs.catalog import make_codec
from learner.codecs.config import EncoderConfig

FRAMES = 9


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    diffusers = pytest.importorskip("diffusers", reason="needs diffusers: pip install 'embodichain[wan]'")
    torch.manual_seed(0)
    vae = diffusers.AutoencoderKLWan(
        base_dim=8,
        decoder_base_dim=8,
        z_dim=6,
        dim_mult=[1, 2, 2, 2],
        num_res_blocks=1,
        is_residual=True,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_spatial=16,
        latents_mean=[0.1 * i for i in range(6)],
        latents_std=[1.0 + 0.1 * i for i in range(6)],
        temperal_downsample=[False, True, True],
    )
    path = tmp_path_factory.mktemp("wan")
    vae.save_pretrained(path / "vae")
    return path


@pytest.fixture(scope="module")
def codec(folder):
    return make_codec(EncoderConfig(codec="wan", source=str(folder)))


def clips(seed: int, frames: int = FRAMES) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 255, (1, frames, 32, 32, 3), np.uint8))


def test_latents_are_those_of_the_library_normalised_by_the_files_statistics(codec):
    values = (clips(0).float() / 127.5 - 1.0).permute(0, 4, 1, 2, 3)
    with torch.no_grad():
        theirs = codec.vae.encode(values).latent_dist.mode()
    ours = codec.encode_clip(clips(0))
    assert ours.shape == (1, 6, 3, 2, 2)
    assert (ours * codec.std + codec.mean - theirs).abs().max() < 1e-5
    alone = codec(clips(0)[:, :1])  # one camera's first frame
    assert (alone.transpose(1, 2).reshape(1, 6, 2, 2) - ours[:, :, 0]).abs().max() < 1e-6, (
        "one frame is the first latent of its clip"
    )


def test_later_frames_change_no_latent_before_them_and_memory_that_was_handed_out_stays(codec):
    one, two = clips(1), clips(1)
    two[:, 5:] = 255 - two[:, 5:]
    a, b = codec.encode_clip(one), codec.encode_clip(two)
    assert torch.equal(a[:, :, :2], b[:, :, :2]) and not torch.equal(a[:, :, 2], b[:, :, 2])
    values = (one.float() / 127.5 - 1.0).permute(0, 4, 1, 2, 3)
    _, after_first = codec.step(codec.start(), values[:, :, :1])
    again = [codec.step(after_first, values[:, :, 1:5])[0] for _ in range(2)]
    assert torch.equal(*again), "a memory can be gone on from twice"


@pytest.mark.parametrize("frames", [2, 4, 8, 16])
def test_frame_counts_whose_last_frames_would_be_lost_are_refused(codec, frames):
    with pytest.raises(ConfigError, match=rf"a clip of {frames} frames has no whole latents: take 1 \+ 4 k"):
        codec.encode_clip(clips(0, frames))


def test_two_threads_on_one_autoencoder_disturb_nobody(codec):
    alone = [codec.encode_clip(clips(seed)) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda seed: codec.encode_clip(clips(seed)), [*range(8)] * 3))
    for seed, latents in enumerate(together):
        assert torch.equal(latents, alone[seed % 8])


def test_single_frames_decode_as_the_library_decodes_them(codec):
    picture = clips(3)[:, :1]
    latents = codec(picture)
    shown = codec.decode(latents, 1, 2, 2)
    raw = latents.transpose(1, 2).reshape(1, 6, 1, 2, 2) * codec.std + codec.mean
    with torch.no_grad():
        theirs = codec.vae.decode(raw).sample[0, :, 0].permute(1, 2, 0)
    assert (shown[0, 0].float() - (theirs + 1.0) * 127.5).abs().max() <= 0.51


def test_the_authors_pickle_and_empty_folders_are_refused_with_the_remedy(tmp_path):
    with pytest.raises(LearnerError, match="take the folder vae/"):
        make_codec(EncoderConfig(codec="wan", source="Wan2.2_VAE.pth"))
    with pytest.raises(LearnerError, match="no autoencoder in"):
        make_codec(EncoderConfig(codec="wan", source=str(tmp_path)))
