"""Judging policies in closed loop in held-out scenes."""
