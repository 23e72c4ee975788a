"""`embodichain eval` as a user meets it: complete, resumable, and clear about what it cannot judge."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import yaml

from embodichain import cli
from embodichain.config import WorldConfig
from embodichain.errors import ConfigError, RunError
from embodichain.types.plain import as_plain
from learner.codecs.config import EncoderConfig
from learner.evaluation.config import EvaluateConfig, Shift
from learner.evaluation.episodes import Graded
from learner.evaluation.suite import JudgeConfig, Judgement
from learner.inference.config import SaiConfig
from learner.inference.policy_file import Setup, load_agent, save_agent
from learner.models.agent import Agent
from learner.models.clwm.config import ClwmConfig
from learner.models.config import AgentConfig
from learner.runs.recipes import seconds_cpu

SMALL = AgentConfig(
    encoder=EncoderConfig(dim=24, layers=2, heads=2),
    model=ClwmConfig(dim=32, layers=2, heads=2, ffn=64, memory_every=1, video_steps=2, action_steps=2),
)


@pytest.fixture
def policy_file(tmp_path):
    agent = Agent(SMALL)
    agent.normalizer.fitted.fill_(True)
    agent.normalizer.action_range.copy_(torch.tensor([-0.05, 0.05])[:, None].expand(2, 30))
    path = tmp_path / "policy.safetensors"
    save_agent(agent, path, Setup(robot="dual_piper", width=32, height=32, tasks=("turn_switch",)))
    return path


@pytest.fixture
def config(policy_file):
    return JudgeConfig(
        checkpoint=policy_file,
        world=WorldConfig(tasks=("turn_switch",)),
        episodes=2,
        shifts=(Shift.NONE,),
        pilots=("policy",),
        sai=None,
        films=False,
        evaluate=EvaluateConfig(),
    )


def row(number: int) -> Graded:
    return Graded(
        shift="in distribution",
        task="turn_switch",
        pilot="policy",
        number=number,
        seed=9,
        success=True,
        progress=1.0,
        reason="",
        chunks=3,
    )


def test_an_evaluation_goes_on_from_what_is_on_disk_even_if_it_was_killed_while_writing(tmp_path, config):
    judgement = Judgement.create(tmp_path / "eval", config)
    for number in range(3):
        judgement.add(row(number))
    log = tmp_path / "eval" / "episodes.jsonl"
    log.write_bytes(log.read_bytes()[:-20])
    resumed = Judgement.resume(tmp_path / "eval", config)
    assert resumed.graded == [row(0), row(1)]
    resumed.add(row(2))
    assert Judgement.resume(tmp_path / "eval", replace(config, episodes=9)).graded == [row(0), row(1), row(2)]


def test_an_evaluation_older_than_the_choice_of_a_painter_was_drawn_by_rays(tmp_path, config):
    config = replace(config, world=replace(config.world, painter="raycast"))
    Judgement.create(tmp_path / "eval", config)
    file = tmp_path / "eval" / "config.yaml"
    saved = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert saved["identity"]["world"].pop("painter") == "raycast"
    file.write_text(yaml.safe_dump(saved), encoding="utf-8")
    assert Judgement.resume(tmp_path / "eval", config).graded == []
    with pytest.raises(RunError, match="judged another world"):
        Judgement.resume(tmp_path / "eval", replace(config, world=replace(config.world, painter="raster")))


def test_episodes_of_another_policy_world_or_sampling_are_not_counted_together(tmp_path, config):
    Judgement.create(tmp_path / "eval", config)
    for other, name in (
        (replace(config, world=replace(config.world, seed=3)), "world"),
        (replace(config, sai=SaiConfig()), "sai"),
    ):
        with pytest.raises(RunError, match=f"judged another {name}"):
            Judgement.resume(tmp_path / "eval", other)
    config.checkpoint.write_bytes(b"trained further")
    with pytest.raises(RunError, match="checkpoint_sha256"):
        Judgement.resume(tmp_path / "eval", config)
    with pytest.raises(RunError, match="--resume"):
        Judgement.create(tmp_path / "eval", config)
    with pytest.raises(RunError, match="no evaluation to resume"):
        Judgement.resume(tmp_path / "elsewhere", config)


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (["--task", "juggle"], "'juggle'"),
        (["--pilots", "autopilot"], "'autopilot'"),
        (["--sai", "video", "--s-mid", "2"], "s_mid"),
    ],
)
def test_what_cannot_be_judged_is_refused_in_one_line(capsys, policy_file, tmp_path, extra, reason):
    assert cli.main(["eval", str(policy_file), "--out", str(tmp_path / "eval"), *extra]) == 2
    errors = capsys.readouterr().err.strip()
    assert reason in errors and len(errors.splitlines()) == 1
    assert not (tmp_path / "eval").exists()


def test_counting_data_are_no_world_to_succeed_in(config):
    with pytest.raises(ConfigError, match="counting"):
        replace(config, world=replace(config.world, physics="counting"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_policy_is_judged_in_every_set_and_the_evidence_is_kept(tmp_path, policy_file):
    """A whole evaluation by the command, of a checkpoint in a run's folder; resumed with more episodes."""
    run = seconds_cpu()
    assets = replace(run.world.assets, counts={"switch": 1})
    world = replace(run.world, tasks=("turn_switch",), width=32, height=32, horizon=14, assets=assets)
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(as_plain(replace(run, world=world))))
    agent = load_agent(policy_file)
    weights = {f"agent.{name}": value for name, value in agent.state_dict().items()}
    torch.save({"agent_config": json.dumps(agent.config.to_dict()), "state_dict": weights}, folder / "checkpoints" / "last.ckpt")

    def judged(*extra: str) -> dict:
        out = ["--out", str(tmp_path / "eval"), "--sai", "video+action", "--json", *extra]
        command = [sys.executable, "-m", "embodichain.cli", "eval", str(folder), "--pilots", "policy", "expert", *out]
        result = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout.splitlines()[-1])

    first = judged("--episodes", "1", "--ood", "physics")
    assert list(first["sets"]) == ["in distribution", "physics"]
    for rows in first["sets"].values():
        assert [(r["pilot"], r["episodes"]) for r in rows] == [("policy", 1), ("expert", 1)]
    assert first["sets"]["in distribution"][1]["successes"] == 1, "the expert shows that the scene can be solved"
    assert first["speculation"].startswith("video+action")
    error = first["imagined"]["in distribution"]["turn_switch"]
    assert error["imagined"] > 0 and error["unchanged"] > 0
    kept = {path.relative_to(tmp_path / "eval").as_posix() for path in (tmp_path / "eval").rglob("*")}
    for name in ("in_distribution_turn_switch_expert_success", "physics_turn_switch_policy_failure"):
        assert {f"videos/{name}.mp4", f"frames/{name}.png"} <= kept
    assert "imagined/physics_turn_switch_policy_failure.png" in kept
    assert {"command.txt", "versions.json", "config.yaml", "summary.json", "episodes.jsonl"} <= kept
    before = (tmp_path / "eval" / "episodes.jsonl").read_text()
    second = judged("--episodes", "2", "--resume", "--no-films")
    assert (tmp_path / "eval" / "episodes.jsonl").read_text().startswith(before), "no episode is played twice"
    assert [r["episodes"] for r in second["sets"]["in distribution"]] == [2, 2]
