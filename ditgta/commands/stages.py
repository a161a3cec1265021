"""The stages from images to table as commands."""

import argparse

from ditgta import config, flags
from ditgta.commands.shared import (
    add_batch_size,
    add_checkpoint_and_autoencoder,
    add_command,
    add_contents,
    add_count,
    add_output,
    add_parts,
    add_path,
    part_of,
    stage_function,
    taken,
)
from ditgta.data.contents import check_contents
from ditgta.runtime.errors import InputError


def add_images(commands) -> None:
    text = "list (or make) the images, and decode each one to check it"
    parser = add_command(commands, "images", run_images, text, config.Images)
    add_output(parser, flags.new_folder, "folder for the index")
    text = "HEIGHTxWIDTH in pixels, instead of a square of --size: real images for samples of that size"
    parser.add_argument("--crop", type=flags.sizes, default=None, metavar="SIZE", help=text)
    text = "smallest number of images, and of held-out images if any are held out; a table needs 4"
    add_count(parser, "--least", text, 1)
    add_contents(parser)


def run_images(arguments) -> None:
    from ditgta.stages import images

    given, crop = dict(arguments.spec), None
    if isinstance(given.get("size"), list):
        crop = given.pop("size")
    if arguments.crop:
        if len(arguments.crop) > 1:
            raise InputError("--crop is one size; make an index for each")
        crop = arguments.crop[0]
    options = flags.read_section(arguments, config.Images, given)
    spec = options.spec()
    if crop:
        spec["size"] = list(crop)
    images.run(arguments.out, spec, options.repack, arguments.contents, arguments.least)


def add_autoencoder(commands) -> None:
    text = "download or train the autoencoder"
    parser = add_command(commands, "autoencoder", run_autoencoder, text, config.Autoencoder)
    add_path(parser, "--images", "DIR", "folder of the images' index")
    add_output(parser, flags.new_folder, "folder for the autoencoder, in diffusers' format")
    add_contents(parser)


def run_autoencoder(arguments) -> None:
    from ditgta.stages import autoencoder

    spec = flags.read_section(arguments, config.Autoencoder, arguments.spec).spec()
    if arguments.contents:
        check_contents(spec["pretrained"], arguments.contents)
    autoencoder.run(images=arguments.images, out=arguments.out, spec=spec)


def add_latents(commands) -> None:
    text = "encode the images to latent shards, or import latents that others have made"
    parser = add_command(commands, "latents", run_latents, text, config.Latents, aliases=("extract-latents",))
    add_path(parser, "--images", "DIR", "folder of the images' index", default=None)
    add_path(parser, "--autoencoder", "DIR", "folder of the autoencoder", default=None)
    add_output(parser, flags.new_folder, "folder for the shards")
    add_batch_size(parser)
    add_contents(parser)
    add_parts(parser)


def run_latents(arguments) -> None:
    from ditgta.stages import latents

    given = {key: value for key, value in arguments.spec.get("latents", {}).items() if key != "contents"}
    options = flags.read_section(arguments, config.Latents, given)
    if arguments.contents:
        check_contents(getattr(options, "from"), arguments.contents)
    latents.run(
        **taken(arguments, "images", "autoencoder", "out", "batch_size", "spec"),
        part=part_of(arguments),
        imported=options.spec() if options.format else None,
    )


def add_train(commands) -> None:
    text = "train a diffusion transformer on latents"
    parser = add_command(commands, "train", run_train, text, config.Model, config.Training)
    add_path(parser, "--latents", "DIR", "folder of the latent shards")
    text = "folder for the checkpoints, one file per milestone: STEP.safetensors"
    add_output(parser, flags.new_folder, text)
    text = "steps at which a checkpoint is kept, e.g. 200000,2500000; the last ends the training"
    parser.add_argument("--milestones", type=flags.numbers, required=True, metavar="STEPS", help=text)
    text = "folder of the autoencoder; with it, a tracker gets samples at each snapshot"
    add_path(parser, "--autoencoder", "DIR", text, default=None)
    text = "seed of weights, order, noise and label dropout (default: 0)"
    parser.add_argument(
        "--seed", type=flags.whole_number, default=argparse.SUPPRESS, metavar="INT", help=text
    )


