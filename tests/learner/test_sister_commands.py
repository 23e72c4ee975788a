"""The other families through the public commands, as a user has them: trained, saved, judged in their own modes."""

import json

import pytest
from in_process import ended_well, ran

from learner.inference.policy_file import load_agent
from learner.runs.catalog import make

SMALL = (
    "--engine serial --ring.num-slots 8 --ring.min-ready 2 --learner.data.batch-size 2 --learner.measure-batches 1 --steps 3 "
    "--episodes 0 --learner.model.layers 2"
).replace("--learner.model", "--learner.agent.model")


@pytest.mark.parametrize(
    ("recipe", "mode", "parts"),
    [
        pytest.param("lingbot_va_cpu", "grounded", {"loss_video", "loss_action"}, marks=pytest.mark.slow),
        pytest.param("x_wam_cpu", "guided", {"loss_video", "loss_action", "loss_proprio", "loss_depth"}, marks=pytest.mark.slow),
        pytest.param("cowvla_cpu", "", {"loss_action", "loss_keyframe", "loss_motion"}, marks=pytest.mark.slow),
    ],
)
def test_a_sister_is_trained_saved_and_judged_while_it_decides_ahead_or_late(recipe, mode, parts, tmp_path):
    run, policy = tmp_path / "run", tmp_path / "policy.safetensors"
    assert ran(recipe, "--out", str(run), *SMALL.split())["steps"] == 3
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(parts <= row.keys() for row in rows if row["kind"] == "train")
    ended_well("export", str(run), "-o", str(policy))
    assert load_agent(policy).config.model == load_agent(run / "checkpoints" / "last.ckpt").config.model
    ahead = ["--sai", mode] if mode else []
    judged = ended_well(
        "eval", str(policy), "--episodes", "1", "--pilots", "policy", *ahead, "--no-films", "--out", str(tmp_path / "eval")
    )
    assert judged["episodes"] == 1 and judged["speculation"].startswith(mode or "off")
    imagined = judged["imagined"]["in distribution"]
    assert bool(imagined) == bool(mode) and all(task["imagined"] > 0.0 for task in imagined.values())


@pytest.mark.parametrize("recipe", ["lingbot_va_cpu", "x_wam_cpu", "cowvla_cpu"])
def test_recipes_take_their_own_options_and_sizes_and_no_other_familys(recipe):
    from embodichain.errors import UsageError
    from learner.models.families import family_of
    from learner.runs.options import RunWords, override, resolve

    config = make(recipe)
    assert set(family_of(config.learner.agent.model).sizes) == {"tiny", "base", "paper"}
    assert override(config, ["--learner.agent.model.dim", "48"]).learner.agent.model.dim == 48
    with pytest.raises(UsageError, match="memory-every"):
        override(config, ["--learner.agent.model.memory-every", "1"])
    resized = resolve(recipe, RunWords(size="base"), []).config
    assert resized.learner.agent.model.dim == 768
