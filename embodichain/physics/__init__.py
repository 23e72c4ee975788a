"""Worlds that hold one scene: MuJoCo, the counting world that verifies the pipe, and the ray-cast renderer."""
