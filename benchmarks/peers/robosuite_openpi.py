"""robosuite, in its own environment and drawn by its own renderer, driven by a served policy through openpi's own client.

    embodichain serve runs/lift --dialect openpi --port 8000
    MUJOCO_GL=osmesa PYTHON benchmarks/peers/robosuite_openpi.py --port 8000 --task Lift --episodes 2

PYTHON is one with robosuite and openpi-client (`make foreign`); nothing of EmbodiChain is imported here. Pictures need a GL
library: OSMesa (libosmesa6) draws without a GPU. The last line is one JSON object: episodes, successes as robosuite counts them,
requests, control steps, and milliseconds a request.
"""

# pyright: reportMissingImports=false
import argparse
import json
import logging
import sys
import time

import numpy as np
import robosuite
from openpi_client.websocket_client_policy import WebsocketClientPolicy

_OPEN = 0.08
"""Of the Panda's gripper [m]."""


def main() -> None:
    """Plays the episodes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--task", default="Lift")
    parser.add_argument("--prompt", default="Lift the cube.")
    parser.add_argument("--episodes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=500, help="most control steps of an episode")
    options = parser.parse_args()
    for name in ("episodes", "steps"):
        if getattr(options, name) < 1:
            parser.exit(2, f"{parser.prog}: --{name} is 1 or more, got {getattr(options, name)}\n")
    logging.disable(logging.WARNING)
    policy = WebsocketClientPolicy(options.host, options.port)
    told = policy.get_server_metadata()
    cameras, (height, width, _) = list(told["cameras"]), told["image_shape"]
    env = robosuite.make(
        options.task,
        robots="Panda",
        has_renderer=False,
        has_offscreen_renderer=True,
        use_camera_obs=True,
        camera_names=cameras,
        camera_heights=height,
        camera_widths=width,
        ignore_done=True,
    )
    successes = steps = requests = 0
    took = 0.0
    for episode in range(options.episodes):
        seen = env.reset()
        done, played = False, 0
        while not done and played < options.steps:
            request = {
                "images": {
                    camera: np.ascontiguousarray(seen[f"{camera}_image"][::-1]) for camera in cameras
                },  # its first row is the lowest
                "state": measured(seen),
                "prompt": options.prompt,
                "session_id": f"episode {episode}",
            }
            began = time.perf_counter()
            chunk = policy.infer(request)["actions"]
            took += time.perf_counter() - began
            requests += 1
            for action in chunk[: options.steps - played]:
                seen, _, _, _ = env.step(action)
                played += 1
                done = done or bool(env._check_success())
        steps += played
        successes += done
    figures = {"episodes": options.episodes, "successes": successes, "requests": requests, "steps": steps}
    sys.stdout.write(json.dumps(figures | {"ms_a_request": round(1e3 * took / requests, 1), "chunk": list(chunk.shape)}) + "\n")


def measured(seen: dict[str, np.ndarray]) -> np.ndarray:
    """Hand position [m], rotation vector in units of pi, and opening as a share, as a policy of ours was trained on."""
    x, y, z, w = np.asarray(seen["robot0_eef_quat"]) * (1.0 if seen["robot0_eef_quat"][3] >= 0.0 else -1.0)
    sine = np.sqrt(x * x + y * y + z * z)
    turn = np.array([x, y, z]) * (2.0 * np.arctan2(sine, w) / sine if sine > 1e-12 else 2.0)
    left, right = seen["robot0_gripper_qpos"]
    return np.concatenate([seen["robot0_eef_pos"], turn / np.pi, [(left - right) / _OPEN]])


if __name__ == "__main__":
    main()
