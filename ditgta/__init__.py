"""ditgta: which positional encoding makes the better diffusion transformer, with error bars."""

import importlib

__version__ = "0.2.0"

# Public names and where they are defined: imported when asked for, so that configuration and command line stay free of torch.
_PUBLIC = {
    "DiT": "ditgta.model.dit",
    "DiTConfig": "ditgta.model.dit",
    "DiTPipeline": "ditgta.pipeline",
    "difference": "ditgta.report.difference",
    "guided": "ditgta.model.guidance",
    "load": "ditgta.loading",
    "results": "ditgta.frames",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'ditgta' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
