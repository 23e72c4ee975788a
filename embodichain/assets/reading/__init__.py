"""Reads what others bring: mesh files, URDF, MJCF, USD and the output of generators, as unoptimised sources."""
