"""Meta-World and nothing of ours: a fresh environment of a seed, driven by stored commands; what it says of every step.

Runs in an environment of its own. Arguments: a file with task, seed and commands, and where to write what was seen.
"""

# ruff: noqa: NPY002 Meta-World draws from that generator
import sys
import warnings

import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE


def main(given, out):
    warnings.simplefilter("ignore")
    asked = np.load(given)
    np.random.seed(np.random.SeedSequence(int(asked["seed"])).generate_state(4))
    env = ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE[f"{asked['task']}-goal-observable"]()
    observation, _ = env.reset()
    seen, successes, rewards = [observation], [], []
    for command in asked["commands"]:
        observation, reward, _, _, told = env.step(command.astype(np.float32))
        seen.append(observation)
        successes.append(bool(told["success"]))
        rewards.append(reward)
    np.savez(out, observations=np.array(seen), successes=np.array(successes), rewards=np.array(rewards))


if __name__ == "__main__":
    main(*sys.argv[1:])
