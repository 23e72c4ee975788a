"""The laws of the world model: what may be seen from where, and when memory changes. In float64, against step-by-step calls."""

from dataclasses import replace

import pytest
import torch
from learner_parts import GRID, draws_of, exact_model, window

from embodichain.errors import ConfigError, LearnerError
from embodichain.types import CHUNK
from learner.backbone.flow import interpolate, shift_time, towards
from learner.backbone.grid import Grid
from learner.backbone.layers import place_waves
from learner.models.clwm import stages
from learner.models.clwm.config import ClwmConfig, NextFrame
from learner.models.clwm.draws import ActionDraw
from learner.models.clwm.memory import LongTermMemory
from learner.models.clwm.model import Clwm
from learner.models.window import Window
from learner.models.world_model import Seen


def clean(draws):
    return draws._replace(history_time_BT=torch.ones_like(draws.history_time_BT))


def first_steps(w: Window, steps: int) -> Window:
    return w._replace(
        latents_BTNC=w.latents_BTNC[:, : steps + 1],
        proprio_BTA=w.proprio_BTA[:, : steps + 1],
        actions_BTKA=w.actions_BTKA[:, :steps],
    )


def memories(model: Clwm, w: Window) -> list[LongTermMemory]:
    """Long-term memory after each frame, observed one by one."""
    memory, text, out = model.empty(), model.read_text(w.text_BLC), []
    for t in range(w.latents_BTNC.shape[1]):
        executed = w.actions_BTKA[:, t - 1] if t else None
        memory = model.observe(memory, Seen(w.latents_BTNC[:, t], w.proprio_BTA[:, t], executed), text, GRID)
        out.append(memory)
    return out


def tensors(memory) -> list[torch.Tensor]:
    seen = [x for x in (memory.glance, getattr(memory, "opening", None)) if x is not None]
    return [x for group in (*memory.weights, *memory.context, seen) for x in group]


CHANGE = {"next_frame": NextFrame.CHANGE}
SEEING = {**CHANGE, "see_imagined": True}


