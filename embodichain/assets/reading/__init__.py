"""Reads files by other people, as unoptimised sources: mesh files, URDF, MJCF, USD, and the output of generators."""
