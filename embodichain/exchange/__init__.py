"""Other people's data sets, out and in: LeRobot v3, robomimic's HDF5 and RoboTwin's layout."""