@pytest.mark.parametrize(
    "changes",
    [
        {"memory_every": 0},
        {"memory_every": 1},
        {"memory_every": 2},
        {"memory_every": 0, "glance": GRID.size},
        {"memory_every": 2, "glance": GRID.size, "aim": 2},
        {"memory_every": 0, "aim": 2},
        {"memory_every": 1, **CHANGE},
        {"memory_every": 0, **SEEING},
        {"memory_every": 1, **SEEING},
        {"memory_every": 2, "glance": GRID.size, "told_past": False, **SEEING},
        {"memory_every": 2, "see_imagined": True},
    ],
    ids=str,
)
def test_a_parallel_scan_over_t_is_t_online_calls(changes):
    model, w = exact_model(**changes), window()
    draws = clean(draws_of(model, w))
    with torch.no_grad():
        video, action, after = model.velocities(w, draws, GRID)
        online, text = memories(model, w), model.read_text(w.text_BLC)
        for t in range(w.actions_BTKA.shape[1]):
            s_video, s_action = draws.video_time_BT[:, t], draws.action_time_BT[:, t]
            frame, working = w.latents_BTNC[:, t + 1], online[t].fork()
            noisy = interpolate(draws.video_noise_BTNC[:, t], frame, s_video[:, None, None])
            expected = video[:, t]
            if model.config.next_frame is NextFrame.CHANGE:
                expected = towards(expected, noisy, s_video[:, None, None])
            torch.testing.assert_close(model.video_velocity(working, noisy, s_video, text, GRID), expected, rtol=1e-10, atol=1e-10)
            working = model.imagine(working, frame, text, GRID)
            noisy = interpolate(draws.action_noise_BTKA[:, t], w.actions_BTKA[:, t], s_action[:, None, None])
            torch.testing.assert_close(model.action_velocity(working, noisy, s_action, text), action[:, t], rtol=1e-10, atol=1e-10)
    assert after.steps == online[-1].steps
    for mine, theirs in zip(tensors(after), tensors(online[-1]), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


def test_memory_matters_in_this_model():
    """Guards the laws here: with weights of this size, what was seen four frames ago moves the output."""
    model, w = exact_model(), window()
    draws = clean(draws_of(model, w))
    other = w._replace(latents_BTNC=torch.cat([w.latents_BTNC[:, :1] + 1, w.latents_BTNC[:, 1:]], dim=1))
    with torch.no_grad():
        moved = (model.velocities(w, draws, GRID)[1] - model.velocities(other, draws, GRID)[1])[:, -1]
    assert moved.abs().max() > 1e-4


@pytest.mark.parametrize("t", [1, 2, 3])
def test_perturbing_frame_t_changes_nothing_before_it(t):
    """Frame t first shows in step t - 1: as the target of its video, and through working memory in its actions."""
    model, w = exact_model(), window()
    draws = clean(draws_of(model, w))
    latents, proprio = w.latents_BTNC.clone(), w.proprio_BTA.clone()
    latents[:, t] += 1.0
    proprio[:, t] += 1.0
    # the noisy input of step t - 1 is kept as it was: only what the model remembers of frame t changes
    noise = draws.video_noise_BTNC.clone()
    share = draws.video_time_BT[:, t - 1, None, None]
    noise[:, t - 1] -= share / (1 - share)
    with torch.no_grad():
        video, action, _ = model.velocities(w, draws, GRID)
        video_, action_, _ = model.velocities(
            w._replace(latents_BTNC=latents, proprio_BTA=proprio), draws._replace(video_noise_BTNC=noise), GRID
        )
    torch.testing.assert_close(video_[:, :t], video[:, :t], rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(action_[:, : t - 1], action[:, : t - 1], rtol=1e-11, atol=1e-11)
    assert (action_[:, t - 1] - action[:, t - 1]).abs().max() > 1e-4
    assert (video_[:, t:] - video[:, t:]).abs().max() > 1e-4


def test_executed_actions_reach_only_later_steps():
    model, w = exact_model(), window()
    draws = clean(draws_of(model, w))
    actions, noise = w.actions_BTKA.clone(), draws.action_noise_BTKA.clone()
    actions[:, 1] += 1.0
    share = draws.action_time_BT[:, 1, None, None]
    noise[:, 1] -= share / (1 - share)
    with torch.no_grad():
        before = model.velocities(w, draws, GRID)
        after = model.velocities(w._replace(actions_BTKA=actions), draws._replace(action_noise_BTKA=noise), GRID)
    for mine, theirs in zip(before[:2], after[:2], strict=True):
        torch.testing.assert_close(mine[:, :2], theirs[:, :2], rtol=1e-11, atol=1e-11)
        assert (mine[:, 2] - theirs[:, 2]).abs().max() > 1e-4


def test_padding_after_an_episode_changes_nothing_before_it():
    model, w = exact_model(), window()
    draws = clean(draws_of(model, w))
    short = first_steps(w, 2)
    with torch.no_grad():
        whole = model.velocities(w, draws, GRID)
        part = model.velocities(short, clm_draws(draws, 2), GRID)
    for a, b in zip(whole[:2], part[:2], strict=True):
        torch.testing.assert_close(a[:, :2], b, rtol=1e-11, atol=1e-11)


def clm_draws(draws, steps):
    return draws._replace(
        **{
            name: x[:, : steps + 1] if "history" in name else x[:, :steps]
            for name, x in draws._asdict().items()
            if isinstance(x, torch.Tensor)
        }
    )


def test_a_closed_gate_gives_the_backbone_bit_for_bit():
    model, w = exact_model(), window()
    with torch.no_grad():
        for layer in model.memories:
            layer.alpha.zero_()
    plain = exact_model(memory_every=0)
    result = plain.load_state_dict(model.state_dict(), strict=False)
    assert not result.missing_keys and all(name.startswith("memories") for name in result.unexpected_keys)
    draws = draws_of(model, w)
    for a, b in zip(model.velocities(w, draws, GRID)[:2], plain.velocities(w, draws, GRID)[:2], strict=True):
        assert torch.equal(a, b)


def test_generation_reads_frozen_memory_and_updates_the_working_one_once(monkeypatch):
    model, w = exact_model(), window(steps=2)
    memory, text = memories(model, w)[-1], model.read_text(w.text_BLC)
    before = [x.clone() for x in tensors(memory)]
    updates, seen = [], []
    counted, velocity = stages.update, model.video_velocity
    monkeypatch.setattr(stages, "update", lambda *a: updates.append(1) or counted(*a))

    def stage_one(working, *a):
        seen.append([id(x) for x in tensors(working)])
        return velocity(working, *a)

    monkeypatch.setattr(model, "video_velocity", stage_one)
    with torch.no_grad():
        model.generate(memory, torch.randn(2, GRID.size, 6).double(), torch.randn(2, CHUNK, 30).double(), text, GRID)
    assert len(updates) == len(model.memories), "one working update per memory layer and chunk"
    assert len(seen) == model.config.video_steps
    assert all(ids == [id(x) for x in tensors(memory)] for ids in seen), "the fork is a reference and stays frozen in Stage 1"
    assert all(torch.equal(a, b) for a, b in zip(tensors(memory), before, strict=True)), "prediction leaves long-term memory alone"


def test_memory_takes_the_same_room_after_ten_and_after_many_frames():
    model, w = exact_model(), window(batch=1, steps=1)
    memory, text, sizes = model.empty(), model.read_text(w.text_BLC), {}
    with torch.no_grad():
        for t in range(120):
            memory = model.observe(memory, Seen(w.latents_BTNC[:, 0], w.proprio_BTA[:, 0], w.actions_BTKA[:, 0]), text, GRID)
            sizes[t] = memory.size_bytes
    assert memory.steps == 120
    assert len(set(sizes.values())) == 1
    assert all(bool(x.isfinite().all()) for x in tensors(memory))


def test_noisy_history_mixes_half_of_the_frames_to_a_clean_share_of_at_least_one_half():
    model, w = exact_model(), window(batch=64, steps=20)
    share = draws_of(model, w).history_time_BT
    noisy = share < 1
    assert 0.4 < noisy.double().mean() < 0.6
    assert share.min() >= 0.5 and share[noisy].max() < 1
    none = exact_model(history_noise_prob=0.0)
    assert (draws_of(none, w).history_time_BT == 1).all()


def test_history_noise_reaches_memory_but_not_the_targets():
    model, w = exact_model(history_noise_prob=1.0), window()
    draws = draws_of(model, w)
    with torch.no_grad():
        noisy, quiet = model.velocities(w, draws, GRID), model.velocities(w, clean(draws), GRID)
    assert (noisy[0] - quiet[0]).abs().max() > 1e-4
    ones = torch.ones(2, 4, dtype=torch.bool)
    mask = torch.ones(2, 30, dtype=torch.bool)
    losses = model.losses(w, draws, GRID, valid_BT=ones, imitate_BT=ones, action_mask_BA=mask)
    expected = (noisy[0] - (w.latents_BTNC[:, 1:] - draws.video_noise_BTNC)).square().mean()
    torch.testing.assert_close(losses.parts["video"], expected)


def loss_gradient(mask, valid, imitate):
    """Gradient of the losses in what the model predicts, through a model whose output projections are all there is."""
    model, w = exact_model(), window()
    draws = draws_of(model, w)
    captured = {}

    def keep(name):
        def hook(module, inputs, output):
            output.retain_grad()
            captured[name] = output

        return hook

    model.video_out.register_forward_hook(keep("video"))
    model.action_out.register_forward_hook(keep("action"))
    model.losses(w, draws, GRID, valid_BT=valid, imitate_BT=imitate, action_mask_BA=mask).total.backward()
    return captured["video"].grad, captured["action"].grad


def test_masked_channels_and_steps_give_no_gradient():
    mask = torch.ones(2, 30, dtype=torch.bool)
    mask[0, [20, 27]] = False
    valid = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]).bool()
    imitate = torch.tensor([[1, 0, 1, 0], [1, 1, 1, 1]]).bool()
    video, action = loss_gradient(mask, valid, imitate)
    assert (action[0][:, :, [20, 27]] == 0).all() and (action[1][:, :, [20, 27]] != 0).any()
    assert (video[0, 3] == 0).all() and (video[0, 1] != 0).any()
    assert (action[0, 1] == 0).all() and (action[0, 3] == 0).all() and (action[0, 2] != 0).any()


