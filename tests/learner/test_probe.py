import torch

from learner.vision.probe import ProbeConfig, probe

PATCHES, CHANNELS = 9, 12


def planted(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise, and in one patch a mark whose strength in another channel is the finer place within the patch."""
    generator = torch.Generator().manual_seed(seed)
    tokens = 0.3 * torch.randn(count, PATCHES, CHANNELS, generator=generator)
    where = torch.randint(0, PATCHES, (count,), generator=generator)
    fine = torch.rand(count, generator=generator)
    rows = torch.arange(count)
    tokens[rows, where, 0] += 6.0
    tokens[rows, where, 1] = fine
    return tokens, (where + fine)[:, None]


def test_a_probe_reads_where_a_marked_patch_is_and_what_it_says():
    (seen, answers), (unseen, truth) = planted(600, 0), planted(200, 1)
    off = (probe(seen, answers, unseen, ProbeConfig(epochs=200)) - truth).abs().mean()
    assert off < 0.25 < (truth - answers.mean()).abs().mean()


def test_a_probe_finds_nothing_where_nothing_is():
    (seen, answers), (unseen, truth) = planted(600, 0), planted(200, 1)
    shuffled = answers[torch.randperm(len(answers), generator=torch.Generator().manual_seed(2))]
    off = (probe(seen, shuffled, unseen) - truth).abs().mean()
    assert off > 0.8 * (truth - answers.mean()).abs().mean()


def test_the_same_data_gives_the_same_answers():
    (seen, answers), (unseen, _) = planted(100, 0), planted(10, 1)
    config = ProbeConfig(epochs=2)
    first = probe(seen, answers, unseen, config)
    torch.randn(5)
    assert torch.equal(first, probe(seen, answers, unseen, config))
