"""Meshes: shapes, topology, repair, convex decomposition, poses of rest; no physics and no files."""
