"""One file per task: its goal, expert and success."""
