"""Laws of LingBot-VA: what training sees under its mask is what inference computes beside its cache, and nothing looks ahead."""

from dataclasses import replace

import pytest
import torch
from learner_parts import GRID, shaken, window
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from embodichain.errors import ConfigError
from embodichain.types import CHUNK
from learner.backbone.flow import euler, interpolate, time_grid
from learner.codecs.config import LatentSpec
from learner.memory.kv_cache import Entry, Kind
from learner.models.lingbot_va.config import LingbotConfig
from learner.models.lingbot_va.flops import step_flops
from learner.models.lingbot_va.model import LingbotVa
from learner.models.lingbot_va.sequence import action_positions, chunk_of, frame_positions, state_positions
from learner.models.window import Extent
from learner.models.world_model import Mode, Seen

TINY = {"dim": 24, "layers": 3, "heads": 2, "ffn": 32, "time_frequencies": 8, "video_steps": 3, "action_steps": 4}


def exact(**changes) -> LingbotVa:
    """A float64 model on latents of 6 channels, random everywhere."""
    torch.manual_seed(0)
    config = LingbotConfig(**{**TINY, "forward_share": 1.0, "history_noise_prob": 0.0, **changes})
    return shaken(LingbotVa(config, latents=LatentSpec(6, moments=6), text_dim=5).double()).eval()


def drawn(model: LingbotVa, w, *, size: int = 1, reach: int = 64, seed: int = 0):
    return model.draw(w, torch.Generator().manual_seed(seed))._replace(size=size, window=reach)


def watched(model: LingbotVa, state, frames: slice, w, text):
    """The state after the real frames of one chunk."""
    first = frames.start == 0
    executed = None if first else w.actions_BTKA[:, frames.start - 1 : frames.stop - 1]
    return model.absorb(state, w.latents_BTNC[:, frames], w.proprio_BTA[:, frames], executed, text, GRID)


def remembered(model: LingbotVa, w, count: int, *, batch: slice = slice(None)):
    """The text, and the state after `count` frames that came one by one."""
    w = type(w)(*(None if x is None else x[batch] for x in w))
    text, state = model.read_text(w.text_BLC), model.empty()
    for t in range(count):
        executed = w.actions_BTKA[:, t - 1] if t else None
        state = model.observe(state, Seen(w.latents_BTNC[:, t], w.proprio_BTA[:, t], executed), text, GRID)
    return text, state


@pytest.mark.parametrize("seed", range(6))
@torch.no_grad()
def test_what_is_masked_in_training_is_what_is_cached_in_inference(seed):
    size, reach, steps = (1, 2, 3, 4, 2, 1)[seed], (64, 64, 4, 5, 3, 4)[seed], 7
    model = exact(span=reach, glance=GRID.size, aim=2, dual=(0, 12)[seed % 2])
    w = window(batch=2, steps=steps, seed=seed)
    draws = drawn(model, w, size=size, reach=reach, seed=seed)
    found = model.velocities(w, draws, GRID)
    text, state = model.read_text(w.text_BLC), model.empty()
    state = watched(model, state, slice(0, 1), w, text)
    for first in range(1, steps + 1, size):
        frames = slice(first, min(first + size, steps + 1))
        steps_ = slice(first - 1, frames.stop - 1)
        chunk = chunk_of(first, size)
        noisy = interpolate(draws.video_noise_BTNC, w.latents_BTNC[:, 1:], draws.video_time_BT[..., None, None])[:, steps_]
        group = model.frame_group(noisy, draws.video_time_BT[:, steps_], first, GRID)
        history = state.memory.seen(2 * chunk)
        tokens, _ = model._run(group, history, text)
        assert (model.video_out(tokens, group.embedding) - found.video_BTNC[:, steps_]).abs().max() < 1e-12

        clean = model.frame_group(w.latents_BTNC[:, frames], model.clean, first, GRID)
        _, kept = model._run(clean, history, text)
        context = state.memory.append(Entry(id=2 * chunk, kind=Kind.PREDICTED, kept=kept)).seen(2 * chunk + 1)
        points = interpolate(draws.action_noise_BTKA, w.actions_BTKA, draws.action_time_BT[..., None, None])[:, steps_]
        group = model.action_group(points, draws.action_time_BT[:, steps_], first, state.hint)
        tokens, _ = model._run(group, context, text)
        assert (model.action_out(tokens, group.embedding) - found.action_BTKA[:, steps_]).abs().max() < 1e-12

        _, bare = model._run(model.action_group(w.actions_BTKA[:, steps_], model.clean, first), history, text)
        context = state.memory.append(Entry(id=2 * chunk, kind=Kind.PREDICTED, kept=bare)).seen(2 * chunk)
        led = interpolate(draws.forward_noise_BTNC, w.latents_BTNC[:, 1:], draws.forward_time_BT[..., None, None])[:, steps_]
        group = model.frame_group(led, draws.forward_time_BT[:, steps_], first, GRID)
        tokens, _ = model._run(group, context, text)
        assert (model.video_out(tokens, group.embedding) - found.forward_BTNC[:, steps_]).abs().max() < 1e-12
        if seed % 2:  # a prediction stands in for the chunk, until the real one takes its place
            actions, latents = w.actions_BTKA[:, steps_], w.latents_BTNC[:, frames]
            state = model.absorb(state, latents, w.proprio_BTA[:, frames], actions, text, GRID, partial_BFNC=noisy)
        state = watched(model, state, frames, w, text)


