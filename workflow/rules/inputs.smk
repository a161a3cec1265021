"""What a job is given: the files that it works on, and the options of its experiment or suite."""


def images_of(experiment, size=None):
    """Returns the index of an experiment's images, at the size of training or at another one."""
    return {"images": made_by("list_images", f"{LAYOUT.images(experiment, size)}/index.json")}


def listed(wildcards):
    """Returns the experiment whose images are listed, and their size where that is not the size of training."""
    whose = owner("images", wildcards)
    return whose if isinstance(whose, tuple) else (whose, None)


def files_of_autoencoder(experiment):
    """Returns the record and the weights of an experiment's autoencoder."""
    folder = LAYOUT.path("autoencoder", experiment)
    return [f"{folder}/autoencoder.json", f"{folder}/diffusion_pytorch_model.safetensors"]


def autoencoder_of(experiment):
    """Returns an experiment's autoencoder."""
    return {"autoencoder": made_by("fit_autoencoder", *files_of_autoencoder(experiment))}


def decoder_of(experiment):
    """Returns the autoencoder that samples are decoded with; latents that came normalised have one beside them."""
    if SPECS.is_adapted(experiment):
        return {"autoencoder": made_by("encode", f"{LAYOUT.path('latents', experiment)}/index.json")}
    return autoencoder_of(experiment)


def files_of_checkpoint(row):
    """Returns the weights and the record of a row's checkpoint."""
    return [LAYOUT.checkpoint(row), record_of(LAYOUT.checkpoint(row))]


def checkpoint_of(row):
    """Returns a row's checkpoint."""
    name = "train" if row.experiment in LAYOUT.trained else "import_checkpoint"
    return made_by(name, *files_of_checkpoint(row))


def autoencoder_inputs(wildcards):
    """Returns the images."""
    experiment = owner("autoencoder", wildcards)
    return given("fit_autoencoder", files_of_autoencoder(experiment), images_of(experiment))


def autoencoder(wildcards):
    """Returns the options of an autoencoder."""
    return EXPERIMENTS[owner("autoencoder", wildcards)].autoencoder


def imported(wildcards, output=None):
    """Returns the options by which latents made elsewhere are taken; nothing where images are encoded."""
    source = getattr(EXPERIMENTS[owner("latents", wildcards)].latents, "from")
    return f"--from {shlex.quote(source)} {held(source)}" if source else ""


def latents_folder(wildcards, output=None):
    """Returns the folder of latents."""
    return LAYOUT.path("latents", owner("latents", wildcards))


def encode_inputs(wildcards):
    """Returns the images and the autoencoder."""
    experiment = owner("latents", wildcards)
    files = images_of(experiment) | autoencoder_of(experiment)
    return given("encode", [f"{latents_folder(wildcards)}/index.json"], files)


def trained_row(wildcards):
    """Returns the row of a checkpoint."""
    return Row(owner("train", wildcards), int(wildcards.seed), int(wildcards.step))


def train_inputs(wildcards):
    """Returns the latents and, after the first milestone, the one from which a missing milestone is trained on."""
    row = trained_row(wildcards)
    own = Path(record_of(LAYOUT.checkpoint(row)))
    before = [row._replace(step=step) for step in LAYOUT.chain(row.experiment) if step < row.step]
    if own.exists() and not is_repeated("train"):
        # What is there names the one that it was trained from, not one that has been put in between since.
        before = [one for one in before if is_before(Path(record_of(LAYOUT.checkpoint(one))), own)]
    files = {"latents": made_by("encode", f"{LAYOUT.path('latents', row.experiment)}/index.json")}
    files["before"] = checkpoint_of(before[-1]) if before else []
    return given("train", files_of_checkpoint(row), files)


def is_before(one, other):
    """Returns whether a file is there and not younger than another."""
    return one.exists() and one.stat().st_mtime_ns <= other.stat().st_mtime_ns


def train_flags(wildcards, output):
    """Returns the flags of a training that change no result; a tracker is given the autoencoder to show samples with."""
    experiment = owner("train", wildcards)
    options = EXPERIMENTS[experiment].training
    shown = f" --autoencoder {LAYOUT.decoder(experiment)}" if options.tracker else ""
    return options.free_flags() + shown


def objective_flag(experiment):
    """Returns what a checkpoint from elsewhere was trained for, where its file need not say it."""
    objective = EXPERIMENTS[experiment].training.objective
    return "" if objective == "ddpm" else f"--objective {objective}"


def row_of(stage, wildcards):
    """Returns the suite and the row of samples, or of held-out losses."""
    suite, experiment = owner(stage, wildcards)
    return suite, Row(experiment, int(wildcards.seed), int(wildcards.step))


def samples_folder(wildcards, output=None):
    """Returns the folder of a row's samples."""
    return LAYOUT.samples(*row_of("sample", wildcards))


def sample_inputs(wildcards):
    """Returns the checkpoint and the autoencoder."""
    _, row = row_of("sample", wildcards)
    folder = samples_folder(wildcards)
    files = {"checkpoint": checkpoint_of(row)} | decoder_of(row.experiment)
    return given("sample", [f"{folder}/index.json", f"{folder}/samples.npz"], files)


def sampling(wildcards):
    """Returns the options of sampling: each training seed has noise of its own, unless the suite names one for all."""
    options = CONFIG.sampling(*owner("sample", wildcards))
    is_named = options.training_seed is not None
    return options if is_named else options.of_training(int(wildcards.seed))


def loss_inputs(wildcards):
    """Returns the checkpoint, the autoencoder and the images."""
    suite, row = row_of("loss", wildcards)
    own = Path(LAYOUT.losses(suite, row))
    files = {"checkpoint": checkpoint_of(row)} | decoder_of(row.experiment) | images_of(row.experiment)
    return given("measure_loss", [own, own.with_suffix(".npz")], files)


