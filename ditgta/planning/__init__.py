"""What a suite will cost, as formulas: operations, parameters, bytes and hours, before anything runs."""
