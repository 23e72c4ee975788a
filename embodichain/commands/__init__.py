"""The engine's commands, one file for each subject; a command imports its room only when it is called."""
