"""The chain from source to published USD asset: its stages, jobs, workers and catalogue."""