def loss_options(wildcards):
    """Returns the options of held-out losses."""
    return CONFIG.loss(*owner("loss", wildcards))


def files_of_scorer(suite):
    """Returns the weights and the record of a suite's scorer."""
    folder = LAYOUT.path("scorer", suite)
    return [f"{folder}/scorer.safetensors", f"{folder}/scorer.json"]


def scorer_inputs(wildcards):
    """Returns the images on which a scorer is trained; nothing for one that is fetched."""
    suite = owner("scorer", wildcards)
    files = {} if SUITES[suite].scorer.weights else images_of(SPECS.first(suite))
    return given("fit_scorer", files_of_scorer(suite), files)


def scored_row(wildcards):
    """Returns the suite, the row of a score file and the size of its images, None where that is the size of training.

    The row is None where real images are scored against real ones.
    """
    folder, _, place = wildcards.score.partition("/")
    suite, whose = LAYOUT.owners["score"][folder]
    if not place:
        return suite, None, whose
    return suite, Row(whose, *map(int, re.findall("[0-9]+", place))), SPECS.size(suite, whose)


def score_inputs(wildcards):
    """Returns the scorer, the samples and the real images, unless the suite names a file of them."""
    suite, row, size = scored_row(wildcards)
    files = {"scorer": made_by("fit_scorer", *files_of_scorer(suite))}
    if row:
        files["samples"] = made_by("sample", f"{LAYOUT.samples(suite, row)}/index.json")
    if size or not SUITES[suite].scorer.reference:
        files |= images_of(SPECS.first(suite), size)
    own = LAYOUT.scores(suite, row) if row else LAYOUT.baseline(suite, size)
    return given("score", [own, f"{Path(own).with_suffix('.npz')}"], files)


def compared(wildcards, input):
    """Returns the samples or, of real images, how many are scored against others: as many as a row has samples."""
    suite, _, size = scored_row(wildcards)
    first = SPECS.first(suite)
    more = f" --training {LAYOUT.images(first, size)}" if SPECS.is_scored_on_held_out(suite) else ""
    if size:
        more += f" --crops {EXPERIMENTS[first].images.size}"
    if judge := SUITES[suite].scorer.judge:
        more += f" --judge {shlex.quote(judge)} --judge-contents {SPECS.held(judge)}"
    if "samples" in input.keys():
        return str(Path(input.samples[0]).parent) + more
    return f"--baseline --num-samples {SUITES[suite].sampling.num_samples}{more}"


def reference_of(wildcards, output):
    """Returns the suite's file of real images, or the folder of an index: of held-out images or of its images."""
    suite, _, size = scored_row(wildcards)
    return LAYOUT.reference(suite, size)


def held_reference(wildcards, output):
    """Returns the option by which a job makes sure that the suite's file of real images is the one that was planned for."""
    suite, _, size = scored_row(wildcards)
    return "" if size else held(SUITES[suite].scorer.reference)


def table_inputs(wildcards):
    """Returns the scores and training records of all rows, in their order, and what rows share."""
    suite = owner("table", wildcards)
    rows, shared = LAYOUT.rows(suite), ("images", "autoencoder", "latents", "scorer")
    scores = [LAYOUT.scores(suite, row) for row in rows]
    sized = [LAYOUT.scores(suite, row) for row in LAYOUT.sized_rows(suite)]
    sized += [LAYOUT.baseline(suite, size) for size in LAYOUT.sizes(suite)[1:]]
    files = {
        "scores": made_by("score", *scores),
        "influence": made_by("score", *(f"{Path(file).with_suffix('.npz')}" for file in scores)),
        "losses": made_by("measure_loss", *losses_of(suite, rows)),
        "averaged": made_by("measure_loss", *losses_of(suite, LAYOUT.averaged_rows(suite))),
        "baseline": made_by("score", LAYOUT.baseline(suite)),
        "sized": made_by("score", *sized),
        "swept": made_by("score", *(LAYOUT.scores(suite, row) for row in LAYOUT.swept_rows(suite))),
        "training": made_by("train", *(record_of(LAYOUT.checkpoint(row)) for row in rows)),
        "shared": made_by("encode", *(file for noun in shared for file in LAYOUT.files(noun, suite))),
        "images": made_by("list_images", LAYOUT.files("images", suite)[0]),
    }
    return given("tabulate", LAYOUT.files("table", suite), files)


def losses_of(suite, rows):
    """Returns the held-out losses of rows, nothing where no images are held out."""
    return [LAYOUT.losses(suite, row) for row in rows] if LAYOUT.has_losses(suite) else []


def table_flags(wildcards, input):
    """Returns the options that name what a suite need not have: losses, other sizes, further points of a sweep."""
    names = ("losses", "averaged", "sized", "swept")
    return " ".join(f"--{name} {' '.join(input[name])}" for name in names if input[name])


def like(row):
    """Returns a row beside the table's by the experiment of which it is a variant."""
    return EXPERIMENTS[row.experiment].like, *row[1:]


def table_spec(wildcards, output):
    """Returns how a table is shown, and which row each of its score files is."""
    suite = owner("table", wildcards)
    rows = {"rows": LAYOUT.rows(suite)}
    rows["sized_rows"] = [like(row) for row in LAYOUT.sized_rows(suite)]
    rows["swept_rows"] = [
        (*like(row), EXPERIMENTS[row.experiment].sampling.choice) for row in LAYOUT.swept_rows(suite)
    ]
    if averaged := LAYOUT.averaged_rows(suite):
        rows["averaged_rows"] = [like(row) for row in averaged]
    return spec_text({**SPECS.table(suite), **rows, "config": SPECS.configuration(suite)})
