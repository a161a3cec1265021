"""The configuration: what every option is, how experiments inherit, what is said of mistakes."""

# ruff: noqa: F401 - what others import from here is imported here

from ditgta.config.files import default_file, read
from ditgta.config.inheritance import load, merge
from ditgta.config.inputs import Images, Latents
from ditgta.config.loss import Loss
from ditgta.config.messages import OTHER_NAMES, check_suite, did_you_mean, fault
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
    json_schema,
)
from ditgta.config.section import Free, Section, flag_of