@pytest.mark.parametrize("shift", [1.0, 2.0])
def test_with_a_falloff_of_two_actions_are_judged_by_the_chunk_that_the_velocity_points_to(shift: float) -> None:
    model, w = exact_model(action_falloff=2.0, action_shift=shift, action_draws=2), window()
    draws = draws_of(model, w)
    ones, mask = torch.ones(2, 4, dtype=torch.bool), torch.ones(2, 30, dtype=torch.bool)
    with torch.no_grad():
        loss = model.losses(w, draws, GRID, valid_BT=ones, imitate_BT=ones, action_mask_BA=mask).parts["action"]
        squares = []
        for noise, time in (ActionDraw(draws.action_noise_BTKA, draws.action_time_BT), *draws.further):
            moment = draws._replace(action_noise_BTKA=noise, action_time_BT=time, further=())
            predicted, s = model.velocities(w, moment, GRID)[1], time[..., None, None]
            chunk = interpolate(noise, w.actions_BTKA, s) + (1.0 - s) * predicted
            squares.append((chunk - w.actions_BTKA).square().mean())
    many = shift_time(torch.rand(200_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64), shift)
    expected = torch.stack(squares).mean() / (1.0 - many).square().mean()
    torch.testing.assert_close(loss, expected, rtol=0.01, atol=0.0)


