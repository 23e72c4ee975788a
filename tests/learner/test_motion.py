"""Structure and motion of a clip: what stands still moves exactly nothing, and profiles see rows and columns apart."""

import pytest
import torch

from learner.codecs.motion import FRAMES, MotionExtractor, load_motion, save_motion
from learner.codecs.quantizer import Quantizer, perplexity


def extractor() -> MotionExtractor:
    made = MotionExtractor(8, 4, 4).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    return made


def clips(count: int = 3) -> torch.Tensor:
    return torch.randn(count, FRAMES, 8, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@torch.no_grad()
def test_a_clip_in_which_nothing_moves_has_no_motion_exactly():
    still = clips()[:, :1].expand(-1, FRAMES, -1, -1, -1)
    parts = extractor().apart(still)
    assert (parts.motion == 0.0).all() and parts.motion.shape == (3, 256) and parts.structure.abs().sum() > 0
    frames = extractor().together(parts)
    assert torch.equal(frames[:, :1].expand_as(frames), frames), "a clip made of no motion stands still"


@torch.no_grad()
def test_rows_that_change_places_leave_one_profile_and_permute_the_other():
    model, seen, order = extractor(), clips(), torch.tensor([2, 0, 3, 1])
    parts, rows = model.apart(seen), model.apart(seen[..., order, :])
    assert (rows.across - parts.across).abs().max() < 1e-12 and (rows.down - parts.down[..., order]).abs().max() < 1e-12
    columns = model.apart(seen[..., order])
    assert (columns.down - parts.down).abs().max() < 1e-12 and (columns.across - parts.across[..., order]).abs().max() < 1e-12
    assert (rows.down - parts.down).abs().max() > 0.1


@torch.no_grad()
def test_structure_is_the_first_frames_alone_and_motion_the_differences():
    model, seen = extractor(), clips()
    later = seen.clone()
    later[:, 1:] += torch.randn(later[:, 1:].shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert torch.equal(model.apart(seen).structure, model.apart(later).structure)
    light = seen + 0.7
    assert (model.apart(light).motion - model.apart(seen).motion).abs().max() < 1e-12, "a light that stays moves nothing"


def test_an_extractor_comes_back_from_its_file(tmp_path):
    made = MotionExtractor(8, 4, 4, seed=3)
    made.motion_std.fill_(2.0)
    save_motion(made, tmp_path)
    seen = clips().float()
    with torch.no_grad():
        assert torch.equal(load_motion(str(tmp_path)).motions(seen), made.motions(seen))


def test_codes_follow_what_they_stand_for_and_none_stays_dead():
    torch.manual_seed(0)
    quantizer = Quantizer(64, 4, decay=0.9, patience=10)
    generator = torch.Generator().manual_seed(0)
    centres = 5.0 * torch.randn(40, 4, generator=generator)

    def batch() -> torch.Tensor:
        return centres[torch.randint(0, 40, (512,), generator=generator)] + 0.05 * torch.randn(512, 4, generator=generator)

    with torch.no_grad():
        before = quantizer.eval()(batch())[1]
        quantizer.train()
        for _ in range(150):
            quantizer(batch(), generator)
        quantizer.eval()
        found, error, index = quantizer(batch())
    assert error < 0.02 * before and perplexity(index, 64) > 36
    assert torch.allclose(found, quantizer.codes[index], atol=1e-5)
    assert perplexity(torch.arange(8), 8) == pytest.approx(8.0) and perplexity(torch.zeros(8, dtype=torch.long), 8) == 1.0
    vectors = batch().requires_grad_()
    quantizer(vectors)[0].square().sum().backward()
    assert torch.allclose(vectors.grad, 2.0 * quantizer.codes[quantizer.indices(vectors)], atol=1e-4), (
        "the gradient goes straight through"
    )
