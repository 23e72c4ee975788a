"""Laws of X-WAM: depth on the side changes nothing, inference stays where training was, chunks go on from those under way."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from learner_parts import GRID, shaken, window
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from embodichain.errors import ConfigError
from learner.codecs.config import LatentSpec
from learner.models.window import Extent
from learner.models.world_model import Mode, Prefix, Seen
from learner.models.x_wam.chunking import guided, overlap_weights, strength
from learner.models.x_wam.config import NoiseRule, XwamConfig
from learner.models.x_wam.flops import forward_flops
from learner.models.x_wam.model import Xwam
from learner.models.x_wam.noise import draw_levels, paths

TINY = {"dim": 24, "layers": 3, "heads": 2, "ffn": 32, "time_frequencies": 8, "video_steps": 5, "action_steps": 3}
ONES = torch.ones(2, 30, dtype=torch.bool)


def exact(**changes) -> Xwam:
    """A float64 model on latents of 6 channels, random everywhere; with a depth branch of two copies."""
    torch.manual_seed(0)
    model = Xwam(XwamConfig(**{**TINY, "depth": 2, **changes}), latents=LatentSpec(6, moments=6), text_dim=5).double()
    return shaken(model).eval()


def seen(model: Xwam, w):
    """Text, state and noise after the window's first frame."""
    text = model.read_text(w.text_BLC)
    state = model.observe(model.empty(), Seen(w.latents_BTNC[:, 0], w.proprio_BTA[:, 0], None), text, GRID)
    return text, state, model.noise(w.latents_BTNC[:, 0], torch.Generator().manual_seed(3))


def short(**changes):
    w = window(batch=2, steps=2)
    return w._replace(depth_BTNC=w.latents_BTNC.flip(0), **changes)


def test_video_and_actions_are_the_same_to_the_bit_with_depth_and_without():
    model, w = exact(), short()
    draws = model.draw(w, torch.Generator().manual_seed(0))
    on, off = (model.passed(w, draws, GRID, depth=depth) for depth in (True, False))
    assert on.depth_BFNC is not None and off.depth_BFNC is None
    for one, two in zip(on.velocity, off.velocity, strict=True):
        assert torch.equal(one, two)
    with torch.inference_mode():
        text, state, noise = seen(model, w)
        one, two = (model.dream(state, noise, text, GRID, depth=depth) for depth in (True, False))
        assert one.extras["depth"].shape == (2, 3, GRID.size, 6)
        assert torch.equal(one.actions_BHA, two.actions_BHA) and torch.equal(one.extras["frames"], two.extras["frames"])
        calls = []
        for copy in model.depth_blocks:
            copy.register_forward_pre_hook(lambda *_: calls.append(1))
        model.decide(state, noise, text, GRID)
        assert not calls, "a decision runs no depth"


def test_copies_begin_as_their_sources_share_nothing_and_teach_what_lies_before_them():
    torch.manual_seed(0)
    model = Xwam(XwamConfig(**TINY, depth=2), latents=LatentSpec(6), text_dim=5).double()
    for block, copy in zip(model.blocks[-2:], model.depth_blocks, strict=True):
        for one, two in zip(block.parameters(), copy.parameters(), strict=True):
            assert torch.equal(one, two) and one.data_ptr() != two.data_ptr()
    shaken(model)
    w = short()
    model.passed(w, model.draw(w, torch.Generator().manual_seed(0)), GRID).depth_BFNC.square().sum().backward()
    first, middle, last = model.blocks
    assert first.expand.weight.grad is not None and first.query_key_value.weight.grad[:24].abs().sum() > 0
    queries, keys = last.query_key_value.weight.grad.split([24, 48])
    assert queries.abs().sum() == 0 and keys.abs().sum() > 0 and last.expand.weight.grad is None
    assert middle.expand.weight.grad.abs().sum() > 0, "it makes the tokens of which the last block's keys are"


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(0, 39), st.floats(0.2, 8.0))
def test_every_pair_of_noise_that_inference_meets_is_one_that_training_draws(actions, more, shift):
    """ANS draws actions clean beside any video, and else video no cleaner than actions, up to pure noise."""
    config = XwamConfig(video_steps=actions + more, action_steps=actions, shift=shift)
    video, action = paths(config)
    assert ((action == 0.0) | (video >= action - 1e-12)).all()
    assert video[[0]].allclose(torch.ones(1).double()) and action[0] == video[0] and (video.diff() < 0).all()
    assert video[-1] == action[actions] == 0.0
    with pytest.raises(ConfigError, match="action_steps must be at most video_steps"):
        XwamConfig(video_steps=actions, action_steps=actions + 1)