def test_actions_lie_in_time_between_the_frames_that_they_connect():
    frames, states = frame_positions(2, 2, 2, 1, 1), state_positions(2, 2)
    assert frames[:, 0].tolist() == [2.0, 2.0, 3.0, 3.0] and states.tolist() == [[2.0, -1.0, -1.0], [3.0, -1.0, -1.0]]
    times = action_positions(2, 2, 3)[:, 0]
    assert times.tolist() == [1.25, 1.5, 1.75, 2.25, 2.5, 2.75], "the chunk before frame 2, then that before frame 3"


@pytest.mark.parametrize("size", [1, 3])
@torch.no_grad()
def test_nothing_sees_the_clean_answer_nor_the_state_after_it(size):
    model, w = exact(), window(batch=2, steps=6)
    draws = drawn(model, w, size=size)
    frame = 2  # whose chunk begins at frame `first`
    first = size * (chunk_of(frame, size) - 1) + 1
    noise, time = draws.history_noise_BTNC.clone(), draws.history_time_BT.clone()
    time[:, frame] = 0.7
    noise[:, frame] += torch.randn(noise[:, frame].shape, generator=torch.Generator().manual_seed(1), dtype=noise.dtype)
    proprio = w.proprio_BTA.clone()
    proprio[:, frame] += torch.randn(2, 30, generator=torch.Generator().manual_seed(2), dtype=noise.dtype)
    one = model.velocities(w, draws._replace(history_time_BT=time), GRID)
    two = model.velocities(w._replace(proprio_BTA=proprio), draws._replace(history_noise_BTNC=noise, history_time_BT=time), GRID)
    upto = slice(0, first - 1 + size)  # steps of the frame's chunk and of all before
    assert torch.equal(one.video_BTNC[:, upto], two.video_BTNC[:, upto])
    assert torch.equal(one.forward_BTNC[:, upto], two.forward_BTNC[:, upto]), "forward dynamics see the answer"
    after = slice(first - 1 + size, None)
    assert not torch.equal(one.video_BTNC[:, after], two.video_BTNC[:, after])
    only_state = model.velocities(w._replace(proprio_BTA=proprio), draws._replace(history_time_BT=time), GRID)
    assert torch.equal(one.action_BTKA[:, upto], only_state.action_BTKA[:, upto]), "actions see the state after them"
    assert not torch.equal(one.action_BTKA[:, upto], two.action_BTKA[:, upto]), "actions are decided from the frames"


