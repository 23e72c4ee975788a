"""Stage 1 says what will be seen, Stage 2 looks at it: the laws of a model that predicts the change and sees what it imagines."""

from dataclasses import replace

import pytest
import torch
from learner_parts import GRID, draws_of, exact_model, window

from embodichain.errors import ConfigError, LearnerError
from learner.codecs.config import LatentSpec
from learner.models.clwm import model as clwm_model
from learner.models.clwm.config import ClwmConfig, NextFrame
from learner.models.clwm.model import Clwm
from learner.models.world_model import Seen

SEEING = {"next_frame": NextFrame.CHANGE, "see_imagined": True}
ONES, CHANNELS = torch.ones(2, 4, dtype=torch.bool), torch.ones(2, 30, dtype=torch.bool)


def losses(model, w, draws):
    return model.losses(w, draws, GRID, valid_BT=ONES, imitate_BT=ONES, action_mask_BA=CHANNELS)


def after_a_frame(model, w):
    text = model.read_text(w.text_BLC)
    return model.observe(model.empty(), Seen(w.latents_BTNC[:, 0], w.proprio_BTA[:, 0], None), text, GRID), text


@pytest.mark.parametrize("steps", [1, 2, 8])
def test_an_untrained_model_imagines_no_change_whatever_the_noise(steps):
    torch.manual_seed(0)
    config = ClwmConfig(dim=24, layers=2, heads=2, ffn=32, next_frame=NextFrame.CHANGE, video_steps=steps)
    model, w = Clwm(config, latents=LatentSpec(6), text_dim=5).double(), window()
    with torch.no_grad():
        memory, text = after_a_frame(model, w)
        decision = model.decide(memory, model.noise(w.latents_BTNC[:, 0], torch.Generator().manual_seed(1)), text, GRID)
    error = (decision.imagined_BNC - w.latents_BTNC[:, 0]).abs().max()
    assert error < 1e-12


@pytest.mark.parametrize("memory_every", [0, 1])
def test_actions_attend_to_the_imagined_frame_and_stage_1_does_not(memory_every):
    model, w = exact_model(memory_every=memory_every, **SEEING), window()
    with torch.no_grad():
        for layer in model.memories:
            layer.alpha.zero_()  # nothing comes through the memory: what moves the chunk is attention
        memory, text = after_a_frame(model, w)
        time, chunk = torch.full((2,), 0.5, dtype=torch.float64), w.actions_BTKA[:, 0]
        working = [model.imagine(memory.fork(), frame, text, GRID) for frame in (w.latents_BTNC[:, 1], -w.latents_BTNC[:, 1])]
        chunks = [model.action_velocity(seen, chunk, time, text) for seen in working]
        blind = exact_model(memory_every=memory_every, next_frame=NextFrame.CHANGE)
        blind.load_state_dict(model.state_dict())
        unseen = [
            blind.action_velocity(blind.imagine(memory.fork(), frame, text, GRID), chunk, time, text)
            for frame in (w.latents_BTNC[:, 1], -w.latents_BTNC[:, 1])
        ]
    assert (chunks[0] - chunks[1]).abs().max() > 1e-3
    torch.testing.assert_close(*unseen, rtol=1e-12, atol=1e-12)


def test_the_order_of_time_is_told_apart_in_what_is_seen():
    """The imagined frame is no second look at the present one: swapped with it, other actions follow."""
    model, w = exact_model(memory_every=0, **SEEING), window()
    text = model.read_text(w.text_BLC)
    time, chunk = torch.full((2,), 0.5, dtype=torch.float64), w.actions_BTKA[:, 0]
    with torch.no_grad():
        found = []
        for now, then in ((0, 1), (1, 0)):
            memory = model.observe(model.empty(), Seen(w.latents_BTNC[:, now], w.proprio_BTA[:, 0], None), text, GRID)
            working = model.imagine(memory.fork(), w.latents_BTNC[:, then], text, GRID)
            found.append(model.action_velocity(working, chunk, time, text))
    assert (found[0] - found[1]).abs().max() > 1e-4


