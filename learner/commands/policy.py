"""`embodichain export`: the policy of a run as one file."""

from __future__ import annotations

import argparse
from pathlib import Path

from embodichain.errors import ConfigError
from learner.inference.policy_file import load_agent, save_agent
from learner.runs.locate import find, setup_of


def main(arguments: list[str]) -> int:
    """`embodichain export RUN [-o FILE]`: the policy of a run as one file without pickles, averaged weights, no optimiser."""
    parser = argparse.ArgumentParser(prog="embodichain export", description=main.__doc__)
    parser.add_argument("run", type=Path, help="a run's folder or a checkpoint in one")
    parser.add_argument("-o", "--out", type=Path, help="the file to write, RUN/policy.safetensors if not given")
    options = parser.parse_args(arguments)
    trained = find(options.run)
    out = options.out or (options.run if options.run.is_dir() else options.run.parent) / "policy.safetensors"
    if out.suffix != ".safetensors":
        raise ConfigError(f"a policy is one .safetensors file, got {out}: give it that ending")
    save_agent(load_agent(trained.checkpoint), out, setup_of(trained.world))
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")
    return 0