@torch.inference_mode()
def test_a_real_frame_leaves_nothing_of_the_prediction_that_stood_in_for_it():
    model, w = exact(span=4), window(steps=4)
    text, before = remembered(model, w, 3)
    noise = model.noise(w.latents_BTNC[:, 0], torch.Generator().manual_seed(0))
    decision = model.decide(before, noise, text, GRID)
    executed = decision.actions_BHA[:, :CHUNK]
    stand_in = Seen(decision.imagined_BNC, w.proprio_BTA[:, 2], executed, decision.extras)
    predicted = model.observe(before, stand_in, text, GRID)
    assert predicted.steps == before.steps and sum(e.kind is Kind.PREDICTED for e in predicted.memory.entries) == 2
    real = Seen(w.latents_BTNC[:, 3], w.proprio_BTA[:, 3], w.actions_BTKA[:, 2])
    replaced, never_predicted = (model.observe(state, real, text, GRID) for state in (predicted, before))
    assert [(e.id, e.kind) for e in replaced.memory.entries] == [(e.id, e.kind) for e in never_predicted.memory.entries]
    for one, two in zip(replaced.memory.entries, never_predicted.memory.entries, strict=True):
        for a, b in zip(one.kept, two.kept, strict=True):
            assert torch.equal(a.keys, b.keys) and torch.equal(a.values, b.values)
    assert {e.kind for e in replaced.memory.entries} == {Kind.REAL}


@torch.inference_mode()
def test_memory_grows_by_whole_entries_up_to_its_window_and_then_stays():
    model, w = exact(span=6, told_state=False), window(batch=1, steps=9)
    sizes, text, state = [], model.read_text(w.text_BLC), model.empty()
    for t in range(9):
        executed = w.actions_BTKA[:, t - 1] if t else None
        state = model.observe(state, Seen(w.latents_BTNC[:, t], w.proprio_BTA[:, t], executed), text, GRID)
        sizes.append(state.size_bytes)
        assert [e.id for e in state.memory.entries] == list(range(max(0, 2 * t - 4), 2 * t + 2)) and state.steps == t + 1
    slope = (GRID.size + CHUNK) * 2 * model.config.dim * model.config.layers * 8
    assert sizes[:3] == [slope, 2 * slope, 3 * slope] and set(sizes[2:]) == {3 * slope}


@torch.inference_mode()
def test_what_lies_beyond_the_windows_of_all_layers_is_forgotten_and_what_lies_inside_is_not():
    """Old context flows on through the layers' keys: a model of 3 layers forgets after 3 windows, and not before one."""
    model, w = exact(span=4), window(batch=1, steps=14)
    other = w._replace(latents_BTNC=torch.cat([w.latents_BTNC[:, :1] + 1.0, w.latents_BTNC[:, 1:]], dim=1))
    noise = model.noise(w.latents_BTNC[:, 0], torch.Generator().manual_seed(0))

    def chunk(seen, count: int) -> torch.Tensor:
        text, state = remembered(model, seen, count)
        return model.decide(state, noise, text, GRID).actions_BHA

    assert not torch.equal(chunk(w, 2), chunk(other, 2))
    assert not torch.equal(chunk(w, 4), chunk(other, 4)), "between one window and all layers'"
    assert torch.equal(chunk(w, 9), chunk(other, 9))


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@torch.inference_mode()
def test_actions_are_evaluated_once_a_step_whatever_the_frames_guidance(guidance):
    model, w = exact(cfg_video=guidance, text_dropout=0.1), window(batch=2)
    text, state = remembered(model, w, 2)
    calls: dict[str, list[int]] = {"video": [], "action": []}
    model.video_in.register_forward_pre_hook(lambda _, given: calls["video"].append(len(given[0])))
    model.action_in.register_forward_pre_hook(lambda _, given: calls["action"].append(len(given[0])))
    decision = model.decide(state, model.noise(w.latents_BTNC[:, 0], torch.Generator()), text, GRID)
    assert calls["action"] == [2] * 4 and calls["video"] == [2 if guidance == 1.0 else 4] * (3 + 1)
    assert decision.evaluations == {"video": 3, "cache": 1, "action": 4}