def run_train(arguments) -> None:
    from ditgta.stages import train

    given = flags.read_section(argparse.Namespace(), config.TrainSpec, arguments.spec)
    train.run(
        **taken(arguments, "latents", "out", "milestones", "autoencoder"),
        model=flags.read_section(arguments, config.Model, given.model),
        training=flags.read_section(arguments, config.Training, given.training),
        seed=getattr(arguments, "seed", given.seed),
    )


def add_sample(commands) -> None:
    parser = add_command(commands, "sample", run_sample, "sample images from a checkpoint", config.Sampling)
    add_checkpoint_and_autoencoder(parser)
    text = "folder for shards and samples.npz, or one .npz file"
    add_output(parser, flags.new_output, text, default=None)
    add_output(parser, flags.new_file, "write a labelled picture instead", "--grid", default=None)
    text = "labels of the picture's columns, e.g. 207,360,387"
    parser.add_argument("--classes", type=flags.numbers, default=None, metavar="LABELS", help=text)
    add_count(parser, "--rows", "rows of the picture", 4)
    add_parts(parser)


def run_sample(arguments) -> None:
    from ditgta.stages import sample

    options = flags.read_section(arguments, config.Sampling, arguments.spec)
    if (arguments.out is None) == (arguments.grid is None):
        raise InputError("give an output: one of --out FOLDER, --out FILE.npz and --grid FILE.png")
    network = taken(arguments, "checkpoint", "autoencoder")
    if arguments.grid is not None:
        sample.run_grid(
            **network, **taken(arguments, "classes", "rows"), out=arguments.grid, sampling=options
        )
    else:
        sample.run(**network, out=arguments.out, sampling=options, part=part_of(arguments))


def add_loss(commands) -> None:
    text = "measure a checkpoint's denoising loss on images that training has not seen"
    parser = add_command(commands, "loss", run_loss, text, config.Loss)
    add_checkpoint_and_autoencoder(parser)
    add_path(parser, "--images", "DIR", "folder of the held-out images' index: IMAGES/held-out")
    text = "losses (.json); the losses of each image are written beside it (.npz)"
    add_output(parser, flags.new_file, text)


def run_loss(arguments) -> None:
    from ditgta.stages import loss

    options = flags.read_section(arguments, config.Loss, arguments.spec)
    loss.run(**taken(arguments, "checkpoint", "autoencoder", "images", "out"), options=options)


def add_sizes(commands) -> None:
    text = "draw one image under several checkpoints at several sizes, side by side"
    parser = add_command(commands, "sizes", run_sizes, text, config.Sampling)
    add_path(parser, "checkpoints", "CHECKPOINT", "rows of the picture", nargs="+")
    add_path(parser, "--autoencoder", "DIR", "folder of the autoencoder")
    add_output(parser, flags.new_file, "picture to write (.png)")
    text = "sizes in pixels in addition to the training size, separated by commas, e.g. 64,64x96"
    parser.add_argument("--sizes", type=flags.sizes, required=True, metavar="SIZES", help=text)
    text = "how positions are encoded at these sizes; one column for each way"
    parser.add_argument("--methods", nargs="+", choices=config.POSITIONS, default=["extrapolate"], help=text)
    parser.add_argument(
        "--label", type=flags.whole_number, default=0, metavar="INT", help="class of the image"
    )


def run_sizes(arguments) -> None:
    from ditgta.stages import sizes

    options = flags.read_section(arguments, config.Sampling, arguments.spec | {"size": arguments.sizes[0]})
    names = ("checkpoints", "autoencoder", "out", "sizes", "methods", "label")
    sizes.run(**taken(arguments, *names), sampling=options)


def add_show_encoding(commands) -> None:
    text = "draw what encodings say about position, and how far trained networks attend"
    parser = add_command(commands, "show-encoding", stage_function("show_encoding"), text, spec=False)
    text = "name of an encoding, your own as MODULE:CLASS, or checkpoint (.safetensors)"
    parser.add_argument("names", nargs="+", metavar="NAME", help=text)
    add_output(parser, flags.new_file, "picture to write (.png)")
    text = "size of the network, for encodings that are not given as a checkpoint"
    parser.add_argument("--model", default="DiT-B/2", metavar="NAME", help=text)
    add_count(parser, "--image-size", "image side of that network, in pixels", 256)


