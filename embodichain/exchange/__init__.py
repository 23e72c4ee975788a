"""Exports trajectories as data sets in others' formats (LeRobot v3, robomimic's HDF5, RoboTwin's layout) and reads LeRobot v3."""

__all__ = [
    "card",
    "files",
    "lerobot_layout",
    "lerobot_reader",
    "lerobot_writer",
    "mapping",
    "recorded",
    "robomimic",
    "robotwin",
    "sources",
    "statistics",
    "writers",
]
