"""Meshes: shapes, topology, repair, convex decomposition, stable poses; no physics and no files."""