def test_asynchronous_noise_is_where_inference_goes_and_the_others_are_not():
    def drawn(rule: NoiseRule):
        return draw_levels(XwamConfig(rule=rule, shift=5.0), 200_000, torch.Generator().manual_seed(0))

    video, action, taught = drawn(NoiseRule.ANS)
    assert (video >= action - 1e-12).all() and ((action == 0.0) == ~taught).all()
    assert taught.double().mean() == pytest.approx(0.5, abs=0.01)
    on_path = torch.stack([level[:-1] for level in paths(XwamConfig(video_steps=50, action_steps=10, shift=5.0))], dim=1)
    near = {}
    for rule in NoiseRule:
        pairs = torch.stack(drawn(rule)[:2], dim=1)[:20_000]
        near[rule] = (torch.cdist(pairs, on_path).min(dim=1).values < 0.03).double().mean().item()
    assert near[NoiseRule.ANS] > 0.6 and max(near[NoiseRule.SYNCHRONOUS], near[NoiseRule.DECOUPLED]) < 0.3
    pairs = torch.stack(drawn(NoiseRule.ANS)[:2], dim=1)
    assert torch.cdist(on_path, pairs).min(dim=1).values.max() < 5e-3


@torch.inference_mode()
def test_a_decision_is_the_whole_denoising_cut_short():
    model, w = exact(), short()
    text, state, noise = seen(model, w)
    calls = []
    model.video_in.register_forward_pre_hook(lambda *_: calls.append(1))
    decision = model.decide(state, noise, text, GRID)
    assert len(calls) == 3 and decision.evaluations == {"joint": 3}
    dream = model.dream(state, noise, text, GRID)
    assert torch.equal(decision.actions_BHA, dream.actions_BHA) and decision.actions_BHA.shape == (2, 32, 30)
    assert torch.equal(decision.extras["states"], dream.extras["states"])
    assert dream.evaluations == {"joint": 5} and not torch.equal(decision.imagined_BNC, dream.imagined_BNC)


@torch.inference_mode()
def test_the_first_frame_and_state_enter_every_step_as_they_were_seen():
    model, w = exact(), short()
    text, state, noise = seen(model, w)
    entered, sweep = [], model.sweep
    model.sweep = lambda point, times, *rest, **more: (entered.append((point, times)), sweep(point, times, *rest, **more))[1]
    model.dream(state, noise, text, GRID)
    for point, times in entered:
        assert torch.equal(point.latents_BFNC[:, 0], w.latents_BTNC[:, 0]) and (times.video[:, 0] == 1.0).all()
        assert torch.equal(point.proprio_BFA[:, 0], w.proprio_BTA[:, 0]) and (times.proprio[:, 0] == 1.0).all()
    model.sweep = sweep
    draws = model.draw(w, torch.Generator().manual_seed(0))
    moved = draws._replace(video_noise_BTNC=draws.video_noise_BTNC + 1.0)
    assert not torch.equal(model.passed(w, draws, GRID).velocity.actions_BFKA, model.passed(w, moved, GRID).velocity.actions_BFKA)


