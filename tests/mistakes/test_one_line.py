"""What users get wrong: each mistake is one line that names it, exit code 2, and leaves every file as it was."""

import hashlib
import re
import shlex
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest

from ditgta.__main__ import main
from tests.mistakes.attacks import ATTACKS
from tests.mistakes.calls import (
    AUTOENCODER,
    CHECKPOINT,
    CONFIG,
    IMAGES,
    IMPORT,
    LATENTS,
    OTHER,
    PLAN,
    SAMPLE,
    SAVE,
    SCORE,
    SCORER,
    TABLE,
    TRAIN,
    WEIGHTS,
    configuration,
)
from tests.mistakes.situations import (
    PAGE,
    at_work,
    both,
    change,
    copy,
    cut,
    drop,
    edit,
    flip,
    folder,
    images,
    move,
    not_finite,
    npz,
    put,
    trap,
)
from tests.mistakes.strangers import STRANGERS

OWN = "from ditgta.model.positional import PositionalEncoding\nclass Own(PositionalEncoding): ..."

# What is wrong, how that comes about, the command, and what its line must say.
# fmt: off
MISTAKES = [
    # The command line.
    ("no stage", None, "", "required: STAGE"),
    ("misspelt stage", None, "trian --out new", "there is no stage trian; did you mean train?"),
    ("another library's word", None, f"{TRAIN} --lr 1", "did you mean --learning-rate? (got --lr)"),
    ("epochs", None, f"{TRAIN} --epochs 3", "training is counted in steps: the suite's milestones"),
    ("misspelt option", None, "images --sorce digits --out new", "did you mean --source?"),
    ("shortened option", None, "images --sour digits --out new", "did you mean --source?"),
    ("option forgotten", None, "images --source digits", "required: --out"),
    ("misspelt value", None, f"{TRAIN} --posenc gat", "did you mean gta?"),
    ("not a number", None, f"{IMAGES} --size big", "--size: input should be a valid integer"),
    ("out of range", None, f"{SAMPLE} --out new --steps 2000", "--steps: input should be less than or equal to 1000"),
    ("infinite", None, f"{SAMPLE} --out new --cfg-scale inf", "--cfg-scale: input should be a finite number"),
    ("sampler of another objective", None, f"{SAMPLE} --out new --sampler heun", "sampler heun does not belong to objective ddpm; use ancestral"),
    ("interval that falls", None, f"{SAMPLE} --out new --cfg-interval 0.8 0.2", "cfg_interval must rise, from the least to the largest time"),
    ("half an interval", None, f"{SAMPLE} --out new --cfg-interval 0.8", "--cfg-interval: "),
    ("size of no patches", None, f"{SAMPLE} --out new --size 16 18", "size 16x18 does not suit the network: sides must be multiples of 4"),
    ("three sides", None, f"{SAMPLE} --out new --size 16 16 16", "--size: tuple should have at most 2 items"),
    ("positions of no size", None, f"{SAMPLE} --out new --positions ntk", "positions and temperature apply only to another size"),
    ("unknown objective", None, f"{TRAIN} --objective edm", "--objective: input should be 'ddpm' or 'flow' (got 'edm')"),
    ("average that is not kept", None, f"{SAMPLE} --out new --ema-decay 0.5", "gta/0000002.safetensors has no average with decay 0.5; it has 0.9999"),
    ("two averages of one checkpoint", None, f"{SAMPLE} --out new --ema-decay 0.9 0.99", "unrecognized arguments: 0.99"),
    ("average twice", None, f"{TRAIN} --ema-decay 0.9 0.9", "--ema-decay: a list to choose from must hold each value once"),
    ("average of nothing new", None, f"{TRAIN} --ema-decay 0.9 1", "--ema-decay: a list to choose from must hold numbers of at least 0 and below 1"),
    ("decay of 1", None, f"{SAVE} --ema-decay 1", "--ema-decay: must be at least 0 and below 1"),
    ("export of another average", None, f"export-checkpoint {CHECKPOINT} new.pt --ema-decay 0.5", "has no average with decay 0.5; it has 0.9999"),
    ("milestones in words", None, f"{TRAIN} --milestones ten", "whole numbers separated by commas"),
    ("milestone 0", None, f"{TRAIN} --milestones 0", "milestones must be at least 1, got 0"),
    ("part 3 of 2", None, f"{SAMPLE} --out new --part 3/2", "K must be 1..N"),
    ("spec is no JSON", None, "images --out new --spec {source", "neither JSON nor a JSON file"),
    ("misspelt in the spec", None, """images --out new --spec '{"sorce": "x"}'""", "did you mean source?"),
    ("misspelt section", None, f"""{TRAIN} --spec '{{"modle": {{}}}}'""", "did you mean model?"),
    ("seed in words", None, f"""{TRAIN} --spec '{{"seed": "one"}}'""", "--seed: input should be a valid integer"),
    ("encoding of one's own: no file", None, f"{TRAIN} --posenc nowhere:Own", "--posenc: there is no nowhere.py in "),
    ("encoding of one's own: no class", put("own1.py", "class Owm: ..."), f"{TRAIN} --posenc own1:Own", "own1.py has no class Own; it has Owm"),
    ("encoding of one's own: no encoding", put("own2.py", "class Own: ..."), f"{TRAIN} --posenc own2:Own", "own2:Own is not a positional encoding; derive it from PositionalEncoding"),
    ("encoding of one's own: an error in it", put("own3.py", "import nosuch"), f"{TRAIN} --posenc own3:Own", "own3.py cannot be imported (ModuleNotFoundError: No module named 'nosuch')"),
    ("encoding of one's own: a name that is taken", put("json.py"), f"{TRAIN} --posenc json:Own", "rename the file: another module has its name"),
    ("encoding of one's own: another file", put("own4.py"), f"{TRAIN} --posenc own4:Own@{'0' * 64}", "own4:Own has changed"),
    ("encoding of one's own: a base", put("own5.py", OWN), f"{TRAIN} --posenc own5:Own --rotary-base 9", "does not rotate, so it takes neither rotary_base"),
    ("options of another encoding", None, f"{TRAIN} --posenc abs --absolute-table", "posenc abs does not rotate"),
    ("base of 1", None, f"{TRAIN} --rotary-base 1", "--rotary-base: input should be greater than 1 (got '1')"),
    ("unknown model", None, f"{TRAIN} --model DiT-Q/2", "--model: string should match"),
    ("head width", None, f"{TRAIN} --heads 3", "head width must be a whole multiple of 4"),
    # Images.
    ("no such folder", None, "images --source nowhere --out new", "nowhere does not exist"),
    ("a file for a folder", put("f"), "images --source f --out new", "is a file, but not a tar"),
    ("empty folder", folder("e"), "images --source e --out new", "holds no class folders"),
    ("empty class folders", folder("e/a", "e/b"), "images --source e --out new", "holds no images in its 2 folders"),
    ("no class folders", None, "images --source index/pictures/cats --out new", "holds no class folders"),
    ("class without images", folder("index/pictures/birds"), IMAGES, "'birds/' is a class without images"),
    ("no image", put("index/pictures/cats/7.png", PAGE), IMAGES, "'cats/7.png' is not a PNG, JPEG, WebP"),
    ("truncated image", cut("index/pictures/cats/3.png"), IMAGES, "'cats/3.png' is damaged"),
    ("image too small a size", None, f"{IMAGES} --size 4", "--size: input should be greater than or equal to 8"),
    ("images have moved", move("index/pictures", "p"), AUTOENCODER, "index/pictures of index/index.json does not exist"),
    ("image has gone", drop("index/pictures/cats/3.png"), LATENTS, "cats/3.png: does not exist"),
    ("edited list of files", put("index/files.tsv", "0\tcats/0.png\n"), LATENTS, "run the images stage again"),
    ("index is garbage", put("index/index.json", "{"), LATENTS, "index/index.json is not valid JSON"),
    ("index is a number", put("index/index.json", "3"), LATENTS, "index/index.json holds no JSON object"),
    ("training images held out", None, f"{IMAGES} --held-out index/pictures", "12 of 12 held-out images have the contents of training images"),
    ("loss of training images", None, f"loss --checkpoint {CHECKPOINT} --autoencoder vae --images index --out new.json", "index lists images that the checkpoint was trained on"),
    ("index of another thing", copy("latents/index.json", "index/index.json"), LATENTS, "is not an image index"),
    # Autoencoders.
    ("stage out of order", None, "autoencoder --images nowhere --out new", "run the stage that writes it"),
    ("size not divisible", None, f"{AUTOENCODER} 8 8 8 8", "divides the side by 32, which does not divide the image size 16"),
    ("no such autoencoder", None, f"{AUTOENCODER} --pretrained ./nowhere", "./nowhere does not exist"),
    ("hub not reachable", None, f"{AUTOENCODER} --pretrained no-such-owner/no-such-vae", "cannot be downloaded"),
    ("autoencoder diverges", None, f"{AUTOENCODER} --steps 200 --learning-rate 1e9", "lower its learning_rate"),
    ("config.json is missing", drop("vae/config.json"), LATENTS, "vae holds no autoencoder; it must contain config.json"),
    ("config.json is garbage", put("vae/config.json", "{"), LATENTS, "vae holds no usable AutoencoderKL"),
    ("one bit of an autoencoder", flip(WEIGHTS), LATENTS, "is damaged (sha256"),
    ("record of an autoencoder: options that are none", edit("vae/autoencoder.json", spec=[1]), LATENTS, "vae/autoencoder.json: spec: input should be a valid dictionary"),
    ("record of an autoencoder: an option that is none", edit("vae/autoencoder.json", spec={"tf32": 5}), LATENTS, "vae/autoencoder.json: spec.tf32: input should be a valid boolean"),
    ("half an autoencoder", both(cut(WEIGHTS), drop("vae/autoencoder.json")), LATENTS, "make or download it again"),
    ("weights that are not numbers", both(not_finite(WEIGHTS, "encoder.conv_in.bias"), drop("vae/autoencoder.json")), LATENTS, "holds values that are not finite"),
    ("parts are missing", None, f"{LATENTS} --gather", "run those parts again"),
    # Training.
    ("no latents", None, f"{TRAIN} --latents nowhere", "nowhere/index.json does not exist"),
    ("wrong folder", None, f"{TRAIN} --latents index", "index holds no latents"),
    ("a shard is gone", drop("latents/00000.safetensors"), TRAIN, "latents/00000.safetensors does not exist"),
    ("one bit of a shard", flip("latents/00000.safetensors"), TRAIN, "to write that shard again"),
    ("another training's folder", None, f"{TRAIN} --out gta --posenc rope", "gta holds a training with other options (model.posenc gta, not rope); give another --out"),
    ("batch above the data", None, f"{TRAIN} --batch-size 400", "batch_size 400 does not fit 1 processes and 12 images"),
    ("unknown tracker", None, f"{TRAIN} --tracker nosuch", "tracker nosuch: "),
    ("tracker not installed", None, f"{TRAIN} --tracker comet_ml", "tracker comet_ml is not installed; install it with pip"),
    ("too large a model", None, f"{TRAIN} --width 400000 --heads 1", "not enough memory"),
    ("another trainer is running", at_work("gta/run/lease.json"), f"{TRAIN} --out gta", "another trainer is already running"),
    # Checkpoints.
    ("no such checkpoint", None, "sample --checkpoint x.safetensors --autoencoder vae --out new", "x.safetensors does not exist"),
    ("folder for a checkpoint", None, "sample --checkpoint gta --autoencoder vae --out new", "gta is a folder"),
    ("one bit of a checkpoint", flip(CHECKPOINT), f"{SAMPLE} --out new", "its record says"),
    ("half a checkpoint", cut(CHECKPOINT), f"{SAMPLE} --out new", "is damaged or not a safetensors file"),
    ("page for a checkpoint", put(CHECKPOINT, PAGE), f"{SAMPLE} --out new", "is damaged or not a safetensors file"),
    ("weights of another project", copy(WEIGHTS, CHECKPOINT), f"{SAMPLE} --out new", "without this project's header"),
    ("record is garbage", put("gta/0000002.json", "x"), f"{SAMPLE} --out new", "gta/0000002.json is not valid JSON"),
    ("record is a list", put("gta/0000002.json", "[]"), f"{SAMPLE} --out new", "gta/0000002.json holds no JSON object"),
    ("another autoencoder", both(flip(WEIGHTS), drop("vae/autoencoder.json")), f"{SAMPLE} --out new", "give the autoencoder of its training"),
    ("nowhere to write", None, SAMPLE, "give an output"),
    ("two places to write", None, f"{SAMPLE} --out new --grid new.png", "give an output: one of"),
    ("unknown class", None, f"sample --checkpoint {CHECKPOINT} --autoencoder vae --grid x.png --classes 9", "class 9 is not one of 0..1"),
    ("parts not made", None, f"{SAMPLE} --out new --gather", "run the sample stage for that part first"),
    ("the same output twice", at_work(".new.lease"), f"{SAMPLE} --out new", "another `ditgta sample` for new is already running"),
    ("no published file", None, "import-checkpoint x.pt new.safetensors", "x.pt does not exist"),
    ("page for a .pt", put("published.pt", PAGE), IMPORT, "published.pt is damaged or not a PyTorch checkpoint"),
    ("a .pt that runs a program", trap("published.pt"), IMPORT, "published.pt is refused: it asks for posix.system"),
    ("encoding contradicts the file", None, f"{IMPORT} --posenc rope", "says posenc gta, --posenc says rope"),
    ("size contradicts the file", None, f"{IMPORT} --image-size 32", "says image size 16, --image-size says 32"),
    ("objective contradicts the file", None, f"{IMPORT} --objective flow", "says objective ddpm, --objective says flow"),
    ("wrong suffix", None, f"export-checkpoint {CHECKPOINT} new.zip", "new.zip must end in .pt or .safetensors"),
    ("scores of another checkpoint", None, f"{SAVE} --scores baseline.json", "scores samples of another checkpoint"),
    ("folder without a table", None, f"{SAVE} --table vae", "vae holds no table.md"),
    ("push without a model", None, "push vae owner/name", "vae holds no model of this project"),
    ("push without a login", None, "push pretrained owner/name", "run `hf auth login` or set HF_TOKEN"),
    # Scores.
    ("no weights", None, "score index samples --out new.json", "no Inception weights were given or found; download"),
    ("page for weights", put("w.pth", PAGE), f"{SCORER} --weights w.pth", "w.pth is truncated, damaged or not a file of tensors"),
    ("weights that run a program", trap("w.pth"), f"{SCORER} --weights w.pth", "w.pth is refused: it asks for posix.system"),
    ("address not reachable", None, f"{SCORER} --weights https://localhost:9/w.pth", "cannot download https://localhost:9/w.pth"),
    ("only named as the published", copy("scorer.safetensors", "pt_inception-2015-12-05-6726825d.pth"), f"{SCORER} --weights pt_inception-2015-12-05-6726825d.pth", "is wrong or truncated: sha256"),
    ("one bit of a scorer", flip("scorer.safetensors"), SCORE, "scorer.safetensors is damaged"),
    ("half a scorer", cut("scorer.safetensors"), SCORE, "is truncated or damaged"),
    ("no scorer at all", copy(WEIGHTS, "scorer.safetensors"), SCORE, "these are not FID Inception weights"),
    ("scorer width", None, f"{SCORER} --width 0.03", "is not a positive multiple of 1/16"),
    ("wrong suffix of scores", None, SCORE + ".csv", "new.json.csv must end in .json"),
    ("samples and baseline", None, f"{SCORE} --baseline", "not both"),
    ("no such reference", None, OTHER.format("nowhere samples"), "nowhere does not exist"),
    ("no images in a folder", folder("e"), OTHER.format("index e"), "e holds no images"),
    ("sampling not finished", drop("samples/index.json"), SCORE, "sampling has not finished"),
    ("one bit of the samples", both(flip("samples/00000.npz"), drop("samples.features")), SCORE, "samples/00000.npz is damaged"),
    ("half an npz", both(npz("a.npz", arr_0=images(9, 16, 16, 3)), cut("a.npz")), OTHER.format("index a.npz"), "not a whole npz file"),
    ("pixels as fractions", npz("a.npz", arr_0=np.zeros((9, 16, 16, 3))), OTHER.format("index a.npz"), "save (255 * arr_0)"),
    ("channels first", npz("a.npz", arr_0=images(9, 3, 16, 16)), OTHER.format("index a.npz"), "save arr_0.transpose(0, 2, 3, 1)"),
    ("one sample", npz("a.npz", arr_0=images(1, 16, 16, 3)), OTHER.format("index a.npz"), "a score needs at least 2"),
    ("another array's name", npz("a.npz", x=images(9, 16, 16, 3)), OTHER.format("index a.npz"), "holds neither arr_0"),
    ("pickled array", npz("a.npz", arr_0=np.array([{}], object)), OTHER.format("index a.npz"), "pickled objects, which are never loaded"),
    ("other features", npz("a.npz", mu=np.zeros(64), sigma=np.eye(64)), OTHER.format("a.npz samples"), "mu of a.npz has 64 features, the scorer has 128"),
    ("half the statistics", npz("a.npz", mu=np.zeros(128)), OTHER.format("a.npz samples"), "a.npz lacks sigma"),
    # Tables.
    ("no scores", None, "table --scores nowhere.json --out new", "nowhere.json does not exist"),
    ("no score file", None, "table --scores scorer.json --out new", "scorer.json is not a score file"),
    ("edited scores", edit("scores.json", metrics={"fid": {"value": "low"}}), TABLE, "scores.json is not a score file"),
    ("one score twice", None, "table --scores scores.json scores.json --out new", "give only one of them"),
    ("half the influence values", cut("scores.npz"), TABLE, "scores.npz is not a whole npz file"),
    ("samples of options that are none", change("samples/index.json", lambda c: c.update(spec={"checkpoint": [1]})), SCORE, "samples/index.json: spec.checkpoint: input should be a valid dictionary"),
    ("list of images without its folder", change("index/source.json", lambda c: c.pop("root")), LATENTS, "index/source.json: root: field required"),
    ("record of a checkpoint: a spec that is none", edit(CHECKPOINT.replace("safetensors", "json"), spec=5), f"sizes {CHECKPOINT} --autoencoder vae --sizes 32 --steps 1 --out new.png", "gta/0000002.json is not the record of a result: spec: input should be a valid dictionary"),
    ("record of another program beside an output", put("new.json", '{"file": "new.safetensors", "sha256": "", "spec": 5}'), SCORER, "new.json holds something else, which scorer would replace"),
    ("scores for records of checkpoints", None, f"{TABLE} --training scores.json", "scores.json is not the record of a checkpoint: step: field required (got missing)"),
    ("baseline for scores", None, "table --scores baseline.json --out new", "baseline.json holds scores of real images; give it with --baseline"),
    ("scores for a baseline", None, f"{TABLE} --baseline scores.json", "scores.json holds scores of samples; give it with --scores"),
    ("another scorer", edit("baseline.json", scorer={"sha256": "0" * 64}), f"{TABLE} --baseline baseline.json", "different scorers"),
    ("difference of one", None, f"""{TABLE} --spec '{{"differences": [["gta"]]}}'""", "are pairs of experiments"),
    # Finished results with other options, and of other inputs.
    ("other images", None, "images --source index/pictures --size 8 --out index", "index holds a list of images with other options (size 16, not 8); give another --out"),
    ("other autoencoder options", None, "autoencoder --images index --out vae --widths 8 8 --steps 7777", "vae holds an autoencoder with other options ("),
    ("other latents", change("latents/index.json", lambda c: c.update(images_sha256="0" * 64, spec={"images": {"size": 8}, "autoencoder": {}})), "latents --images index --autoencoder vae --out latents", "latents holds latents with other options ("),
    ("other guidance", None, f"{SAMPLE} --out samples --cfg-scale 9", "samples holds samples with other options (sampling.cfg_scale "),
    ("other guidance, a part", None, f"{SAMPLE} --out samples --cfg-scale 9 --part 1/2", "samples holds samples with other options (sampling.cfg_scale "),
    ("other checkpoint", change("samples/index.json", lambda c: c["spec"]["checkpoint"].update(step=1)), f"{SAMPLE} --out samples", "samples holds samples with other options (checkpoint.step 1, not 2"),
    ("other scorer options", None, "scorer --images index --out scorer.safetensors --epochs 7777", "scorer.safetensors holds a scorer with other options ("),
    ("other scores", None, "score index index --weights scorer.safetensors --out scores.json", "scores.json holds scores with other options (samples.folder samples, not index"),
    ("a checkpoint for an imported one", None, f"import-checkpoint published.pt {CHECKPOINT} --model DiT-Ti/2 --depth 1 --width 32 --heads 2", "holds a checkpoint with other options ("),
    # Places to write.
    ("file for a folder", put("new"), IMAGES, "new is a file where a folder is needed"),
    ("below a file", put("new"), f"{LATENTS}/latents", "new is a file where a folder is needed"),
    ("folder for a file", folder("new.json"), SCORE, "new.json is a folder where a file is needed"),
    ("folder for an npz", folder("new.npz"), f"{SAMPLE} --out new.npz", "new.npz is a folder where a file is needed"),
    # The configuration; rules read it by the same function.
    ("no such file", None, PLAN, "c.yaml does not exist"),
    ("a number of seeds", configuration("suites: {digits: {seeds: 3}}"), PLAN, "write a list: [0, 1, 2] for three seeds, or [3]"),
    ("one pair of differences", configuration("suites: {digits: {differences: [gta, rope]}}"), PLAN, "write a list of pairs (first minus second): [[gta, rope]]"),
    ("a row minus itself", configuration("suites: {digits: {differences: [[gta, gta]]}}"), PLAN, "suites.digits.differences: [gta, gta] is a row minus itself; name two rows"),
    ("class accuracy of the published scorer", configuration("suites: {paper: {primary: class_accuracy}}"), PLAN, "suites.paper: primary class_accuracy needs a scorer that has learnt the images' classes; leave scorer.weights out"),
    ("losses of two objectives", configuration("experiments: {d: {like: gta, training: {objective: ddpm}}}\nsuites: {digits: {experiments: [gta, d], differences: [[gta, d]]}}"), PLAN, "suites.digits: primary loss cannot compare gta, d: their objectives differ"),
    ("a number for a list", configuration("suites: {digits: {loss: {weights: 1}}}"), PLAN, "suites.digits.loss.weights: write a list, e.g. [1, 1] (got 1)"),
    ("a number for a section", configuration("experiments: {gta: {model: 5}}"), PLAN, "experiments.gta.model: write options and their values: {OPTION: VALUE} (got 5)"),
    ("placement in words", None, f"{IMAGES} --placement nojson", '--placement: write JSON, e.g. {"scales": [8], "grid": 1, "copies": 4}'),
    ("hours in words", None, f"new-experiment --images index/pictures --hours abc {CONFIG}", "argument --hours: write a number, e.g. 2 or 0.5 (got 'abc')"),
    ("no YAML", configuration("suites: [1"), PLAN, "c.yaml is not a readable YAML file"),
    ("a tag of YAML", configuration("suite: !!timestamp x"), PLAN, "c.yaml is not a readable YAML file"),
    ("misspelt key", configuration("experiments: {gta: {modle: {}}}"), PLAN, "experiments.gta.modle: no such option; did you mean model?"),
    ("text for a number", configuration("experiments: {gta: {training: {batch_size: many}}}"), PLAN, "(got 'many')"),
    ("misspelt model", configuration("experiments: {gta: {model: {name: DiT-Q/2}}}"), PLAN, "experiments.gta.model.name: string should match"),
    ("like-circle", configuration("experiments: {abs: {like: rope}, rope: {like: abs}}"), PLAN, "abs -> rope -> abs is a cycle"),
    ("like what is not there", configuration("experiments: {abs: {like: digit}}"), PLAN, "did you mean digits?"),
    ("like a list", configuration("experiments: {abs: {like: [rope]}}"), PLAN, "experiments.abs.like: input should be a valid string"),
    ("row that is not there", configuration("suites: {digits: {experiments: [gtaa]}}"), PLAN, "gtaa is not an experiment; did you mean gta?"),
    ("falling milestones", configuration("suites: {digits: {milestones: [2, 1]}}"), PLAN, "milestones must increase; sort them"),
    ("hold out too much", configuration("experiments: {digits: {images: {hold_out: 1}}}"), PLAN, "experiments.digits.images.hold_out"),
    ("hold out twice", configuration("experiments: {a: {images: {source: x, hold_out: 0.2, held_out: y}}}"), PLAN, "give one of them"),
    ("no loss", configuration("suites: {digits-aligned: {primary: loss}}"), PLAN, "set images.hold_out, e.g. 0.2"),
    ("loss bands", configuration("suites: {digits: {loss: {timesteps: 15}}}"), PLAN, "timesteps must be a multiple of the 10 bands"),
    ("size and patch", configuration("experiments: {digits: {images: {size: 31}}}"), PLAN, "images.size that is a multiple of 2 (got 31)"),
    ("unknown suite", None, f"plan {CONFIG} --suite papr", "suite papr is not in the configuration"),
    ("unknown device", None, f"plan {CONFIG} --device tpu", "device tpu is unknown"),
    ("no results yet", None, f"status {CONFIG} --results nowhere", "the results folder nowhere does not exist"),
    ("nothing to clean", None, f"clean {CONFIG} --results nowhere", "the results folder nowhere does not exist"),
    ("scorer of nothing", None, "scorer --out new.safetensors", "give --images DIR, or --weights FILE"),
    ("no time at all", None, f"new-experiment --images index/pictures --hours 0 {CONFIG}", "--hours must be more than 0"),
    ("name is taken", None, f"new-experiment --images index/pictures --name digits {CONFIG}", "experiment digits is already in the configuration"),
]
# fmt: on
LISTINGS = re.compile(r"errors? in the images|the configuration has")


