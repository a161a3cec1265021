"""A model as the Hugging Face hub knows it: a folder, or a repository, of config.json, model.safetensors and README.md."""

import os
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ditgta.runtime.addresses import is_hub_name
from ditgta.runtime.errors import InputError, as_input_error, one_line
from ditgta.runtime.files import expanded, is_file, read_json

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
SAMPLES = "samples.png"  # for the card, where there are some
AUTOENCODER = "vae"
UPLOADED = [CONFIG, WEIGHTS, CARD, SAMPLES]
UPLOADED += [f"{AUTOENCODER}/{name}" for name in ("config.json", "diffusion_pytorch_model.safetensors")]


def huggingface_hub():
    """Return the library of this name, set to answer in seconds where there is no network; it must not be imported before."""
    os.environ.setdefault("HF_HUB_ETAG_TIMEOUT", "5")
    os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", "15")
    import huggingface_hub

    return huggingface_hub


def read_config(folder: Path) -> dict:
    """Return config.json; raise InputError if it is missing, damaged or of another kind of model."""
    config = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    if not isinstance(config.get("model"), dict):
        raise InputError(
            f"{folder} holds no model of this project; give a folder that save-pretrained wrote, or the path of a checkpoint to load"
        )
    return config


def read_pretrained(name: str | Path, revision: str | None = None) -> tuple[dict, dict[str, Tensor]]:
    """Return config and weights of a folder or of a repository on the hub; raise InputError if it is not there, or damaged."""
    folder = fetch_pretrained(name, revision)
    config = read_config(folder)
    is_file(folder / WEIGHTS)  # a pipe would wait for a writer forever
    what = f"{folder / WEIGHTS} is missing or damaged"
    with as_input_error(what, "download it again", OSError, SafetensorError):
        return config, load_file(folder / WEIGHTS)


def fetch_pretrained(name: str | Path, revision: str | None = None) -> Path:
    """Return the folder `name`, or a download of the hub's repository `name`; raise InputError if there is neither, or no network."""
    folder = expanded(name)
    if folder.is_dir():
        return folder
    if folder.is_absolute() or not is_hub_name(str(name)):
        raise InputError(f"the folder {name} does not exist (relative to {Path.cwd()}); check the path")
    try:
        return Path(huggingface_hub().snapshot_download(str(name), revision=revision))
    except Exception as error:  # network, hub and file errors have no common type
        raise InputError(
            f"{name} is not a folder and cannot be downloaded from the Hugging Face Hub ({one_line(error)})"
        ) from error


def push_pretrained(folder: Path, repository: str, private: bool) -> str:
    """Uploads a model's folder to a repository on the hub, made where there is none; returns its address. Raises InputError if it fails."""
    read_config(folder)
    hub = huggingface_hub()
    if not hub.get_token():
        raise InputError("you are not logged in to the Hugging Face Hub; run `hf auth login` or set HF_TOKEN")
    api = hub.HfApi()
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        about = {"allow_patterns": UPLOADED, "commit_message": "Upload a model of ditgta"}
        api.upload_folder(repo_id=repository, folder_path=folder, **about)
    except Exception as error:  # as above
        raise InputError(f"{folder} cannot be uploaded to {repository} ({one_line(error)})") from error
    return str(address)