def test_samples_with_clean_actions_teach_no_action():
    model, w = exact(depth=0), short()
    draws = model.draw(w, torch.Generator().manual_seed(0))._replace(taught_B=torch.tensor([False, False]))
    whole = torch.ones(2, 2, dtype=torch.bool)
    losses = model.losses(w, draws, GRID, valid_BT=whole, imitate_BT=whole, action_mask_BA=ONES)
    losses.total.backward()
    assert losses.parts["action"] == losses.parts["proprio"] == 0.0 and losses.parts["video"] > 0.0
    assert all(p.grad is None or not p.grad.any() for head in (model.action_out, model.proprio_out) for p in head.parameters())
    taught = draws._replace(taught_B=torch.tensor([True, False]))
    assert model.losses(w, taught, GRID, valid_BT=whole, imitate_BT=whole, action_mask_BA=ONES).parts["action"] > 0.0


def test_guidance_is_the_gradient_that_finite_differences_give_and_not_that_of_an_identity():
    generator = torch.Generator().manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 32), torch.nn.Tanh(), torch.nn.Linear(32, 6)).double()
    x, target = (torch.randn(1, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    weights, time, g = torch.tensor([1.0, 1, 1, 0.5, 0, 0], dtype=torch.float64), 0.4, strength(0.4, 10.0)
    moved, _ = guided(lambda point: (net(point), point), x, target, weights, time, 10.0)
    pull = (moved - net(x)).detach() / g

    def clean(point: torch.Tensor) -> torch.Tensor:
        return point + (1.0 - time) * net(point)

    with torch.no_grad():
        error, h = weights * (target - clean(x)), 1e-5
        basis = h * torch.eye(6, dtype=torch.float64)
        slopes = torch.stack([((clean(x + e) - clean(x - e)) / (2 * h) * error).sum() for e in basis])
    assert (pull[0] - slopes).abs().max() < 1e-6
    assert (pull - error).abs().max() > 1e-2


def test_what_holds_actions_falls_from_the_committed_ones_to_nothing():
    weights = overlap_weights(32, 4, 16)
    assert (weights[:4] == 1.0).all() and (weights[16:] == 0.0).all() and (weights[4:16].diff() < 0).all() and weights[4] < 1.0
    assert strength(0.0, 3.0) == 3.0 and strength(0.5, 10.0) == pytest.approx(2.0) and strength(0.99, 10.0) == 10.0


def under_way(delay: int, count: int = 16) -> Prefix:
    actions = 0.5 * torch.randn(2, count, 30, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return Prefix(actions, delay)


def fit(model: Xwam, w) -> Xwam:
    """A model whose velocities lead to data of which half is known: seconds of training on one window."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    whole = torch.ones(2, 2, dtype=torch.bool)
    for step in range(60):
        draws = model.draw(w, torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model.losses(w, draws, GRID, valid_BT=whole, imitate_BT=whole, action_mask_BA=ONES).total.backward()
        optimizer.step()
    return model


def test_guidance_draws_the_chunk_to_the_actions_under_way_and_nothing_draws_nothing():
    w = short()
    model = fit(exact(depth=0, video_steps=10, action_steps=10), w)
    with torch.no_grad():
        text, state, noise = seen(model, w)
        free, mode = model.decide(state, noise, text, GRID), Mode("guided", 1.0)
        nothing = Prefix(torch.zeros(2, 0, 30, dtype=torch.float64), 0)
        assert torch.equal(model.decide_from(state, noise, nothing, text, GRID, mode).actions_BHA, free.actions_BHA)
        prefix = under_way(6)
        drawn = model.decide_from(state, noise, prefix, text, GRID, mode)
        assert drawn.evaluations == free.evaluations

    def error(decision) -> float:
        return (decision.actions_BHA[:, :6] - prefix.actions_BHA[:, :6]).square().mean().sqrt().item()

    assert error(drawn) * 5.0 <= error(free), (error(drawn), error(free))


@torch.no_grad()
def test_given_actions_come_out_as_they_went_in():
    model, w = exact(prefix=8), short()
    text, state, noise = seen(model, w)
    prefix = under_way(5)
    decision = model.decide_from(state, noise, prefix, text, GRID, Mode("prefix", 1.0))
    assert torch.equal(decision.actions_BHA[:, :5], prefix.actions_BHA[:, :5])
    assert not torch.equal(decision.actions_BHA[:, 5:16], prefix.actions_BHA[:, 5:])
    none = model.decide_from(state, noise, under_way(0), text, GRID, Mode("prefix", 1.0))
    assert (none.actions_BHA - model.decide(state, noise, text, GRID).actions_BHA).abs().max() < 1e-12
    with pytest.raises(ConfigError, match="unknown mode 'prefix'; available: guided"):
        exact().decide_from(state, noise, prefix, text, GRID, Mode("prefix", 1.0))


@torch.no_grad()
def test_two_cameras_swapped_with_their_embeddings_swap_what_comes_out():
    model, w = exact(), short()
    half = GRID.size // 2
    draws = model.draw(w, torch.Generator().manual_seed(0))
    swapped = w._replace(latents_BTNC=w.latents_BTNC.roll(half, dims=2))
    turned = draws._replace(video_noise_BTNC=draws.video_noise_BTNC.roll(half, dims=2))
    before = model.passed(w, draws, GRID)
    model.view[:2] = model.view[:2].flip(0)
    after = model.passed(swapped, turned, GRID)
    assert (after.velocity.latents_BFNC.roll(half, dims=2) - before.velocity.latents_BFNC).abs().max() < 1e-12
    assert (after.velocity.actions_BFKA - before.velocity.actions_BFKA).abs().max() < 1e-12
    assert (after.depth_BFNC.roll(half, dims=2) - before.depth_BFNC).abs().max() < 1e-12


@torch.no_grad()
def test_padding_moves_nothing_else():
    model, w = exact(), short()
    valid = torch.tensor([[True, True], [True, False]])
    draws = model.draw(w, torch.Generator().manual_seed(0))
    latents = w.latents_BTNC.clone()
    latents[1, 2] = 9.0
    one, two = (model.passed(seen, draws, GRID, valid) for seen in (w, w._replace(latents_BTNC=latents)))
    assert torch.equal(one.velocity.latents_BFNC[1, :2], two.velocity.latents_BFNC[1, :2])
    assert torch.equal(one.velocity.actions_BFKA[1, :1], two.velocity.actions_BFKA[1, :1])
    assert torch.equal(one.depth_BFNC[1, :2], two.depth_BFNC[1, :2])


@torch.inference_mode()
def test_the_mean_of_several_decisions_is_that_of_each_from_its_own_noise():
    many, one = exact(samples=3), exact()
    w = short()
    text, state, _ = seen(one, w)
    noise = many.noise(w.latents_BTNC[:, 0], torch.Generator().manual_seed(0))
    alone = [one.decide(state, type(noise)(*(x[k::3] for x in noise)), text, GRID).actions_BHA for k in range(3)]
    together = many.decide(state, noise, text, GRID).actions_BHA
    assert (together - torch.stack(alone).mean(dim=0)).abs().max() < 1e-12 and not torch.equal(alone[0], alone[1])


@pytest.mark.parametrize("changes", [{}, {"depth": 0, "prefix": 4}, {"glance": GRID.size, "aim": GRID.cameras}])
def test_counted_flops_are_those_that_torch_counts(changes):
    model = exact(**changes)
    w = window(batch=3, steps=2)
    w = w._replace(depth_BTNC=w.latents_BTNC)
    draws = model.draw(w, torch.Generator().manual_seed(0))
    whole, channels = torch.ones(3, 2, dtype=torch.bool), torch.ones(3, 30, dtype=torch.bool)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.losses(w, draws, GRID, valid_BT=whole, imitate_BT=whole, action_mask_BA=channels)
    assert forward_flops(model.config, Extent(3, 2, GRID.size, 6, 3, 5)) == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_the_state_is_the_last_frame_whatever_came_before():
    model, w = exact(aim=GRID.cameras), window(batch=2, steps=4)
    text, state = model.read_text(w.text_BLC), model.empty()
    sizes = []
    for t in range(5):
        state = model.observe(state, Seen(w.latents_BTNC[:, t], w.proprio_BTA[:, t], None), text, GRID)
        sizes.append(state.size_bytes)
    assert len(set(sizes)) == 1 and state.steps == 5