@pytest.mark.parametrize("changes", [{"memory_every": 0}, {"memory_every": 1}, {"memory_every": 2, "video_steps": 1}], ids=str)
def test_in_training_actions_meet_what_the_model_would_imagine_in_closed_loop(changes):
    model, w = exact_model(own_imagination=1.0, history_noise_prob=0.0, **SEEING, **changes), window()
    draws = draws_of(model, w)
    assert draws.imagine
    with torch.no_grad():
        chunks = model.velocities(w, draws, GRID)[1]
        memory, text = model.empty(), model.read_text(w.text_BLC)
        for t in range(4):
            executed = w.actions_BTKA[:, t - 1] if t else None
            memory = model.observe(memory, Seen(w.latents_BTNC[:, t], w.proprio_BTA[:, t], executed), text, GRID)
            frame, _ = model.generate(memory, draws.video_noise_BTNC[:, t], w.actions_BTKA[:, t], text, GRID)
            working = model.imagine(memory.fork(), frame, text, GRID)
            s = draws.action_time_BT[:, t]
            noise = draws.action_noise_BTKA[:, t]
            noisy = noise + s[:, None, None] * (w.actions_BTKA[:, t] - noise)
            expected = model.action_velocity(working, noisy, s, text)
            torch.testing.assert_close(chunks[:, t], expected, rtol=1e-9, atol=1e-9)
        other = model.velocities(w, draws._replace(imagine=False), GRID)[1]
    assert (chunks - other).abs().max() > 1e-3, "it is not the true next frame that they meet"


def test_what_actions_meet_of_imagination_teaches_stage_1_nothing():
    """Stage 1 learns from frames alone: the chunk's error must not bend what is imagined towards what is convenient."""
    model, w = exact_model(own_imagination=1.0, history_noise_prob=0.0, **SEEING), window()
    losses(model, w, draws_of(model, w)).parts["action"].backward()
    head = model.video_out.output.weight.grad
    assert (head is None or head.abs().max() == 0) and (model.skip.weight.grad is None or model.skip.weight.grad.abs().max() == 0)


def test_own_frames_come_in_the_share_of_steps_that_was_asked_for():
    model, w = exact_model(own_imagination=0.5, **SEEING), window(batch=1, steps=1)
    share = sum(draws_of(model, w, seed).imagine for seed in range(400)) / 400
    assert 0.42 < share < 0.58
    with pytest.raises(ConfigError, match="of a model with see_imagined"):
        ClwmConfig(own_imagination=0.5)


def test_stage_1_learns_from_windows_with_a_clean_history_alone():
    model, w = exact_model(history_noise_prob=0.5, **SEEING), window(batch=64, steps=3)
    draws = draws_of(model, w)
    noisy = draws.history_time_BT < 1
    assert ((noisy.all(dim=1)) | (~noisy).all(dim=1)).all() and 0.3 < noisy.double().mean() < 0.7
    ones, mask = torch.ones(64, 3, dtype=torch.bool), torch.ones(64, 30, dtype=torch.bool)
    with torch.no_grad():
        predicted = model.velocities(w, draws, GRID)[0]
        error = (predicted - w.latents_BTNC[:, 1:]).square().mean(dim=(1, 2, 3))
        loss = model.losses(w, draws, GRID, valid_BT=ones, imitate_BT=ones, action_mask_BA=mask).parts["video"]
    torch.testing.assert_close(loss, error[~noisy.any(dim=1)].mean())


def test_the_present_frame_is_part_of_the_state_and_is_asked_for():
    model, w = exact_model(**SEEING), window()
    memory, text = after_a_frame(model, w)
    assert memory.frame is not None and torch.equal(memory.frame, w.latents_BTNC[:, 0])
    noise = model.noise(w.latents_BTNC[:, 0], torch.Generator().manual_seed(0))
    with pytest.raises(LearnerError, match="observe one first"):
        model.decide(replace(memory, frame=None), noise, text, GRID)


def test_a_velocity_head_narrower_than_its_target_is_refused_in_training():
    narrow = Clwm(ClwmConfig(dim=24, layers=1, heads=2, memory_every=0), latents=LatentSpec(25), text_dim=5)
    with pytest.raises(ConfigError, match="width 24 cannot predict velocities of 25 channels"):
        narrow.check_training()
    Clwm(ClwmConfig(dim=26, layers=1, heads=1, memory_every=0), latents=LatentSpec(25), text_dim=5).check_training()
    Clwm(
        ClwmConfig(dim=24, layers=1, heads=2, memory_every=0, next_frame=NextFrame.CHANGE), latents=LatentSpec(25), text_dim=5
    ).check_training()


