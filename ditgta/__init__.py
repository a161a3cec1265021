"""ditgta: which positional encoding makes the better diffusion transformer, with error bars."""

__version__ = "0.1.0"
__all__ = ["DiT", "__version__"]


def __getattr__(name: str):
    """Imports the model only when asked for, so that configuration and command line stay free of torch."""
    if name == "DiT":
        from ditgta.model.dit import DiT

        return DiT
    raise AttributeError(f"module 'ditgta' has no attribute {name!r}")
