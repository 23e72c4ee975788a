"""Policies behind a websocket, for robots in other processes."""
