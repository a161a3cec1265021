"""Commands on the worked example, as tests of mistakes give them."""

import shlex

from tests.conftest import ROOT
from tests.mistakes.situations import put

CHECKPOINT, WEIGHTS = "gta/0000002.safetensors", "vae/diffusion_pytorch_model.safetensors"
IMAGES = "images --source index/pictures --size 16 --out new"
AUTOENCODER = "autoencoder --images index --out new --widths 8 8"
LATENTS = "latents --images index --autoencoder vae --out new"
TRAIN = "train --latents latents --model DiT-Ti/2 --depth 1 --width 32 --heads 2 --batch-size 4 --out new --milestones 5"
SAMPLE = f"sample --checkpoint {CHECKPOINT} --autoencoder vae --steps 1 --num-samples 6"
SCORER = "scorer --images index --out new.safetensors"
SCORE = "score index samples --weights scorer.safetensors --out new.json"
OTHER = "score {} --weights scorer.safetensors --out new.json"
TABLE = "table --scores scores.json --out new"
CONFIG = f"--configfile {shlex.quote(str(ROOT / 'config.yaml'))}"
PLAN = f"plan {CONFIG} c.yaml"
IMPORT = "import-checkpoint published.pt new.safetensors --model DiT-Ti/2"
SAVE = f"save-pretrained {CHECKPOINT} new --autoencoder vae"


def configuration(text):
    return put("c.yaml", text)
