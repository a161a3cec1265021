"""How jobs start: what this machine has, how many jobs share a stage, and stage words on the command line."""

import shutil

from ditgta import launch


def with_stage_words(prepare):
    """Wraps the making of the job graph so that `snakemake latents` and `-R score` mean the whole stage.

    Snakemake takes a rule with wildcards for `-R` but refuses it as a target, so a stage would need one word for each
    use. Settings of the command line reach the workflow only after this file has been read: hence a wrapper. Where a
    later Snakemake has other internals, it refuses stage words as targets, and all else works.
    """

    def prepared(*args, **options):
        on_slurm = workflow.executor_plugin is not None and workflow.executor_plugin.name == "slurm"
        if on_slurm and not workflow.output_settings.dryrun and shutil.which("sbatch") is None:
            raise WorkflowError(
                "jobs are to be sent with sbatch, which is not on PATH; start Snakemake on a node of the cluster, or leave out --profile slurm"
            )
        settings = workflow.dag_settings
        if STAGES.intersection(settings.targets):
            files = [
                stage_files(word, CONFIG.suite) if word in STAGES else [word] for word in settings.targets
            ]
            settings.targets = sum(files, [])
        settings.forcerun = {
            *settings.forcerun,
            *(COMPANIONS[word] for word in COMPANIONS.keys() & settings.forcerun),
        }
        return prepare(*args, **options)

    return prepared


COMPANIONS = {"score": "floor", "train": "import_checkpoint"}
if hasattr(workflow, "_prepare_dag") and hasattr(workflow, "dag_settings"):
    workflow._prepare_dag = with_stage_words(workflow._prepare_dag)


# What is at hand where the jobs run. On a cluster the profile says it, and a job that has arrived has its threads.
ON_THIS_MACHINE = workflow.is_main_process and workflow.resource_settings.nodes is None
CORES = workflow.resource_settings.cores or 4
IN_CONDA = "conda" in map(str, workflow.deployment_settings.deployment_method)
CARDS = launch.visible_cards() if ON_THIS_MACHINE else []
if CARDS and "gpu" not in workflow.global_resources:
    workflow.register_resource("gpu", len(CARDS))


scattergather:
    latents=1,
    sample=1,


def parts_of(wildcards):
    """Returns what the jobs that share a stage's work leave behind; nothing where one job does it all.

    What is finished keeps the parts it was made of: another number of jobs must not make it out of date.
    """
    folder = Path("results", wildcards.shared)
    count = len(getattr(gather, folder.parts[1])("{scatteritem}"))
    if (folder / "index.json").exists() and (folder / "parts.txt").exists():
        count = int((folder / "parts.txt").read_text())
    return [f"{folder}/parts/{i}-of-{count}" for i in range(1, count + 1)] if count > 1 else []


def side_by_side(whole):
    """Returns what each row gets of this machine's cores or cards when all rows of the suite run at once."""
    suite = CONFIG.suites[CONFIG.suite]
    rows = len(suite.experiments) * len(suite.seeds)
    return max(1, whole // rows) if ON_THIS_MACHINE else whole


# Functions that take threads are not tracked by Snakemake: how a job is launched never makes it out of date.
def command(wildcards, threads, resources):
    """Returns the words that start the program with the job's threads, cards and nodes."""
    return launch.command(threads, resources, len(CARDS), checkout=workflow.basedir if IN_CONDA else None)


def autoencoder_threads(wildcards):
    """Returns the cores of an autoencoder's job: a small one is trained on one, and the scorer beside it."""
    options = CONFIG.experiments[AUTOENCODERS[wildcards.autoencoder]].autoencoder
    return CORES if options.pretrained else max(1, CORES // 2)