def test_a_batch_without_anything_to_imitate_still_has_a_finite_loss():
    model, w = exact_model(), window()
    nothing, mask = torch.zeros(2, 4, dtype=torch.bool), torch.ones(2, 30, dtype=torch.bool)
    losses = model.losses(w, draws_of(model, w), GRID, valid_BT=nothing, imitate_BT=nothing, action_mask_BA=mask)
    assert losses.total.item() == 0


def test_every_parameter_learns():
    model, w = exact_model(), window()
    ones, mask = torch.ones(2, 4, dtype=torch.bool), torch.ones(2, 30, dtype=torch.bool)
    model.losses(w, draws_of(model, w), GRID, valid_BT=ones, imitate_BT=ones, action_mask_BA=mask).total.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not without


def test_a_model_told_of_places_looks_at_them_and_learns_them():
    model, w = exact_model(told_place=True), window()
    assert set(dict(model.named_parameters())) - set(dict(exact_model().named_parameters())) == {"where.weight", "where.bias"}
    waves = place_waves(3, 2)
    assert waves.shape == (6, 16) and len(waves.unique(dim=0)) == 6
    ones, mask = torch.ones(2, 4, dtype=torch.bool), torch.ones(2, 30, dtype=torch.bool)
    draws = draws_of(model, w)
    before = model.velocities(w, draws, GRID)[1]
    with torch.no_grad():
        model.where.weight += torch.randn_like(model.where.weight)
    assert (model.velocities(w, draws, GRID)[1] - before).abs().max() > 1e-6
    model.losses(w, draws, GRID, valid_BT=ones, imitate_BT=ones, action_mask_BA=mask).total.backward()
    assert model.where.weight.grad.abs().max() > 0


