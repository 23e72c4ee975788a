"""Laws of CoWVLA: one causal sequence whose cached decoding is its masked pass, and whose parts switch off cleanly."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from learner_parts import GRID, SMALL, shaken, window
from test_fast import chunks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from embodichain.errors import ConfigError
from embodichain.types import CHUNK
from learner.codecs.config import EncoderConfig, LatentSpec
from learner.codecs.fast import train_fast
from learner.data.config import DataConfig
from learner.data.dataset import MemorySource, RingDataset
from learner.inference.policy import Policy
from learner.models.agent import Agent
from learner.models.cowvla.config import CowvlaConfig
from learner.models.cowvla.flops import forward_flops
from learner.models.cowvla.model import Cowvla
from learner.models.window import Extent
from learner.models.world_model import Seen

TINY = {"dim": 24, "layers": 2, "heads": 2, "ffn": 32, "cameras": GRID.cameras, "codes": 16, "most_tokens": 64}
STEPS = 6
"""Chunks of a window: three steps of the sequence."""


@pytest.fixture(scope="module")
def fast(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fast")
    train_fast(chunks(300), channels=14).save(folder)
    return str(folder)


@pytest.fixture
def exact(fast):
    def make(**changes) -> Cowvla:
        torch.manual_seed(0)
        config = CowvlaConfig(**{**TINY, "fast": fast, **changes})
        return shaken(Cowvla(config, latents=LatentSpec(6, moments=6), text_dim=5).double()).eval()

    return make


def seen(seed: int = 0):
    """Two trajectories whose chunks take different numbers of tokens."""
    w = window(batch=2, steps=STEPS, seed=seed)
    actions = torch.zeros_like(w.actions_BTKA)
    smooth = np.stack(chunks(2 * STEPS, seed=seed)).reshape(2, STEPS, CHUNK, 14)
    actions[..., list(CowvlaConfig().channels)] = torch.from_numpy(smooth)
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 16, (2, STEPS + 1, GRID.size), generator=generator)
    motion = torch.randn(2, STEPS - 3, 256 * GRID.cameras, generator=generator, dtype=torch.float64)
    return w._replace(actions_BTKA=actions, codes_BTN=codes, motion_BTM=motion)


WHOLE = torch.ones(2, STEPS, dtype=torch.bool)


@pytest.mark.parametrize(("span", "told"), [(4, True), (2, True), (3, False)])
@torch.no_grad()
def test_cached_decoding_is_the_masked_pass_over_samples_of_different_length(exact, span, told):
    model, w = exact(span=span, told_state=told, glance=GRID.size, aim=GRID.cameras), seen()
    found = model.predict(w, model.draw(w, torch.Generator()), GRID, WHOLE)
    assert len({int((found.wanted[b, t] >= 0).sum()) for b in range(2) for t in range(3)}) > 2
    for b in range(2):
        one = slice(b, b + 1)
        text, sample = model.read_text(w.text_BLC[one]), model.fresh()
        for t in range(3):
            sample = model.look(sample, w.codes_BTN[one, t], w.latents_BTNC[one, t], w.proprio_BTA[one, t], text, GRID)
            assert (sample.motion - found.motion[b, t]).abs().max() < 1e-12
            tokens = found.wanted[b, t][found.wanted[b, t] >= 0].tolist()
            whole = model.rotation(t, GRID, len(tokens))
            first = len(whole.cos) - len(tokens) - 1
            part = type(whole)(whole.cos[first:], whole.sin[first:])
            given = torch.tensor([tokens])
            hidden, _ = model.extend(model.action_tokens(given, sample.hint), part, model._before(sample, sample.open), text)
            logits = model.action_out(hidden[0, :-1])
            assert (logits - found.actions[b, t, : len(tokens)]).abs().max() < 1e-12
            sample = model.close(sample, tokens, text, GRID)
        assert [entry.id for entry in sample.memory.entries] == list(range(max(0, 3 - span + 1), 3))


@torch.no_grad()
def test_a_new_last_keyframe_changes_nothing_at_the_query_or_before(exact):
    model, w = exact(pretrain=True), seen()
    one = model.predict(w, model.draw(w, torch.Generator()), GRID, WHOLE)
    codes = w.codes_BTN.clone()
    codes[:, 4] = (codes[:, 4] + 3) % 16
    two = model.predict(w._replace(codes_BTN=codes), model.draw(w, torch.Generator()), GRID, WHOLE)
    assert torch.equal(one.motion[:, 0], two.motion[:, 0]) and torch.equal(one.keyframes[:, 0], two.keyframes[:, 0])
    assert torch.equal(one.keyframes[:, 1, 0], two.keyframes[:, 1, 0]), "its first code is predicted before it"
    assert not torch.equal(one.keyframes[:, 1, 1:], two.keyframes[:, 1, 1:]) and one.actions is None


@torch.no_grad()
def test_padding_enters_no_loss_and_no_key(exact):
    model, w = exact(), seen()
    valid = torch.tensor([[True] * STEPS, [True] + [False] * (STEPS - 1)])
    draws, channels = model.draw(w, torch.Generator()), torch.ones(2, 30, dtype=torch.bool)
    garbage = w._replace(
        codes_BTN=torch.where((torch.arange(STEPS + 1) > 1)[None, :, None] & ~valid[:, -1:, None], 7, w.codes_BTN),
        actions_BTKA=torch.where((torch.arange(STEPS) > 0)[None, :, None, None] & ~valid[:, -1:, None, None], 1.0, w.actions_BTKA),
    )
    losses = [model.losses(x, draws, GRID, valid_BT=valid, imitate_BT=valid, action_mask_BA=channels) for x in (w, garbage)]
    for name, value in losses[0].parts.items():
        assert value == losses[1].parts[name] and value > 0.0
    found = model.predict(w, draws, GRID, WHOLE)
    model.action_in.weight[:] = torch.where(torch.arange(len(model.fast.lengths))[:, None] == 0, 99.0, model.action_in.weight)
    assert 0 not in found.wanted.unique().tolist(), "the token that stands for padding is used by none"
    asked = found.wanted >= 0
    assert torch.equal(model.predict(w, draws, GRID, WHOLE).actions[asked], found.actions[asked])


@torch.inference_mode()
def test_a_chunk_is_whole_whatever_the_weights_and_costs_as_many_evaluations_as_tokens(exact):
    model, w = exact(), seen()
    text, state = model.read_text(w.text_BLC), model.empty()
    state = model.observe(state, Seen(w.latents_BTNC[:, 0], w.proprio_BTA[:, 0], None, codes_BN=w.codes_BTN[:, 0]), text, GRID)
    calls = []
    hook = model.action_out.register_forward_pre_hook(lambda *_: calls.append(1))
    decision = model.decide(state, None, text, GRID)
    hook.remove()
    assert decision.actions_BHA.shape == (2, CHUNK, 30) and decision.extras["motion"].shape == (2, 512)
    counts = [
        len(model.speak(sample, tuple(type(x)(x.keys[b : b + 1], x.values[b : b + 1]) for x in text), GRID)[0])
        for b, sample in enumerate(state.samples)
    ]
    assert sum(counts) == len(calls) and decision.evaluations == {"action": max(counts)}
    assert not decision.actions_BHA[..., :14].any() and decision.extras["overruled"].min() >= 0


@torch.inference_mode()
def test_a_keyframe_is_predicted_on_a_fork_and_memory_is_bounded(exact):
    model, w = exact(span=3), seen()
    text, state = model.read_text(w.text_BLC), model.empty()
    sizes = []
    for t in range(6):
        executed = w.actions_BTKA[:, 0] if t else None
        state = model.observe(
            state, Seen(w.latents_BTNC[:, t], w.proprio_BTA[:, t], executed, codes_BN=w.codes_BTN[:, t]), text, GRID
        )
        sizes.append(state.size_bytes)
    assert len(set(sizes[3:])) == 1 and sizes[0] < sizes[1] < sizes[2]
    before = [[x.clone() for block in sample.open for x in block] for sample in state.samples]
    kept = state.samples
    codes = model.next_keyframe(state, w.actions_BTKA[:, 0], text, GRID)
    assert codes.shape == (2, GRID.size) and codes.max() < 16 and state.samples is kept
    for sample, old in zip(state.samples, before, strict=True):
        assert all(torch.equal(x, y) for x, y in zip([x for block in sample.open for x in block], old, strict=True))
    chunk = model.decide(state, None, text, GRID).actions_BHA
    assert torch.equal(chunk, model.decide(state, None, text, GRID).actions_BHA)


@torch.no_grad()
def test_parts_that_are_switched_off_leave_no_tokens_and_no_losses(exact):
    w, channels = seen(), torch.ones(2, 30, dtype=torch.bool)

    def of(**changes) -> tuple[set[str], int]:
        model = exact(**changes)
        draws = model.draw(w, torch.Generator())
        losses = model.losses(w, draws, GRID, valid_BT=WHOLE, imitate_BT=WHOLE, action_mask_BA=channels)
        return set(losses.parts), model.layout(GRID.size).size * len(model.frames_of(w))

    whole, tokens = of()
    assert whole == {"action", "keyframe", "motion"}
    assert of(motion=False) == ({"action", "keyframe"}, tokens - 3) and of(keyframes=False) == ({"action", "motion"}, tokens)
    assert of(pretrain=True)[0] == {"keyframe", "motion"}


def test_frozen_parts_have_no_gradient_stay_in_eval_mode_and_a_policy_drives(fast, trajectories):
    model = CowvlaConfig(**{**TINY, "codes": 512, "cameras": 2}, fast=fast)
    config = replace(SMALL, encoder=EncoderConfig(codec="vq", merge=1), model=model)
    rng = np.random.default_rng(0)
    rows = [{**row, "rgb": rng.integers(0, 255, (7, 2, 64, 64, 3), np.uint8)} for row in trajectories]
    dataset = RingDataset(MemorySource(rows), DataConfig(batch_size=4, window=4))
    agent = Agent(config)
    measurement = agent.new_measurement()
    batch = dataset.draw().gather()
    agent.measure(batch, measurement)
    agent.normalizer.fit(measurement)
    agent.train()
    losses = agent.losses(batch, torch.Generator())
    losses.total.backward()
    assert set(losses.parts) == {"action", "keyframe", "motion"}
    assert all(p.grad is None and not p.requires_grad for p in agent.encoder.parameters())
    assert not any(part.training for part in agent.encoder.modules())
    assert all(p.grad is not None for name, p in agent.model.named_parameters() if "text" not in name)
    policy = Policy(agent)
    policy.begin("turn the switch on")
    for t in range(3):
        chunk = policy.act(rows[0]["rgb"][t], rows[0]["proprio"][t])
        assert chunk.shape == (CHUNK, 30) and np.isfinite(chunk).all()
    assert policy.imagined is None and policy.memory.steps == 3


def test_what_does_not_fit_is_refused_with_the_remedy(fast, exact):
    with pytest.raises(ConfigError, match="has none: use codec vq"):
        Agent(replace(SMALL, model=CowvlaConfig(**TINY, fast=fast)))
    with pytest.raises(ConfigError, match="is made for 14 channels"):
        exact(channels=(14, 15))
    model, w = exact(), seen()
    with pytest.raises(ConfigError, match=r"set data\.window to 4 or more"):
        model.frames_of(w._replace(actions_BTKA=w.actions_BTKA[:, :3]))


@pytest.mark.parametrize("changes", [{}, {"motion": False, "keyframes": False}, {"pretrain": True, "told_state": False}])
def test_counted_flops_are_those_that_torch_counts(exact, changes):
    model, w = exact(**changes), seen()
    draws, channels = model.draw(w, torch.Generator()), torch.ones(2, 30, dtype=torch.bool)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.losses(w, draws, GRID, valid_BT=WHOLE, imitate_BT=WHOLE, action_mask_BA=channels)
    counted = forward_flops(model.config, Extent(2, STEPS, GRID.size, 6, 3, 5), vocabulary=len(model.fast.lengths))
    assert counted == pytest.approx(counter.get_total_flops(), rel=0.01)
