"""Many worlds stepped together by MuJoCo Warp, on a GPU or on the CPU: `physics=mujoco_warp`."""
