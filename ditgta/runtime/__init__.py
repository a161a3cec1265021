"""Files, checkpoints, random streams, process groups and progress."""