@torch.inference_mode()
def test_guidance_of_1_is_none_and_more_goes_further_from_what_is_imagined_without_words():
    plain, w = exact(text_dropout=0.1), window(batch=2)
    noise = plain.noise(w.latents_BTNC[:, 0], torch.Generator())

    def frame(scale: float, text=None) -> torch.Tensor:
        plain.config = replace(plain.config, cfg_video=scale)
        text, state = remembered(plain, w if text is None else w._replace(text_BLC=text), 2)
        return plain.imagine(state, noise, text, GRID)[0]

    told, silent = frame(1.0), frame(1.0, torch.zeros_like(w.text_BLC))
    near = frame(1.0 + 1e-9)
    assert (near - told).abs().max() < 1e-6 and not torch.equal(told, silent)
    assert (frame(3.0) - told).abs().max() > 1e-3


@torch.inference_mode()
def test_denoised_to_the_end_frames_are_those_of_the_whole_integration():
    model, w = exact(until=1.0, video_shift=3.0), window()
    text, state = remembered(model, w, 2)
    noise = model.noise(w.latents_BTNC[:, 0], torch.Generator().manual_seed(0))
    context = state.memory.seen(4)
    whole = euler(lambda x, s: model._frames(x, s, 2, context, text, GRID)[0], noise.video_BFNC, time_grid(3, 3.0))
    partial, frames, _ = model.imagine(state, noise, text, GRID)
    assert torch.equal(partial, whole) and torch.equal(frames, whole)
    half = exact(until=0.5, video_shift=3.0)
    assert half.video_grid[-1] == pytest.approx(0.5, abs=1e-12), "s_v is a flow time, whatever the shift"


@torch.no_grad()
def test_two_streams_of_one_width_and_the_same_weights_are_one():
    shared, dual = exact(ffn=96), exact(ffn=96, dual=24)
    missing = dual.load_state_dict(shared.state_dict(), strict=False)
    assert all(name.startswith("narrow.blocks.") for name in missing.missing_keys) and not missing.unexpected_keys
    for block, own in zip(shared.blocks, dual.narrow["blocks"], strict=True):
        own.load_state_dict(block.state_dict())
    w = window()
    draws = drawn(shared, w, size=2)
    for one, two in zip(shared.velocities(w, draws, GRID), dual.velocities(w, draws, GRID), strict=True):
        assert (one - two).abs().max() < 1e-6


@torch.no_grad()
def test_a_history_without_noise_is_the_clean_one_to_the_bit_and_with_noise_another():
    model, w = exact(), window()
    draws = drawn(model, w)
    other = draws._replace(history_noise_BTNC=draws.history_noise_BTNC + 1.0)
    for one, two in zip(model.velocities(w, draws, GRID), model.velocities(w, other, GRID), strict=True):
        assert torch.equal(one, two)
    noisy = draws._replace(history_time_BT=torch.full_like(draws.history_time_BT, 0.6))
    assert not torch.equal(model.velocities(w, draws, GRID).action_BTKA, model.velocities(w, noisy, GRID).action_BTKA)
    always = exact(history_noise_prob=1.0)
    times = always.draw(w, torch.Generator().manual_seed(0)).history_time_BT
    assert times.min() >= 0.5 and times.max() < 1.0 and times.unique().numel() == times.numel(), "a share of its own a frame"


