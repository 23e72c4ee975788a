"""`embodichain export`: writes the policy of a run as one file, or episodes in a data set format (`commands.datasets`)."""

from __future__ import annotations

from pathlib import Path

from embodichain.command_line import Parser
from embodichain.errors import ConfigError, UsageError, nearest
from embodichain.exchange.writers import FORMATS
from embodichain.extras import explained
from embodichain.lines import strict_json
from embodichain.registry import is_reference
from learner.commands.kinds import trained as trained_path


def main(arguments: list[str]) -> int:
    """`embodichain export FORMAT ...` or `embodichain export policy RUN [-o FILE]`; `export RUN` means `export policy RUN`."""
    word = arguments[0] if arguments else ""
    if word in FORMATS or (is_reference(word) and not Path(word).exists()):
        with explained("exchange"):  # exporting data works in an installation without the learner's dependencies
            from embodichain.commands.datasets import export

            return export(arguments)
    if word != "policy" and not Path(word).exists() and (meant := nearest(word, [*FORMATS, "policy"])):
        raise UsageError(f"embodichain export: there is nothing at {word}, and no such format; did you mean {meant!r}?")
    return policy(arguments[1:] if word == "policy" else arguments)


def policy(arguments: list[str]) -> int:
    """`embodichain export policy RUN`: writes averaged weights and configuration as one safetensors file, without the optimiser."""
    parser = Parser(
        "export",
        "The policy of a run as one file without pickles: averaged weights, no optimiser.",
        epilog=f"Episodes in other formats: `embodichain export {'|'.join(FORMATS)} --help`. `export policy RUN` is this, too.",
    )
    parser.add_argument("run", type=trained_path, help="a run's folder or a checkpoint in one")
    parser.add_argument("-o", "--out", type=Path, help="the file to write, RUN/policy.safetensors if not given")
    parser.add_argument("--half", action="store_true", help="keep the weights in float16: half the file")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse(arguments)
    out = options.out or (options.run if options.run.is_dir() else options.run.parent) / "policy.safetensors"
    if out.suffix != ".safetensors":
        raise ConfigError(f"a policy is one .safetensors file, got {out}: give it that ending")
    from learner.inference.policy_file import load_agent, save_agent
    from learner.runs.locate import find, setup_of

    trained = find(options.run)
    save_agent(load_agent(trained.checkpoint), out, setup_of(trained.world), half=options.half)
    if options.json:
        print(strict_json({"policy": str(out), "bytes": out.stat().st_size}))
        return 0
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")
    return 0
