"""What a suite needs before days are spent on it: its inputs, this machine, the cluster. Each check gives lines."""
