"""Policies that drive a robot with a trained agent."""
