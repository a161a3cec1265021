"""ditgta: which positional encoding makes the better diffusion transformer, with error bars."""

__version__ = "0.1.0"
__all__ = ["DiT", "DiTPipeline", "__version__"]


def __getattr__(name: str):
    """Imports model and pipeline only when asked for, so that configuration and command line stay free of torch."""
    if name == "DiT":
        from ditgta.model.dit import DiT

        return DiT
    if name == "DiTPipeline":
        from ditgta.pipeline import DiTPipeline

        return DiTPipeline
    raise AttributeError(f"module 'ditgta' has no attribute {name!r}")
