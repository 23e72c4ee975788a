"""Meta-World, in its own environment and drawn by its own renderer, driven by a served policy through openpi's own client.

    embodichain serve runs/metaworld_cpu --dialect openpi --port 8000
    MUJOCO_GL=osmesa PYTHON benchmarks/peers/metaworld_openpi.py --port 8000 --task reach-v3 --episodes 2

PYTHON is one with metaworld and openpi-client (`make .venv-foreign/.installed`); nothing of EmbodiChain is imported here. Pictures
need a GL library: OSMesa (libosmesa6) draws without a GPU. The last line is one JSON object: episodes, successes as Meta-World
counts them, requests, control steps, and milliseconds a request.
"""

# ruff: noqa: NPY002 Meta-World draws from that generator
# pyright: reportMissingImports=false
import argparse
import json
import sys
import time
import warnings

import mujoco
import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE
from openpi_client.websocket_client_policy import WebsocketClientPolicy

_LIMIT = 500
"""Control steps of an episode; after them Meta-World raises."""


def main() -> None:
    """Plays the episodes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--task", default="reach-v3")
    parser.add_argument("--prompt", default="Reach the goal.")
    parser.add_argument("--episodes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=_LIMIT, help="most control steps of an episode")
    options = parser.parse_args()
    if options.episodes < 1:
        parser.exit(2, f"{parser.prog}: --episodes is 1 or more, got {options.episodes}\n")
    if not 1 <= options.steps <= _LIMIT:
        parser.exit(2, f"{parser.prog}: --steps is 1 to {_LIMIT}, got {options.steps}\n")
    warnings.simplefilter("ignore")
    policy = WebsocketClientPolicy(options.host, options.port)
    told = policy.get_server_metadata()
    height, width, _ = told["image_shape"]
    env = ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE[f"{options.task}-goal-observable"](seed=0)
    successes = steps = requests = 0
    took = 0.0
    with mujoco.Renderer(env.model, height, width) as renderer:

        def see(camera: str) -> np.ndarray:
            renderer.update_scene(env.data, camera)
            return renderer.render()

        for episode in range(options.episodes):
            np.random.seed(episode)
            env._freeze_rand_vec = False
            env.reset()
            env._freeze_rand_vec = True
            observation, _ = env.reset()
            done, played = False, 0
            while not done and played < options.steps:
                pictures = {camera: see(camera) for camera in told["cameras"]}
                request = {
                    "images": pictures,
                    "state": observation[:4],
                    "prompt": options.prompt,
                    "session_id": f"episode {episode}",
                }
                began = time.perf_counter()
                chunk = policy.infer(request)["actions"]
                took += time.perf_counter() - began
                requests += 1
                for action in chunk[: options.steps - played]:
                    observation, _, _, _, info = env.step(action)
                    played += 1
                    done = done or bool(info["success"])
            steps += played
            successes += done
    figures = {"episodes": options.episodes, "successes": successes, "requests": requests, "steps": steps}
    sys.stdout.write(json.dumps(figures | {"ms_a_request": round(1e3 * took / requests, 1), "chunk": list(chunk.shape)}) + "\n")


if __name__ == "__main__":
    main()
