import pytest
import torch

from embodichain.errors import ConfigError
from embodichain.types import ACTION_DIM
from learner.codecs.config import LatentSpec
from learner.models.config import NormalizerConfig
from learner.models.normalize import Measurement, Normalizer, to_absolute, to_relative


def measured(config=None, rows: int = 64, **changes):
    """A normalizer fitted to random actions around the measured state; channel 5 never moves, channel 20 does not exist."""
    config = config or NormalizerConfig(**changes)
    generator = torch.Generator().manual_seed(0)
    proprio = torch.randn(rows, 5, 30, generator=generator)
    scale = torch.linspace(0.1, 2.0, 30)
    actions = proprio[:, :-1, None] + scale * torch.randn(rows, 4, 16, 30, generator=generator)
    actions[..., 5] = 0.25
    latents = 3.0 + 2.0 * torch.randn(rows, 5, 6, 8, generator=generator)
    mask = torch.ones(rows, 30)
    mask[:, 20] = 0
    measurement = Measurement(config, LatentSpec(8), ACTION_DIM)
    valid = torch.ones(rows, 4, dtype=torch.bool)
    measurement.add(action_BTKA=actions, proprio_BTA=proprio, action_mask_BA=mask, latents_BTNC=latents, valid_BT=valid)
    normalizer = Normalizer(config, LatentSpec(8), ACTION_DIM)
    normalizer.fit(measurement)
    return normalizer, actions, proprio[:, :-1], latents


def test_physical_actions_is_the_inverse_of_actions_within_the_clip():
    normalizer, actions, proprio, _ = measured(clip=50.0)
    there = normalizer.actions(actions, proprio)
    back = normalizer.physical_actions(there, proprio)
    present = normalizer.action_mask
    torch.testing.assert_close(back[..., present], actions[..., present], rtol=1e-4, atol=1e-4)
    assert (back[..., 20] == 0).all() and (there[..., 20] == 0).all()


def test_one_percent_of_each_channel_lies_beyond_either_end():
    normalizer, actions, proprio, _ = measured()
    scaled = normalizer.actions(actions, proprio)
    moving = [c for c in range(30) if c not in (5, 20)]
    for bound in ((scaled < -1), (scaled > 1)):
        share = bound.float().mean(dim=(0, 1, 2))[moving]
        torch.testing.assert_close(share, torch.full_like(share, 0.01), atol=0.002, rtol=0)
    assert scaled.abs().max() <= normalizer.config.clip


def test_a_channel_that_never_moves_is_not_blown_up():
    normalizer, actions, proprio, _ = measured(relative_positions=False)
    assert normalizer.actions(actions, proprio)[..., 5].abs().max() < 1e-3
    nudged = actions.clone()
    nudged[..., 5] += 0.001
    assert normalizer.actions(nudged, proprio)[..., 5].max() == pytest.approx(0.2, abs=1e-3)


def test_joints_and_positions_are_relative_to_the_frame_and_the_rest_is_not():
    normalizer, actions, proprio, _ = measured()
    moved = normalizer.actions(actions + 0.3, proprio + 0.3)
    same = normalizer.actions(actions, proprio)
    relative = [*range(3), *range(7, 10), *range(14, 28)]
    torch.testing.assert_close(moved[..., relative], same[..., relative], rtol=1e-4, atol=1e-4)
    others = [c for c in range(30) if c not in (*relative, 20)]
    assert ((moved - same)[..., others].abs().amax(dim=(0, 1, 2)) > 0.05).all()
    torch.testing.assert_close(to_absolute(to_relative(actions, proprio, (1, 2)), proprio, (1, 2)), actions)


def test_absolute_actions_are_a_choice():
    config = NormalizerConfig(relative_joints=False, relative_positions=False)
    assert config.relative_channels == ()