def files() -> dict[str, str]:
    """Returns a checksum of every file below the current folder, and its folders."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in Path().rglob("*")
    }


def call(words: str, capture) -> tuple[int, list[str]]:
    """Runs a command in this process; returns its exit code and what it said on standard error beside its progress."""
    capture.readouterr()
    try:
        code = main(shlex.split(words))
    except SystemExit as exit:
        code = exit.code
    lines = capture.readouterr().err.splitlines()
    return code, [line for line in lines if not re.match(r"\w+: (\d+/\d+ |\S+ pauses)", line)]


@pytest.fixture(autouse=True)
def nobody_logged_in(monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)


@pytest.mark.parametrize(
    ("make", "words", "said"),
    [row[1:] for row in (*MISTAKES, *ATTACKS, *STRANGERS)],
    ids=[row[0] for row in (*MISTAKES, *ATTACKS, *STRANGERS)],
)
def test_a_mistake_is_one_line_and_leaves_nothing(example, capfd, make, words, said):
    if make:
        make()
    before = files()
    code, lines = call(words, capfd)
    assert code == 2
    stage = words.split()[0] if words and "trian" not in words else ""
    assert lines[0].startswith(f"ditgta {stage}: error: " if stage else "ditgta: error: ")
    assert said in "\n".join(lines)
    assert len(lines) == 1 or (LISTINGS.search(lines[0]) and all(line.startswith("  ") for line in lines[1:]))
    assert files() == before


def test_a_loss_that_is_not_finite_leaves_the_log_alone(example, capfd):
    before = files()
    code, (line,) = call(f"{TRAIN} --learning-rate 1e30 --gradient-clip 1e30", capfd)
    assert code == 2 and "the loss of new is not finite at step 2; the last good state is none" in line
    new = {path for path, content in files().items() if path not in before and content != "folder"}
    assert all(fnmatch(path, "new/run/*") for path in new), new
    assert {Path(path).name for path in new} == {"train.log", "metrics.jsonl", "spec.json"}


def test_mistakes_are_many_and_have_names_of_their_own():
    names = [row[0] for row in (*MISTAKES, *ATTACKS, *STRANGERS)]
    assert len(names) == len(set(names)) >= 300
