"""Other people's data sets, out and in: LeRobot v3, robomimic's HDF5 and RoboTwin's layout."""

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