def test_a_glance_sees_the_present_frame_and_where_in_it_a_thing_lies():
    """Beside the memory and attention: with both the same, actions differ by what the glance says, and imagined frames don't."""
    model, w = exact_model(glance=GRID.size), window()
    text = model.read_text(w.text_BLC)
    swapped = w.latents_BTNC[:, 0].roll(1, dims=1)
    with torch.no_grad():
        memory = model.observe(model.empty(), Seen(w.latents_BTNC[:, 0], w.proprio_BTA[:, 0], None), text, GRID)
        other = model.observe(model.empty(), Seen(swapped, w.proprio_BTA[:, 0], None), text, GRID)
        working = memory.fork()
        glanced = replace(working, glance=other.glance)
        time, chunk = torch.full((2,), 0.5, dtype=torch.float64), w.actions_BTKA[:, 0]
        actions = [model.action_velocity(seen, chunk, time, text) for seen in (working, glanced)]
        frames = [model.video_velocity(seen, w.latents_BTNC[:, 1], time, text, GRID) for seen in (working, glanced)]
    assert (actions[0] - actions[1]).abs().max() > 1e-4
    assert torch.equal(*frames)
    assert working.glance is not None and model.imagine(working, swapped, text, GRID).glance is working.glance
    wide = Grid(GRID.cameras, GRID.rows, GRID.columns + 1)
    with pytest.raises(ConfigError, match=f"{wide.size} latents and this model's glance reads {GRID.size}"):
        model.observe(memory, Seen(torch.zeros(2, wide.size, 6, dtype=torch.float64), w.proprio_BTA[:, 1], None), text, wide)


