"""The command line: `python -m ditgta STAGE ...`. The only place that parses one; imports a stage only to run it."""

import argparse
import contextlib
import errno
import os
import signal
import sys
from pathlib import Path

# Threads that wait for each other spin for microseconds, then sleep: long spinning takes the cores of jobs beside them, and waking
# costs as much as a small operation. Read when torch is first imported.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

from ditgta import __version__, config, flags, launch
from ditgta.runtime.errors import InputError, Stopped
from ditgta.runtime.lease import lease


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the whole command line."""
    parser = flags.Parser(prog="ditgta", description=__doc__.split(". ")[0] + ".")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="STAGE", required=True, dest="stage", parser_class=flags.Parser)

    def command(
        name: str,
        run,
        text: str,
        *sections: type[config.Section],
        aliases: tuple[str, ...] = (),
        spec: bool = True,
    ):
        sub = commands.add_parser(name, help=text, description=text, aliases=aliases)
        sub.set_defaults(run=run, parser=sub)
        for section in sections:
            flags.add_section(sub, section)
        if spec:
            sub.add_argument(
                "--spec",
                type=flags.spec_of,
                default={},
                metavar="JSON",
                help="options as JSON or a JSON file; flags go before it",
            )
        return sub

    shards = {
        "--part": {
            "type": flags.part_of,
            "metavar": "K/N",
            "default": (0, 1),
            "help": "make only shards K, K+N, ... (K from 1); run --gather at the end",
        },
        "--gather": {
            "action": "store_true",
            "help": "check all shards and write index.json, when parts made them",
        },
    }
    suite = {
        "--configfile": {
            "type": Path,
            "nargs": "+",
            "default": [Path("config.yaml")],
            "metavar": "FILE",
            "help": "configuration; later files are merged over earlier ones",
        },
        "--suite": {"default": None, "help": "suite (none: the configuration's)"},
    }
    folder = {"type": Path, "required": True, "metavar": "DIR", "default": argparse.SUPPRESS}
    new_folder = {**folder, "type": flags.new_folder}
    new_file = {**folder, "type": flags.new_file, "metavar": "FILE"}

    sub = command(
        "images", run_images, "list (or make) the images, each checked by decoding it", config.Images
    )
    sub.add_argument("--out", **new_folder, help="folder for the index")

    sub = command("autoencoder", run_autoencoder, "fetch, or train, the autoencoder", config.Autoencoder)
    sub.add_argument("--images", **folder, help="folder of the images' index")
    sub.add_argument("--out", **new_folder, help="folder for the autoencoder, in diffusers' format")

    text = "encode the images to latent shards, or import latents made elsewhere"
    sub = command("latents", run_latents, text, config.Latents, aliases=("extract-latents",))
    at_hand = {"type": Path, "default": None, "metavar": "DIR"}
    sub.add_argument("--images", **at_hand, help="folder of the images' index")
    sub.add_argument("--autoencoder", **at_hand, help="folder of the autoencoder")
    sub.add_argument("--out", **new_folder, help="folder for the shards")
    sub.add_argument("--batch-size", type=flags.count, default=32, help="images per forward pass")
    for flag, options in shards.items():
        sub.add_argument(flag, **options)

    sub = command(
        "train", run_train, "train a diffusion transformer on latents", config.Model, config.Training
    )
    sub.add_argument("--latents", **folder, help="folder of the latent shards")
    sub.add_argument(
        "--out", **new_folder, help="folder for the checkpoints, one file per milestone: STEP.safetensors"
    )
    sub.add_argument(
        "--milestones",
        type=flags.numbers,
        required=True,
        metavar="STEPS",
        help="steps at which a checkpoint is kept, e.g. 200000,2500000; the last ends the training",
    )
    sub.add_argument(
        "--autoencoder",
        type=Path,
        default=None,
        metavar="DIR",
        help="folder of the autoencoder: a tracker then gets samples at each snapshot",
    )
    sub.add_argument(
        "--seed",
        type=int,
        default=argparse.SUPPRESS,
        help="seed of weights, order, noise and drops (default: 0)",
    )

    sub = command("sample", run_sample, "sample images from a checkpoint", config.Sampling)
    sub.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        default=argparse.SUPPRESS,
        metavar="FILE",
        help="checkpoint; its EMA weights are used",
    )
    sub.add_argument("--autoencoder", **folder, help="folder of the autoencoder")
    sub.add_argument(
        "--out",
        type=flags.new_output,
        metavar="PATH",
        default=None,
        help="folder for shards and samples.npz, or one .npz file",
    )
    sub.add_argument(
        "--grid", type=flags.new_file, metavar="FILE", default=None, help="write a labelled picture instead"
    )
    sub.add_argument(
        "--classes",
        type=flags.numbers,
        default=None,
        metavar="LABELS",
        help="labels of the picture's columns, e.g. 207,360,387",
    )
    sub.add_argument("--rows", type=flags.count, default=4, help="rows of the picture")
    for flag, options in shards.items():
        sub.add_argument(flag, **options)

    text = "draw one image under several checkpoints at several sizes, side by side"
    sub = command("sizes", run_sizes, text, config.Sampling)
    sub.add_argument("checkpoints", type=Path, nargs="+", metavar="CHECKPOINT", help="rows of the picture")
    sub.add_argument("--autoencoder", **folder, help="folder of the autoencoder")
    sub.add_argument("--out", **new_file, help="picture to write (.png)")
    text = "sizes in pixels beside that of training, separated by commas, e.g. 64,64x96"
    sub.add_argument("--sizes", type=flags.sizes, required=True, metavar="SIZES", help=text)
    text = "how places are told at each of them, a column for each"
    sub.add_argument("--methods", nargs="+", choices=config.POSITIONS, default=["extrapolate"], help=text)
    sub.add_argument("--label", type=int, default=0, help="class of the image")

    text = "show what encodings make of places, and how far trained networks attend"
    sub = command("show-encoding", run_show_encoding, text, spec=False)
    text = "encoding, MODULE:CLASS of your own, or checkpoint (.safetensors)"
    sub.add_argument("names", nargs="+", metavar="NAME", help=text)
    sub.add_argument("--out", **new_file, help="picture to write (.png)")
    sub.add_argument("--model", default="DiT-B/2", help="size of network for those that are no checkpoint")
    sub.add_argument(
        "--image-size", type=flags.count, default=256, metavar="PIXELS", help="side of its images"
    )

    sub = command(
        "scorer", run_scorer, "train a small Inception network as the scorer of the images", config.Scorer
    )
    sub.add_argument("--images", **folder, help="folder of the images' index")
    sub.add_argument("--out", **new_file, help="weights (.safetensors)")

    sub = command(
        "score",
        run_score,
        "score samples against a reference: FID, sFID, Inception Score, KID, precision, recall, ...",
    )
    sub.add_argument(
        "reference",
        type=Path,
        metavar="REFERENCE",
        help="npz (statistics or images), folder of images or of the images' index",
    )
    sub.add_argument(
        "samples",
        type=Path,
        metavar="SAMPLES",
        nargs="?",
        default=None,
        help="npz, folder of sample shards, or folder of images",
    )
    sub.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        default=None,
        help="Inception weights; none: pt_inception-2015-12-05-6726825d.pth where the documentation says",
    )
    sub.add_argument("--out", **new_file, help="scores (.json)")
    sub.add_argument(
        "--floor", action="store_true", help="score images of REFERENCE, drawn at random, against its others"
    )
    sub.add_argument(
        "--num-samples",
        type=flags.count,
        default=None,
        metavar="N",
        help="images that --floor draws: as many as the rows have samples, at most half (none: half)",
    )
    sub.add_argument("--batch-size", type=flags.count, default=32, help="images per forward pass")
    sub.add_argument(
        "--cache",
        type=flags.new_folder,
        default=None,
        metavar="DIR",
        help="folder for features (none: beside the samples)",
    )

    sub = command("table", run_table, "put scores into a table: CSV, Markdown and HTML with pictures")
    sub.add_argument(
        "--scores",
        type=Path,
        nargs="+",
        required=True,
        default=argparse.SUPPRESS,
        metavar="FILE",
        help="score files",
    )
    sub.add_argument(
        "--training",
        type=Path,
        nargs="*",
        default=[],
        metavar="FILE",
        help="twins of checkpoints, for the loss curves",
    )
    sub.add_argument(
        "--shared",
        type=Path,
        nargs="*",
        default=[],
        metavar="FILE",
        help="twins of what rows share (images, autoencoder, latents, scorer), for the cost",
    )
    sub.add_argument(
        "--floor", type=Path, default=None, metavar="FILE", help="scores of real against real images"
    )
    sub.add_argument(
        "--images",
        type=Path,
        default=None,
        metavar="DIR",
        help="folder of the images' index, for real images beside samples and names of classes",
    )
    sub.add_argument("--out", **new_folder, help="folder for the table")

    sub = command(
        "plan", run_plan, "say what a suite will cost: jobs, operations, storage, hours", spec=False
    )
    for flag, options in suite.items():
        sub.add_argument(flag, **options)
    sub.add_argument(
        "--device",
        default="here",
        help="device: here (this machine), v100, a100, h100, h200, rtx4090 or laptop",
    )
    text = "number of devices (default: one; of this machine all)"
    sub.add_argument("--devices", type=flags.count, default=None, metavar="N", help=text)
    sub.add_argument("--nodes", type=flags.count, default=1, help="number of nodes that they are spread over")
    text = (
        "GB/s of the slowest link between devices (default: NVLink or PCIe of the device; 25 between nodes)"
    )
    sub.add_argument("--bandwidth", type=float, default=None, metavar="GB/S", help=text)
    text = "share of the peak rate that is reached (default: what is known of the device, often a range)"
    sub.add_argument("--efficiency", type=float, default=None, metavar="SHARE", help=text)
    sub.add_argument(
        "--images",
        type=flags.count,
        default=None,
        metavar="N",
        help="number of images, where it is not known",
    )
    sub.add_argument(
        "--classes", type=flags.count, default=1000, metavar="N", help="number of classes, with --images"
    )
    sub.add_argument(
        "--out", type=flags.new_file, default=None, metavar="FILE", help="write the plan as JSON too"
    )

    text = "look at a folder of images and propose experiments and a suite for it"
    sub = command("new-experiment", run_new_experiment, text, spec=False)
    sub.add_argument("--images", **folder, help="folder that holds one folder of images per class")
    sub.add_argument("--name", default=None, help="name of the suite (none: the folder's)")
    sub.add_argument("--hours", type=float, default=1.0, help="time that it may take on this machine")
    sub.add_argument("--configfile", **suite["--configfile"])
    sub.add_argument("--write", action="store_true", help="append the proposal to the last --configfile")

    sub = command("status", run_status, "say how far each row of a suite is", spec=False)
    for flag, options in suite.items():
        sub.add_argument(flag, **options)
    sub.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="results folder")
    sub.add_argument("--json", action="store_true", help="print JSON")
    text = "seconds for which heartbeats of jobs on other machines are watched; they beat every 5"
    sub.add_argument("--wait", type=float, default=12.0, metavar="SECONDS", help=text)

    sub = command("import-checkpoint", run_import, "take over a published checkpoint", config.Model)
    sub.add_argument(
        "source",
        type=Path,
        metavar="FILE",
        help="the references' .pt, a .safetensors of the same keys, or a diffusers folder",
    )
    sub.add_argument("out", type=flags.new_file, metavar="OUT", help="checkpoint to write (.safetensors)")
    sub.add_argument(
        "--image-size",
        type=flags.count,
        default=None,
        metavar="PIXELS",
        help="side of the images, where the file does not say it",
    )
    text = "what it was trained for, where the file does not say it; sit: flow with SiT's time and sign (none: ddpm)"
    sub.add_argument("--objective", choices=[*config.OBJECTIVES, "sit"], default=None, help=text)

    sub = command(
        "export-checkpoint", run_export, "write a checkpoint in the references' key layout", spec=False
    )
    sub.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="checkpoint of this project")
    sub.add_argument(
        "out",
        type=flags.new_file,
        metavar="OUT",
        help=".pt (model, ema, args) or .safetensors (EMA weights alone)",
    )

    text = "write a checkpoint as a folder that from_pretrained and the Hugging Face hub know"
    sub = command("save-pretrained", run_save_pretrained, text, spec=False)
    sub.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="its EMA weights are taken")
    sub.add_argument("out", type=flags.new_folder, metavar="FOLDER", help="folder to write")
    sub.add_argument("--autoencoder", **folder, help="folder of the autoencoder that it was trained with")
    text = "score file of the checkpoint, for the model card"
    sub.add_argument("--scores", type=Path, default=None, metavar="FILE", help=text)
    text = "folder of the table in which it stands, for the model card"
    sub.add_argument("--table", type=Path, default=None, metavar="DIR", help=text)

    text = "upload a folder of save-pretrained to the Hugging Face hub"
    sub = command("push", run_push, text, spec=False)
    sub.add_argument("folder", type=Path, metavar="FOLDER", help="folder that save-pretrained wrote")
    sub.add_argument("repository", metavar="OWNER/NAME", help="repository; made where there is none")
    sub.add_argument("--private", action="store_true", help="make it private")
    return parser


def run_images(arguments) -> None:
    from ditgta.stages import images

    options = flags.read_section(arguments, config.Images, arguments.spec)
    images.run(out=arguments.out, spec=options.spec(), repack=options.repack)


def run_autoencoder(arguments) -> None:
    from ditgta.stages import autoencoder

    spec = flags.read_section(arguments, config.Autoencoder, arguments.spec).spec()
    autoencoder.run(images=arguments.images, out=arguments.out, spec=spec)


def run_latents(arguments) -> None:
    from ditgta.stages import latents

    options = flags.read_section(arguments, config.Latents, arguments.spec.get("latents"))
    latents.run(
        images=arguments.images,
        autoencoder=arguments.autoencoder,
        out=arguments.out,
        part=None if arguments.gather else arguments.part,
        batch_size=arguments.batch_size,
        spec={**arguments.spec, "latents": options.spec()} if options.format else arguments.spec,
    )


def run_train(arguments) -> None:
    from ditgta.stages import train

    given = flags.read_section(argparse.Namespace(), config.TrainSpec, arguments.spec)
    train.run(
        latents=arguments.latents,
        out=arguments.out,
        milestones=arguments.milestones,
        model=flags.read_section(arguments, config.Model, given.model),
        training=flags.read_section(arguments, config.Training, given.training),
        seed=getattr(arguments, "seed", given.seed),
        autoencoder=arguments.autoencoder,
    )


def run_sample(arguments) -> None:
    from ditgta.stages import sample

    options = flags.read_section(arguments, config.Sampling, arguments.spec)
    if (arguments.out is None) == (arguments.grid is None):
        raise InputError("say where to write: one of --out FOLDER, --out FILE.npz and --grid FILE.png")
    if arguments.grid is not None:
        sample.run_grid(
            checkpoint=arguments.checkpoint,
            autoencoder=arguments.autoencoder,
            out=arguments.grid,
            classes=arguments.classes,
            rows=arguments.rows,
            sampling=options,
        )
        return
    sample.run(
        checkpoint=arguments.checkpoint,
        autoencoder=arguments.autoencoder,
        out=arguments.out,
        sampling=options,
        part=None if arguments.gather else arguments.part,
    )


def run_sizes(arguments) -> None:
    from ditgta.stages import sizes

    sizes.run(
        arguments.checkpoints,
        arguments.autoencoder,
        arguments.out,
        arguments.sizes,
        arguments.methods,
        arguments.label,
        flags.read_section(arguments, config.Sampling, arguments.spec | {"size": arguments.sizes[0]}),
    )


def run_show_encoding(arguments) -> None:
    from ditgta.stages import show_encoding

    show_encoding.run(arguments.names, arguments.out, arguments.model, arguments.image_size)


def run_scorer(arguments) -> None:
    from ditgta.stages import scorer

    scorer.run(
        images=arguments.images,
        out=arguments.out,
        spec=flags.read_section(arguments, config.Scorer, arguments.spec).spec(),
    )


def run_score(arguments) -> None:
    from ditgta.stages import score

    score.run(
        reference=arguments.reference,
        samples=arguments.samples,
        weights=arguments.weights,
        out=arguments.out,
        floor=arguments.floor,
        num_samples=arguments.num_samples,
        batch_size=arguments.batch_size,
        cache=arguments.cache,
        spec=arguments.spec,
    )


def run_new_experiment(arguments) -> None:
    from ditgta.stages import new_experiment

    new_experiment.run(
        images=arguments.images,
        name=arguments.name,
        hours=arguments.hours,
        raw=flags.configuration(arguments.configfile),
        file=arguments.configfile[-1],
        write=arguments.write,
    )


def run_status(arguments) -> None:
    from ditgta.stages import status

    loaded = config.load(flags.configuration(arguments.configfile))
    suite = arguments.suite or loaded.suite
    status.run(loaded, suite, arguments.results, arguments.wait, arguments.json)


def run_plan(arguments) -> None:
    from ditgta.stages import plan

    loaded = config.load(flags.configuration(arguments.configfile))
    plan.run(
        loaded,
        arguments.suite or loaded.suite,
        arguments.device,
        arguments.devices,
        arguments.nodes,
        arguments.bandwidth,
        arguments.efficiency,
        (arguments.images, arguments.classes) if arguments.images else None,
        arguments.out,
    )


def run_import(arguments) -> None:
    from ditgta.stages import published

    model = flags.read_section(arguments, config.Model, arguments.spec.get("model"))
    said = {key.removeprefix("Model.") for key in vars(arguments) if key.startswith("Model.")}
    said |= set(arguments.spec.get("model", {}))
    given = {key: value for key, value in model.spec().items() if key in said}
    published.run_import(
        arguments.source, arguments.out, given, arguments.image_size, objective=arguments.objective
    )


def run_export(arguments) -> None:
    from ditgta.stages import published

    published.run_export(arguments.checkpoint, arguments.out)


def run_save_pretrained(arguments) -> None:
    from ditgta.stages import pretrained

    pretrained.run_save(
        arguments.checkpoint, arguments.out, arguments.autoencoder, arguments.scores, arguments.table
    )


def run_push(arguments) -> None:
    from ditgta.stages import pretrained

    pretrained.run_push(arguments.folder, arguments.repository, arguments.private)


def run_table(arguments) -> None:
    from ditgta.stages import table

    table.run(
        scores=arguments.scores,
        training=arguments.training,
        out=arguments.out,
        floor=arguments.floor,
        images=arguments.images,
        spec=arguments.spec,
        shared=arguments.shared,
    )


def hold_output(arguments: argparse.Namespace) -> contextlib.AbstractContextManager:
    """Returns the lease on what a command writes: a second writer of the same is refused. A trainer's is finer, on its run folder."""
    out = getattr(arguments, "out", None) or getattr(arguments, "grid", None)
    if out is None or arguments.run is run_train or os.environ.get("RANK", "0") != "0":
        return contextlib.nullcontext()
    share, shares = getattr(arguments, "part", (0, 1))
    part = f".{share + 1}-of-{shares}" if shares > 1 and not arguments.gather else ""
    out = out.absolute()
    return lease(out.parent, f"another `ditgta {arguments.stage}` for {out.name}", f".{out.name}{part}.lease")