@torch.no_grad()
def test_nothing_is_asked_of_the_chunk_before_the_first_frame():
    model, w = exact(), window(batch=2, steps=3)
    draws = drawn(model, w)
    found = model.velocities(w, draws, GRID)
    assert found.action_BTKA.shape[1] == found.video_BTNC.shape[1] == 3
    text, state = remembered(model, w, 1)
    noise = model.noise(w.latents_BTNC[:, 0], torch.Generator())
    assert model.decide(state, noise, text, GRID).actions_BHA.shape == (2, model.horizon, 30)
    weights = torch.zeros(2, 3, dtype=torch.bool)
    losses = model.losses(w, draws, GRID, valid_BT=weights, imitate_BT=weights, action_mask_BA=torch.ones(2, 30, dtype=torch.bool))
    assert losses.total == 0.0 and set(losses.parts) == {"video", "action", "forward"}


@torch.no_grad()
def test_padding_moves_nothing_before_it():
    model, w = exact(), window(batch=2, steps=5)
    valid = torch.tensor([[True] * 5, [True, True, False, False, False]])
    draws = drawn(model, w, size=3)
    garbage = w._replace(
        latents_BTNC=torch.where((torch.arange(6) > 2)[None, :, None, None] & ~valid[:, -1:, None, None], 9.0, w.latents_BTNC)
    )
    one, two = (model.velocities(seen, draws, GRID, valid) for seen in (w, garbage))
    for a, b in zip(one, two, strict=True):
        assert torch.equal(a[0], b[0]) and torch.equal(a[1, :2], b[1, :2])


@pytest.mark.parametrize("mode", ["naive", "grounded"])
@torch.inference_mode()
def test_what_is_begun_with_the_state_that_finishes_it_is_what_is_decided_to_the_bit(mode):
    model, w = exact(), window(batch=2)
    text, state = remembered(model, w, 2)
    noise = model.noise(w.latents_BTNC[:, 0], torch.Generator().manual_seed(3))
    decided = model.decide(state, noise, text, GRID)
    for stopped in (False, True):
        begun = model.begin(state, noise, text, GRID, Mode(mode, 1.0), stopped=lambda stopped=stopped: stopped)
        finished = model.finish(state, begun, text, GRID)
        assert torch.equal(decided.actions_BHA, finished.actions_BHA) and torch.equal(decided.imagined_BNC, finished.imagined_BNC)
        assert sum(finished.evaluations.values()) == (8 if stopped else 0) and finished.is_ahead != stopped


@torch.inference_mode()
def test_the_mean_of_several_decisions_is_that_of_each_from_its_own_noise():
    many, one = exact(action_samples=3), exact()
    w = window()
    text, state = remembered(one, w, 2)
    noise = many.noise(w.latents_BTNC[:, 0], torch.Generator().manual_seed(0))
    alone = [one.decide(state, noise._replace(action_BFKA=noise.action_BFKA[k::3]), text, GRID).actions_BHA for k in range(3)]
    together = many.decide(state, noise, text, GRID).actions_BHA
    assert (together - torch.stack(alone).mean(dim=0)).abs().max() < 1e-12 and not torch.equal(alone[0], alone[1])


@pytest.mark.parametrize("changes", [{}, {"dual": 12, "told_state": False}, {"glance": GRID.size, "aim": GRID.cameras}])
@pytest.mark.parametrize("forward", [False, True])
def test_counted_flops_are_those_that_torch_counts(changes, forward):
    model, w = exact(**changes), window(batch=3, steps=4)
    draws = drawn(model, w)
    draws = draws if forward else draws._replace(forward_noise_BTNC=None, forward_time_BT=None)
    whole, channels = torch.ones(3, 4, dtype=torch.bool), torch.ones(3, 30, dtype=torch.bool)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.losses(w, draws, GRID, valid_BT=whole, imitate_BT=whole, action_mask_BA=channels)
    counted = step_flops(model.config, Extent(3, 4, GRID.size, 6, 3, 5), forward=forward)
    assert counted == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_modes_that_were_not_learned_are_refused():
    with pytest.raises(ConfigError, match="unknown mode 'grounded'; available: naive"):
        exact(forward_share=0.0).check(Mode("grounded", 1.0))
    with pytest.raises(ConfigError, match="set text_dropout"):
        LingbotConfig(cfg_video=5.0)
