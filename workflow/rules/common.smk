"""What the rules share: the configuration, where results lie, and which file is made of which."""

import re
import shlex
from pathlib import Path

from snakemake.logging import logger
from snakemake.settings.enums import RerunTrigger

from ditgta.config import load
from ditgta.config.files import default_file, read_yaml
from ditgta.config.inheritance import merge
from ditgta.config.messages import did_you_mean
from ditgta.config.names import NOUNS, TARGETS
from ditgta.data.contents import Sources
from ditgta.layout import FOLDERS, SOURCES, Layout, Row, old_results, record_of
from ditgta.runtime.addresses import readable
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import spec_text

SNAKEFILE = Path(workflow.current_basedir, "../../Snakefile").resolve()
IS_MODULE = Path(workflow.main_snakefile).resolve() != SNAKEFILE
ROOT = workflow.pathvars.apply("<results>")


def load_layout():
    """Returns the files of the validated configuration; one that a module is given goes over config.yaml too."""
    raw = read_yaml(default_file(SNAKEFILE.parent)) if IS_MODULE else {}
    merge(raw, config)
    # A job takes what the workflow has found in the configuration's paths: it does not look again.
    sources = Sources(Path(ROOT, SOURCES), look=workflow.is_main_process, report=logger.warning)
    return Layout(load(raw), ROOT, sources)


try:
    LAYOUT = load_layout()
except InputError as error:
    raise WorkflowError(str(error)) from None

CONFIG, SPECS = LAYOUT.config, LAYOUT.specs
EXPERIMENTS, SUITES = CONFIG.experiments, CONFIG.suites

if workflow.is_main_process and (line := old_results(ROOT)):
    logger.warning(line)


pathvars:
    **FOLDERS,


def one_of(names):
    """Returns a pattern that matches these names alone, and nothing where there are none."""
    return "|".join(map(re.escape, names)) or "(?!)"


# What each rule works on; `-R sample` repeats samples and, by this, scores and table.
AFTER = {
    "list_images": (),
    "fit_autoencoder": ("list_images",),
    "encode": ("fit_autoencoder",),
    "train": ("encode",),
    "import_checkpoint": (),
    "sample": ("train", "import_checkpoint", "fit_autoencoder"),
    "measure_loss": ("train", "import_checkpoint", "fit_autoencoder"),
    "fit_scorer": ("list_images",),
    "score": ("sample", "fit_scorer"),
    "tabulate": ("score", "measure_loss"),
}


def is_repeated(name):
    """Returns whether -R names a rule or one before it; in a workflow that has taken this one as a module, by its names there."""
    words = workflow.dag_settings.forcerun
    named = any(word == name or (IS_MODULE and word.endswith(f"_{name}")) for word in words)
    return named or any(is_repeated(before) for before in AFTER[name])


def made_by(name, *files):
    """Returns files as inputs. Their path says of what they are, so their times say nothing: they are ancient.

    Only behind a rule that -R repeats they are not, so that Snakemake repeats what follows.
    """
    return list(files) if is_repeated(name) else [ancient(file) for file in files]


def given(name, outputs, files):
    """Returns a rule's inputs. A result that is there is given those that are there too: it is not made again because they are.

    Where Snakemake compares lists of inputs, which profiles/default turns off, the list must stay the same.
    """
    is_there = all(Path(file).exists() for file in outputs)
    if not is_there or is_repeated(name) or RerunTrigger.INPUT in workflow.rerun_triggers:
        return files
    return {key: [file for file in group if Path(file).exists()] for key, group in files.items()}


def owner(stage, wildcards):
    """Returns the experiment, or suite, or both, that a folder of results belongs to."""
    return LAYOUT.owners[stage][wildcards[stage]]


def named(stage):
    """Returns a function that gives a folder of results its readable name, in messages."""
    return lambda wildcards, output: readable(wildcards[stage].partition("/")[0])


def held(path, hub=False):
    """Returns the option by which a job makes sure that a path still holds what the plan was made for."""
    checksum = SPECS.held(path, hub)
    return f"--contents {shlex.quote(checksum)}" if checksum else ""


def refuse(wildcards):
    """Ends with one line that says what may have been meant."""
    meant = did_you_mean(wildcards.word, [*SUITES, *TARGETS])
    sys.exit(f"Error: there is no target {wildcards.word}{meant}")
