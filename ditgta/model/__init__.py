"""The diffusion transformer and its positional encodings."""
