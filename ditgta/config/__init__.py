"""The configuration: what every option is, how experiments inherit, what is said of mistakes."""

from ditgta.config.files import default_file, read
from ditgta.config.inheritance import load, merge
from ditgta.config.inputs import Images, Latents
from ditgta.config.json_schema import json_schema
from ditgta.config.loss import Loss
from ditgta.config.messages import OTHER_NAMES, did_you_mean, fault
from ditgta.config.names import LATENT_FORMATS, OBJECTIVES, POSENCS, POSITIONS, ROTATIONS, STAGES
from ditgta.config.schema import (
    Autoencoder,
    Config,
    Experiment,
    Model,
    Sampling,
    Scorer,
    Suite,
    Training,
    TrainSpec,
)
from ditgta.config.section import Free, Section, flag_of

__all__ = [
    "LATENT_FORMATS",
    "OBJECTIVES",
    "OTHER_NAMES",
    "POSENCS",
    "POSITIONS",
    "ROTATIONS",
    "STAGES",
    "Autoencoder",
    "Config",
    "Experiment",
    "Free",
    "Images",
    "Latents",
    "Loss",
    "Model",
    "Sampling",
    "Scorer",
    "Section",
    "Suite",
    "TrainSpec",
    "Training",
    "default_file",
    "did_you_mean",
    "fault",
    "flag_of",
    "json_schema",
    "load",
    "merge",
    "read",
]