@pytest.mark.slow
def test_a_trained_stage_1_beats_copying_and_a_linear_map_of_each_latent():
    """A ball that bounces: where it goes next depends on how it goes, which one frame does not tell but memory and states do.

    Here the state tells its velocity, and whether it is reversed is a product of both: no linear map of the latents finds it.
    """
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    config = ClwmConfig(
        dim=32, layers=2, heads=2, ffn=64, memory_every=0, history_noise_prob=0.0, told_past=False, video_steps=1, **SEEING
    )
    model = Clwm(config, latents=LatentSpec(6), text_dim=5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    ones, mask = torch.ones(32, 3, dtype=torch.bool), torch.ones(32, 30, dtype=torch.bool)

    def episodes(batch: int):
        w = window(batch=batch, steps=3, seed=int(torch.randint(1 << 30, (), generator=generator)))
        step = torch.randn(batch, 1, GRID.size, 6, generator=generator)
        sign = torch.randint(0, 2, (batch, 1, 1, 1), generator=generator) * 2.0 - 1.0
        frames = torch.cat([torch.zeros_like(step), *[sign * step * (i + 1) for i in range(3)]], dim=1) + step
        proprio = torch.zeros(batch, 4, 30)
        proprio[..., 0] = sign[:, :, 0, 0]
        return type(w)(frames, proprio, w.actions_BTKA.float(), w.text_BLC.float(), None)

    for step in range(300):
        w = episodes(32)
        loss = model.losses(
            w, model.draw(w, torch.Generator().manual_seed(step)), GRID, valid_BT=ones, imitate_BT=ones, action_mask_BA=mask
        ).parts["video"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    w = episodes(256)
    with torch.no_grad():
        text = model.read_text(w.text_BLC)
        memory = model.observe(model.empty(), Seen(w.latents_BTNC[:, 0], w.proprio_BTA[:, 0], None), text, GRID)
        imagined = model.decide(memory, model.noise(w.latents_BTNC[:, 0], generator), text, GRID).imagined_BNC
    x, y = w.latents_BTNC[:, 0], w.latents_BTNC[:, 1]
    unchanged = (x - y).square().mean()
    flat, target = x.flatten(0, 1), y.flatten(0, 1)
    linear = (flat @ torch.linalg.lstsq(flat, target).solution - target).square().mean()
    assert (imagined - y).square().mean() < 0.5 * min(linear, unchanged)


def test_samples_do_not_touch_training_by_chance(monkeypatch):
    """Sampling for the actions' sake keeps no graph: its cost is that of forward passes."""
    model, w = exact_model(own_imagination=1.0, **SEEING), window()
    kept = []
    euler = clwm_model.euler
    monkeypatch.setattr(clwm_model, "euler", lambda *a: kept.append(euler(*a)) or kept[-1])
    losses(model, w, draws_of(model, w))
    assert len(kept) == 1 and not kept[0].requires_grad


def test_working_memory_takes_in_one_imagined_frame():
    model, w = exact_model(), window(steps=1)
    text = model.read_text(w.text_BLC)
    long_term, _ = after_a_frame(model, w)
    working = model.imagine(long_term.fork(), w.latents_BTNC[:, 0], text, GRID)
    with pytest.raises(LearnerError, match="exactly one imagined frame"):
        model.imagine(working, w.latents_BTNC[:, 0], text, GRID)


def test_actions_read_the_imagined_frame_through_working_memory():
    model, w = exact_model(), window(steps=1)
    long_term, text = after_a_frame(model, w)
    time, noise = torch.full((2,), 0.3).double(), w.actions_BTKA[:, 0]
    with torch.no_grad():
        one, other = (
            model.action_velocity(model.imagine(long_term.fork(), x, text, GRID), noise, time, text)
            for x in (w.latents_BTNC[:, 1], w.latents_BTNC[:, 1] + 1)
        )
    assert (one - other).abs().max() > 1e-4