def test_latents_get_zero_mean_and_unit_deviation():
    normalizer, _, _, latents = measured()
    scaled = normalizer.latents(latents)
    torch.testing.assert_close(scaled.mean(dim=(0, 1, 2)), torch.zeros(8), atol=0.1, rtol=0)
    torch.testing.assert_close(scaled.std(dim=(0, 1, 2)), torch.ones(8), atol=0.1, rtol=0)


def test_latents_of_each_camera_are_scaled_by_what_that_camera_saw():
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(5, 4, 2, 3, 8, generator=generator)
    latents[:, :, 1] = 3.0 + 10.0 * latents[:, :, 1]
    latents = latents.flatten(2, 3)
    config = NormalizerConfig(cameras=2)
    measurement = Measurement(config, LatentSpec(8), ACTION_DIM)
    actions, proprio = torch.randn(5, 3, 16, 30, generator=generator), torch.randn(5, 4, 30, generator=generator)
    mask, valid = torch.ones(5, 30, dtype=torch.bool), torch.ones(5, 3, dtype=torch.bool)
    measurement.add(action_BTKA=actions, proprio_BTA=proprio, action_mask_BA=mask, latents_BTNC=latents, valid_BT=valid)
    normalizer = Normalizer(config, LatentSpec(8), ACTION_DIM)
    normalizer.fit(measurement)
    for camera in normalizer.latents(latents[:, :3]).unflatten(2, (2, 3)).unbind(2):
        torch.testing.assert_close(camera.mean(dim=(0, 1, 2)), torch.zeros(8), atol=1e-5, rtol=0)
        torch.testing.assert_close(camera.std(dim=(0, 1, 2), correction=0), torch.ones(8), atol=1e-5, rtol=0)
    with pytest.raises(ConfigError, match="5 latents are not those of 2 cameras"):
        normalizer.latents(latents[:, :, :5])
    with pytest.raises(ConfigError, match="cameras"):
        NormalizerConfig(cameras=-1)


def test_padding_is_not_measured():
    poisoned = Measurement(NormalizerConfig(), LatentSpec(2), ACTION_DIM)
    actions, proprio, latents = torch.zeros(1, 2, 16, 30), torch.zeros(1, 3, 30), torch.zeros(1, 3, 4, 2)
    for values in (actions[:, 1], proprio[:, 1], latents[:, 1]):
        values.fill_(torch.nan)
    valid = torch.tensor([[True, False]])
    poisoned.add(action_BTKA=actions, proprio_BTA=proprio, action_mask_BA=torch.ones(1, 30), latents_BTNC=latents, valid_BT=valid)
    assert all(bool(x.isfinite().all()) for x in (*poisoned.quantiles(), *poisoned.latent_moments()))


def test_statistics_travel_in_the_state_dict():
    normalizer, actions, proprio, _ = measured()
    other = Normalizer(NormalizerConfig(), LatentSpec(8), ACTION_DIM)
    assert not other.is_fitted
    other.load_state_dict(normalizer.state_dict())
    assert other.is_fitted
    assert torch.equal(other.actions(actions, proprio), normalizer.actions(actions, proprio))


def test_nothing_measured_is_an_error():
    with pytest.raises(ConfigError, match="at least one batch"):
        Measurement(NormalizerConfig(), LatentSpec(2), ACTION_DIM).quantiles()


def projected(channels: int = 3, moments: int = 2, cameras: int = 0):
    """Patch channels that lie close to a plane of three directions, and moments beside them."""
    generator = torch.Generator().manual_seed(1)
    plane = torch.randn(3, 8, generator=generator)
    patch = torch.randn(64, 5, 6, 3, generator=generator) @ plane + 0.01 * torch.randn(64, 5, 6, 8, generator=generator)
    latents = torch.cat([patch, torch.randn(64, 5, 6, moments, generator=generator)], dim=-1) * 4.0 + 1.0
    config, spec = NormalizerConfig(channels=channels, cameras=cameras), LatentSpec(8 + moments, moments)
    measurement = Measurement(config, spec, ACTION_DIM)
    actions, proprio = torch.zeros(64, 4, 16, 30), torch.zeros(64, 5, 30)
    valid, mask = torch.ones(64, 4, dtype=torch.bool), torch.ones(64, 30)
    measurement.add(action_BTKA=actions, proprio_BTA=proprio, action_mask_BA=mask, latents_BTNC=latents, valid_BT=valid)
    normalizer = Normalizer(config, spec, ACTION_DIM)
    normalizer.fit(measurement)
    return normalizer, latents


