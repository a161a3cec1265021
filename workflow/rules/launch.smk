"""How jobs start: what this machine has, and how many jobs share a stage."""

import shutil

from ditgta import launch
from ditgta.planning.work import SuiteWork
from ditgta.preflight.needs import memory_needs

# What the machine of the jobs has. On a cluster the profile says it, and a job that has arrived has its threads.
ON_THIS_MACHINE = workflow.is_main_process and workflow.resource_settings.nodes is None
CORES = workflow.resource_settings.cores or 4
DEPLOYED = set(map(str, workflow.deployment_settings.deployment_method))
IN_CONTAINER = "apptainer" in DEPLOYED
try:
    GPUS = launch.visible_gpus() if ON_THIS_MACHINE else []
except InputError as error:
    raise WorkflowError(str(error)) from None
if GPUS and "gpu" not in workflow.global_resources:
    workflow.register_resource("gpu", len(GPUS))


scattergather:
    encode=1,
    sample=1,


def refuse_without_sbatch():
    """Ends with one line where jobs are to be sent to Slurm from a machine without it."""
    if workflow.executor_plugin.name == "slurm" and shutil.which("sbatch") is None:
        sys.exit(
            "Error: jobs are to be sent with sbatch, which is not on PATH; start Snakemake on a node of the cluster, "
            "or leave out --profile slurm"
        )


def resources_given(rule):
    """Returns the resources that the profile gives a rule's jobs, those that it computes for each job left out."""
    given = {}
    for source in (
        workflow.resource_settings.default_resources,
        workflow.resource_settings.overwrite_resources.get(rule),
    ):
        given |= {name: getattr(resource, "raw", resource) for name, resource in (source or {}).items()}
    return {name: value for name, value in given.items() if not callable(value)}


def refuse_small_profile(suites):
    """Ends with one line where a suite's jobs need more than the profile gives them: they would die after days, or hours."""
    if workflow.executor_plugin.name != "slurm":
        return
    for suite in suites:
        for need in memory_needs(SuiteWork(CONFIG, suite), resources_given):
            if not need.is_met:
                sys.exit(
                    f"Error: suite {suite}: {need.said('the profile')}; use --profile slurm-paper, or raise mem_mb of {need.rule} "
                    "in the profile (`ditgta check` says what else is missing)"
                )


def parts_of(scatter, index):
    """Returns what the jobs that share the making of an index leave behind; nothing where one job does it all, or it is there."""
    parts = getattr(gather, scatter)(f"{index.removesuffix('index.json')}parts/{{scatteritem}}")
    return parts if len(parts) > 1 and not Path(index).exists() else []


def part_of(wildcards, output):
    """Returns the option that makes one share of the work."""
    return f" --part {wildcards.scatteritem.replace('-of-', '/')}"


def side_by_side(whole):
    """Returns what each row gets of this machine's cores or GPUs when all rows of the suite run at once."""
    suite = SUITES[CONFIG.suite]
    rows = len(suite.experiments) * len(suite.seeds)
    return max(1, whole // rows) if ON_THIS_MACHINE else whole


# Snakemake does not track functions that take output or threads: only what decides a result may make it again, and the path says that.
def command(wildcards, threads, resources):
    """Returns the words that start the program with the job's threads, GPUs and nodes."""
    checkout = str(SNAKEFILE.parent) if DEPLOYED & {"conda", "apptainer"} else None
    words = launch.command(threads, resources, len(GPUS), checkout=checkout)
    return f"PATH={shlex.quote(checkout)}/envs/container:$PATH {words}" if IN_CONTAINER else words


def autoencoder_threads(stage):
    """Returns a function that gives the cores of a job with an autoencoder: half for a small one, as the scorer is trained beside it."""

    def threads(wildcards):
        pretrained = EXPERIMENTS[owner(stage, wildcards)].autoencoder.pretrained
        return CORES if pretrained else max(1, CORES // 2)

    return threads
