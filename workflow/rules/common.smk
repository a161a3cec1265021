"""What the rules share: the validated configuration, the names of files, the inputs and specs that rows decide."""

import re
from pathlib import Path

import ditgta.config
from ditgta.config import load
from ditgta.layout import Layout
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import spec_text

try:
    CONFIG = load(config)
except InputError as error:
    raise WorkflowError(str(error)) from None

STAGES = set(ditgta.config.STAGES)
LAYOUT = Layout(CONFIG)
TRAINED, IMPORTED = LAYOUT.trained, LAYOUT.imported
images_of, autoencoder_of, latents_of = LAYOUT.images_of, LAYOUT.autoencoder_of, LAYOUT.latents_of
rows_of, stage_files = LAYOUT.rows_of, LAYOUT.stage_files


def autoencoder_inputs(experiment):
    """Returns an autoencoder's twin, which is watched, and its weights, which are heavy and not."""
    folder = f"results/autoencoder/{autoencoder_of(experiment)}"
    weights = ancient(f"{folder}/diffusion_pytorch_model.safetensors")
    return {"weights": weights, "twin": f"{folder}/autoencoder.json"}


# Experiments with equal options share a folder; any one of them stands for it.
IMAGES = {images_of(name): name for name in CONFIG.experiments}
AUTOENCODERS = {autoencoder_of(name): name for name in CONFIG.experiments}
LATENTS = {latents_of(name): name for name in CONFIG.experiments}


def one_of(names):
    """Returns a pattern that matches these names alone, and nothing where there are none."""
    return "|".join(map(re.escape, names)) or "(?!)"


wildcard_constraints:
    suite=one_of(CONFIG.suites),
    experiment=one_of(CONFIG.experiments),
    seed="[0-9]+",
    step="[0-9]{7,12}",


def latents_inputs(wildcards):
    """Returns the index of the images and the autoencoder with its twin."""
    experiment = LATENTS[wildcards.latents]
    return {"images": f"results/images/{images_of(experiment)}/index.json"} | autoencoder_inputs(experiment)


def train_inputs(wildcards):
    """Returns the latents' index and, after the first milestone, the one before: heavy file unwatched, twin watched."""
    steps = [f"{step:07d}" for step in CONFIG.milestones(wildcards.experiment)]
    files = {"latents": f"results/latents/{latents_of(wildcards.experiment)}/index.json"}
    if (place := steps.index(wildcards.step) if wildcards.step in steps else 0) > 0:
        previous = f"results/train/{wildcards.experiment}/seed{wildcards.seed}/{steps[place - 1]}"
        files |= {"previous": ancient(f"{previous}.safetensors"), "previous_twin": f"{previous}.json"}
    return files


def train_flags(experiment):
    """Returns the flags of a training that change no result; a tracker is given the autoencoder to show samples with."""
    options = CONFIG.experiments[experiment].training
    shown = f" --autoencoder results/autoencoder/{autoencoder_of(experiment)}" if options.tracker else ""
    return options.free_flags() + shown


def sample_inputs(wildcards):
    """Returns the checkpoint and the autoencoder, each heavy file unwatched and its twin watched."""
    row = f"results/train/{wildcards.experiment}/seed{wildcards.seed}/{wildcards.step}"
    files = {"checkpoint": ancient(f"{row}.safetensors"), "checkpoint_twin": f"{row}.json"}
    return files | autoencoder_inputs(wildcards.experiment)


def score_inputs(wildcards):
    """Returns the scorer and the real images: the suite's reference file, or the images' index if it names none."""
    reference = CONFIG.suites[wildcards.suite].scorer.reference
    real = reference or f"{reference_of(wildcards)}/index.json"
    scorer = f"results/scorer/{wildcards.suite}/scorer"
    files = {"scorer": ancient(f"{scorer}.safetensors"), "scorer_twin": f"{scorer}.json"}
    # A plan must not need the reference on the disk; the stage says in one line when it is missing.
    return files | ({} if reference and not Path(reference).exists() else {"real": real})


def reference_of(wildcards):
    """Returns the reference file of a suite, or the folder of its images' index."""
    options = CONFIG.suites[wildcards.suite]
    return options.scorer.reference or f"results/images/{images_of(options.experiments[0])}"


def score_spec(wildcards):
    """Returns what a row's score file says of the row."""
    posenc = CONFIG.experiments[wildcards.experiment].model.posenc
    sampling = CONFIG.suites[wildcards.suite].sampling.spec()
    row = {"suite": wildcards.suite, "experiment": wildcards.experiment, "posenc": posenc}
    return spec_text({**row, "seed": int(wildcards.seed), "step": int(wildcards.step), "sampling": sampling})


def table_spec(wildcards):
    """Returns the table's rows, their order and the differences to show."""
    shown = {"experiments", "milestones", "seeds", "differences"}
    spec = CONFIG.suites[wildcards.suite].model_dump(mode="json", include=shown)
    return spec_text({"suite": wildcards.suite, **spec})