def add_scorer(commands) -> None:
    text = "train a small Inception network as the scorer of the images"
    parser = add_command(commands, "scorer", run_scorer, text, config.Scorer)
    text = "folder of the images' index; not needed with --weights"
    add_path(parser, "--images", "DIR", text, default=None)
    add_output(parser, flags.new_file, "weights (.safetensors)")
    add_contents(parser)


def run_scorer(arguments) -> None:
    from ditgta.stages import scorer

    spec = flags.read_section(arguments, config.Scorer, arguments.spec).spec()
    if not spec["weights"] and arguments.images is None:
        raise InputError(
            "a scorer is trained on images: give --images DIR, or --weights FILE to use an existing one"
        )
    if arguments.contents:
        check_contents(spec["weights"], arguments.contents)
    scorer.run(images=arguments.images, out=arguments.out, spec=spec)


def add_score(commands) -> None:
    text = "score samples against a reference: FID, sFID, Inception Score, KID, precision, recall, ..."
    parser = add_command(commands, "score", run_score, text)
    text = "npz (statistics or images), folder of images or of the images' index"
    add_path(parser, "reference", "REFERENCE", text)
    text = "npz, folder of sample shards, or folder of images"
    add_path(parser, "samples", "SAMPLES", text, nargs="?", default=None)
    text = "Inception weights; none: search for pt_inception-2015-12-05-6726825d.pth (see docs/scoring.md)"
    add_path(parser, "--weights", "FILE", text, default=None)
    add_output(parser, flags.new_file, "scores (.json)")
    text = "score real images, drawn at random: images of REFERENCE against its others, or images of --training against REFERENCE"
    parser.add_argument("--baseline", action="store_true", help=text)
    text = (
        "number of images that --baseline draws: as many as the rows have samples, at most half (none: half)"
    )
    add_count(parser, "--num-samples", text)
    text = "index of the training images, if REFERENCE holds others; copies are searched among the training images"
    add_path(parser, "--training", "DIR", text, default=None)
    text = "side in pixels of random crops, one per image; their FID and KID are added"
    add_count(parser, "--crops", text)
    text = (
        "DINOv2's weights (.pth of its authors, .safetensors of transformers), for fd_dinov2 and kid_dinov2"
    )
    add_path(parser, "--judge", "FILE", text, default=None)
    text = "expected checksum of the file of --judge"
    parser.add_argument("--judge-contents", default=None, metavar="SHA256", help=text)
    add_batch_size(parser)
    text = "folder for features (none: beside the samples)"
    add_output(parser, flags.new_folder, text, "--cache", default=None)
    add_contents(parser)


def run_score(arguments) -> None:
    from ditgta.stages import score

    if arguments.contents:
        check_contents(arguments.reference, arguments.contents)
    if arguments.judge_contents:
        check_contents(arguments.judge, arguments.judge_contents)
    names = ("reference", "samples", "weights", "out", "baseline", "num_samples", "batch_size", "cache")
    given = taken(arguments, *names, "training", "crops", "judge")
    score.run(**given, spec=arguments.spec or None)


def add_table(commands) -> None:
    text = "put scores into a table: CSV, Markdown and HTML with pictures"
    parser = add_command(commands, "table", stage_function("table"), text)
    add_path(parser, "--scores", "FILE", "score files", nargs="+")
    for name, text in (
        ("--losses", "records of held-out losses, in the order of the score files"),
        ("--sized", "scores of rows at other sizes, and of real images at each of them"),
        ("--swept", "scores at the other points of a sweep, from which the point of each row is chosen"),
        ("--averaged", "records of held-out losses of other averages of the weights, to choose from"),
        ("--training", "records of checkpoints, for the loss curves"),
        ("--shared", "records of what the rows share (images, autoencoder, latents, scorer), for the cost"),
    ):
        add_path(parser, name, "FILE", text, nargs="*", default=[])
    add_path(parser, "--baseline", "FILE", "scores of real against real images", default=None)
    text = "folder of the images' index, for real images beside samples, and for class names"
    add_path(parser, "--images", "DIR", text, default=None)
    add_output(parser, flags.new_folder, "folder for the table")


COMMANDS = (
    add_images,
    add_autoencoder,
    add_latents,
    add_train,
    add_sample,
    add_sizes,
    add_show_encoding,
    add_loss,
    add_scorer,
    add_score,
    add_table,
)