@pytest.mark.parametrize("cameras", [0, 2])
def test_latents_are_projected_onto_leading_directions_of_unit_mean_variance_and_moments_stay(cameras):
    normalizer, latents = projected(cameras=cameras)
    inside = normalizer.latents(latents[:, :-1])
    assert inside.shape[-1] == normalizer.spec.channels == 5 and normalizer.spec.moments == 2
    variance = inside[..., :3].flatten(0, 2).var(dim=0)
    assert variance.mean() == pytest.approx(1.0, rel=0.02) and (variance.diff() <= 1e-6).all(), "the leading first"
    gram = normalizer.directions.T @ normalizer.directions
    torch.testing.assert_close(gram, gram[0, 0] * torch.eye(3), rtol=1e-4, atol=1e-4)
    whole = Normalizer(NormalizerConfig(cameras=cameras), LatentSpec(10, 2), ACTION_DIM)
    whole.latent_mean.copy_(normalizer.latent_mean)
    whole.latent_std.copy_(normalizer.latent_std)
    torch.testing.assert_close(inside[..., 3:], whole.latents(latents[:, :-1])[..., 8:])


def test_what_is_decoded_is_what_was_seen_less_what_the_projection_drops():
    normalizer, latents = projected(cameras=2)
    back = normalizer.encoder_latents(normalizer.latents(latents))
    assert (back - latents).square().mean().sqrt() < 0.02 * latents.std()
    again = normalizer.latents(back)
    torch.testing.assert_close(again, normalizer.latents(latents), rtol=1e-4, atol=1e-4)
    fewer, _ = projected(channels=1)
    assert (fewer.encoder_latents(fewer.latents(latents)) - latents).abs().max() > 1.0


def test_more_directions_than_channels_are_refused():
    with pytest.raises(ConfigError, match="9 directions of latents that have 8 patch channels"):
        projected(channels=9)


def test_exact_chunks_come_back_as_they_went_however_far_they_reach():
    """Here a channel rests in 99 of 100 rows, and then jumps: quantiles alone would clip it."""
    generator = torch.Generator().manual_seed(0)
    proprio = torch.zeros(64, 5, 30)
    actions = 0.01 * torch.randn(64, 4, 16, 30, generator=generator)
    actions[3, 2, 5:9, 15] = 0.9
    for exact in (True, False):
        config = NormalizerConfig(exact=exact)
        measurement = Measurement(config, LatentSpec(8), ACTION_DIM)
        valid, mask = torch.ones(64, 4, dtype=torch.bool), torch.ones(64, 30)
        latents = torch.randn(64, 5, 6, 8, generator=generator)
        measurement.add(action_BTKA=actions, proprio_BTA=proprio, action_mask_BA=mask, latents_BTNC=latents, valid_BT=valid)
        normalizer = Normalizer(config, LatentSpec(8), ACTION_DIM)
        normalizer.fit(measurement)
        there = normalizer.actions(actions, proprio[:, :-1])
        beyond = actions.clone()
        beyond[0, 0, 0, 15] = 2.0
        back = normalizer.physical_actions(normalizer.playable(normalizer.actions(beyond, proprio[:, :-1])), proprio[:, :-1])
        lost = (back - beyond).abs().max()
        assert (lost < 1e-6) if exact else (lost > 0.5)
        assert there.abs().max() <= config.clip + 1e-5, "of the warm-up nothing blows up"
