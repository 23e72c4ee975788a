"""Meta-World by itself, in its own environment: seeds of one task, each played by its scripted expert until it is done.

Reads one JSON object a line ({"task", "seeds"}) and answers with steps, successes and processor seconds. What is not measured is
importing it and reading the model.
"""

# ruff: noqa: NPY002 Meta-World draws from that generator
# pyright: reportMissingImports=false
import json
import sys
import time
import warnings

import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE
from metaworld.policies import ENV_POLICY_MAP

_LIMIT = 500


def main() -> None:
    """Answers until its input ends."""
    warnings.simplefilter("ignore")
    made = {}
    for line in sys.stdin:
        asked = json.loads(line)
        task = asked["task"]
        if task not in made:
            made[task] = ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE[f"{task}-goal-observable"](seed=0)
        env, steps, successes = made[task], 0, 0
        began = time.process_time()
        for seed in asked["seeds"]:
            np.random.seed(seed)
            env._freeze_rand_vec = False
            env.reset()
            env._freeze_rand_vec = True
            observation, _ = env.reset()
            expert = ENV_POLICY_MAP[task]()
            for _ in range(_LIMIT):
                action = np.clip(expert.get_action(observation), -1.0, 1.0).astype(np.float32)
                observation, _, _, _, told = env.step(action)
                steps += 1
                if told["success"]:
                    successes += 1
                    break
        sys.stdout.write(json.dumps({"steps": steps, "successes": successes, "seconds": time.process_time() - began}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