# What the machine refuses and its user can mend: a full or read-only disk, missing rights, a broken quota.
REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
OUT_OF_MEMORY = ("out of memory", "can't allocate memory")  # torch's words on cards and on processors


def main(words: list[str] | None = None) -> int:
    """Runs one stage; returns the exit code: 0, or 2 for a mistake that the user can mend."""
    arguments = build_parser().parse_args(words)
    first = os.environ.get("RANK", "0") == "0"
    try:
        with hold_output(arguments):
            arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output, `head` for one, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except InputError as error:
        if first or "rank" in str(error):
            print(f"ditgta {arguments.stage}: error: {error}", file=sys.stderr, flush=True)
        return 2
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        verb = "open" if isinstance(error, PermissionError) else "write"
        line = f"cannot {verb} {error.filename or 'results'}: {os.strerror(error.errno)}; free space or mend the permissions, then run again"
        print(f"ditgta {arguments.stage}: error: {line}", file=sys.stderr, flush=True)
        return 2
    except Stopped as stopped:
        if first:
            print(f"ditgta {arguments.stage}: {stopped}", file=sys.stderr, flush=True)
            if stopped.signal == signal.SIGUSR1:
                launch.requeue()
        return 130 if stopped.signal == signal.SIGINT else 143
    except (MemoryError, RuntimeError) as error:
        told = " ".join(str(error).split()) or "MemoryError"
        if not isinstance(error, MemoryError) and not any(words in told for words in OUT_OF_MEMORY):
            raise
        line = f"not enough memory ({told[:120]}); lower the batch size (in training: micro_batch) or the model's size"
        print(f"ditgta {arguments.stage}: error: {line}", file=sys.stderr, flush=True)
        return 2
    except KeyboardInterrupt as stop:
        if first:
            print(f"ditgta {arguments.stage}: interrupted; run the same command to go on", file=sys.stderr)
        return 128 + (stop.args[0] if stop.args else signal.SIGINT)
    return 0


def interrupt(number, frame):
    """Treats SIGTERM as Ctrl-C: temporary files and leases are taken away on the way out."""
    raise KeyboardInterrupt(number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, interrupt)
    code = main()
    if os.environ.get("WORLD_SIZE", "1") != "1":
        # A thread of gloo that still holds a tensor while the interpreter is taken down aborts the process, whose work is done.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