def test_an_aim_remembers_where_things_stood_at_first_and_reads_each_camera_once():
    """For as long as the episode lasts, whatever the frames between show, and across a memory that starts afresh."""
    model, w = exact_model(aim=GRID.cameras, memory_every=0), window()
    text = model.read_text(w.text_BLC)
    elsewhere = torch.cat([w.latents_BTNC[:, :1] + 1, w.latents_BTNC[:, 1:]], dim=1)

    def last(frames: torch.Tensor, *, afresh: int | None = None) -> LongTermMemory:
        memory = model.empty()
        for t in range(frames.shape[1]):
            memory = model.empty(memory.opening) if t == afresh else memory
            memory = model.observe(memory, Seen(frames[:, t], w.proprio_BTA[:, t], None), text, GRID)
        return memory

    with torch.no_grad():
        seen, moved, again = last(w.latents_BTNC), last(elsewhere), last(w.latents_BTNC, afresh=3)
        assert all(torch.equal(a, b) for a, b in zip(tensors_of(seen.context), tensors_of(moved.context), strict=True))
        assert (seen.glance - moved.glance).abs().max() > 1e-3, "without memory only the aim knows of the first frame"
        assert torch.equal(seen.glance, again.glance) and again.steps == 2
        patches = w.latents_BTNC.unflatten(2, (GRID.cameras, -1)).clone()
        patches[:, :, :, 1:] = torch.nan
        told = model.aim.moments(patches.flatten(2, 3))
        torch.testing.assert_close(told, w.latents_BTNC[:, :, :: GRID.size // GRID.cameras].flatten(2))
        arms = model.aim(told[:, -1:], seen.opening, w.proprio_BTA[:, :1]) - model.aim(
            told[:, -1:], seen.opening, w.proprio_BTA[:, -1:]
        )
        assert arms.abs().max() > 1e-3
        draws = draws_of(model, w)
        with pytest.raises(LearnerError, match="opening_BNC"):
            model.velocities(w._replace(opening_BNC=None), draws, GRID)
    with pytest.raises(ConfigError, match="not those of 3 cameras"):
        exact_model(aim=3, memory_every=0).velocities(w, draws, GRID)
    with pytest.raises(ConfigError, match="0 to max_cameras"):
        exact_model(aim=9)


@pytest.mark.parametrize("changes", [{"glance": GRID.size}, {"memory_every": 0}, {"aim": 2}])
def test_several_chunks_of_a_frame_are_those_made_one_by_one(changes):
    model, w = exact_model(video_steps=1, action_steps=3, **changes), window()
    text = model.read_text(w.text_BLC)
    noises = torch.randn(3, *w.actions_BTKA[:, 0].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        memory = model.observe(model.empty(), Seen(w.latents_BTNC[:, 0], w.proprio_BTA[:, 0], None), text, GRID)
        single = torch.stack([model.generate(memory, w.latents_BTNC[:, 1], noise, text, GRID)[1] for noise in noises])
        frame, together = model.generate(memory, w.latents_BTNC[:, 1], noises.transpose(0, 1).flatten(0, 1), text, GRID)
    assert len(frame) == 2
    torch.testing.assert_close(together.unflatten(0, (2, 3)).transpose(0, 1), single, rtol=1e-10, atol=1e-10)


def test_training_a_model_without_memory_never_looks_at_a_last_frame_that_it_does_not_imagine():
    draws, w = draws_of(exact_model(), window()), window()
    unseen = w._replace(latents_BTNC=w.latents_BTNC.clone(), proprio_BTA=w.proprio_BTA.clone())
    unseen.latents_BTNC[:, -1], unseen.proprio_BTA[:, -1] = torch.nan, torch.nan
    ones, mask = torch.ones(2, 4, dtype=torch.bool), torch.ones(2, 30, dtype=torch.bool)
    for changes, same in (({"memory_every": 0, "imagined": 3}, True), ({"memory_every": 0}, False), ({}, False)):
        model = exact_model(**changes)
        with torch.no_grad():
            seen, blind = (
                model.losses(given, draws, GRID, valid_BT=ones, imitate_BT=ones, action_mask_BA=mask) for given in (w, unseen)
            )
        assert bool(seen.total == blind.total) is same


def test_frames_not_imagined_in_training_change_no_chunk_and_count_in_no_loss():
    whole, some = exact_model(memory_every=0), exact_model(memory_every=0, imagined=2)
    some.load_state_dict(whole.state_dict())
    w = window(batch=2, steps=5)
    draws = whole.draw(w, torch.Generator().manual_seed(0))
    valid, channels = torch.ones(2, 5, dtype=torch.bool), torch.ones(2, 30, dtype=torch.bool)
    first = valid & (torch.arange(5) < 2)
    with torch.no_grad():
        (all_frames, chunks, _), (two_frames, same, _) = (model.velocities(w, draws, GRID) for model in (whole, some))
        asked = whole.losses(w, draws, GRID, valid_BT=first, imitate_BT=valid, action_mask_BA=channels)
        given = some.losses(w, draws, GRID, valid_BT=valid, imitate_BT=valid, action_mask_BA=channels)
    torch.testing.assert_close(two_frames, all_frames[:, :2], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(same, chunks, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close([given.total, *given.parts.values()], [asked.total, *asked.parts.values()], rtol=1e-10, atol=1e-10)
    with pytest.raises(ConfigError, match="imagined is a number of steps"):
        exact_model(memory_every=2, imagined=2)


def test_a_model_not_told_of_the_past_gives_the_same_whatever_was_executed():
    model, w = exact_model(told_past=False, memory_every=0), window()
    text = model.read_text(w.text_BLC)
    seen = []
    with torch.no_grad():
        for executed in (None, w.actions_BTKA[:, 0], -w.actions_BTKA[:, 0]):
            memory = model.observe(model.empty(), Seen(w.latents_BTNC[:, 1], w.proprio_BTA[:, 1], executed), text, GRID)
            seen.append(memory.context)
    assert all(torch.equal(a, b) for other in seen[1:] for a, b in zip(tensors_of(seen[0]), tensors_of(other), strict=True))


def tensors_of(context):
    return [x for pair in context for x in pair]


def test_instructions_steer_the_actions():
    model, w = exact_model(), window()
    draws = draws_of(model, w)
    with torch.no_grad():
        a, b = (model.velocities(w._replace(text_BLC=w.text_BLC * sign), draws, GRID)[1] for sign in (1, -1))
    assert (a - b).abs().max() > 1e-4


def test_cameras_are_told_apart():
    """Swapping the pictures of two cameras is not the same scene."""
    model, w = exact_model(), window()
    draws = clean(draws_of(model, w))
    swapped = w.latents_BTNC.unflatten(2, (2, 4)).flip(2).flatten(2, 3)
    noise = draws.video_noise_BTNC.unflatten(2, (2, 4)).flip(2).flatten(2, 3)
    with torch.no_grad():
        a = model.velocities(w, draws, GRID)[1]
        b = model.velocities(w._replace(latents_BTNC=swapped), draws._replace(video_noise_BTNC=noise), GRID)[1]
    assert (a - b).abs().max() > 1e-4


def test_errors_name_what_does_not_fit():
    model, w = exact_model(max_cameras=1), window()
    with pytest.raises(ConfigError, match="up to 1 cameras"):
        model.velocities(w, draws_of(model, w), GRID)
    with pytest.raises(ConfigError, match="laid out as"):
        exact_model().velocities(w, draws_of(model, w), Grid(2, 2, 3))
    for wrong in (
        {"dim": 25},
        {"action_falloff": -1.0},
        {"memory_every": 9},
        {"history_noise_prob": 1.5},
        {"layers": 0, "memory_every": 0},
    ):
        with pytest.raises(ConfigError):
            replace(ClwmConfig(), **wrong)


def test_further_draws_of_a_chunk_see_the_same_frames_and_nothing_of_each_other():
    model, w = exact_model(), window()
    draws = draws_of(model, w)
    other = draws_of(model, w, seed=5)
    further = ActionDraw(other.action_noise_BTKA, other.action_time_BT)
    ones, mask = w.actions_BTKA.new_ones(w.actions_BTKA.shape[:2], dtype=torch.bool), torch.ones(2, 30, dtype=torch.bool)

    def action_loss(draws):
        return model.losses(w, draws, GRID, valid_BT=ones, imitate_BT=ones, action_mask_BA=mask).parts["action"]

    alone = draws._replace(action_noise_BTKA=further.noise_BTKA, action_time_BT=further.time_BT)
    both = action_loss(draws._replace(further=(further,)))
    torch.testing.assert_close(both, (action_loss(draws) + action_loss(alone)) / 2, rtol=1e-11, atol=1e-11)
    assert (action_loss(draws) - action_loss(alone)).abs() > 1e-4


def test_noise_on_the_measured_state_blurs_training_alone():
    model, w = exact_model(proprio_noise=0.5), window()
    plain = exact_model()
    noisy, clear = draws_of(model, w), draws_of(plain, w)
    assert clear.proprio_noise_BTA is None and noisy.proprio_noise_BTA is not None
    assert 0.4 < noisy.proprio_noise_BTA.std() < 0.6
    for name in ("video_noise_BTNC", "action_noise_BTKA", "action_time_BT", "history_time_BT"):
        assert torch.equal(getattr(noisy, name), getattr(clear, name)), "what else is random stays as it was"
    with torch.no_grad():
        blurred = model.velocities(w, noisy, GRID)[1]
        moved = plain.velocities(w._replace(proprio_BTA=w.proprio_BTA + noisy.proprio_noise_BTA), clear, GRID)[1]
        assert torch.equal(blurred, moved)
        assert not torch.equal(blurred, plain.velocities(w, clear, GRID)[1])
