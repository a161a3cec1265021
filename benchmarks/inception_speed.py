"""Images per second of the Inception scorer beside torch-fidelity, pytorch-fid and torchmetrics, on equal weights."""

import argparse
import functools
import importlib
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from benchmarks.rows import Row, by_turns
from ditgta.scoring.inception import load_inception
from tests.golden.inception import recipe

GOLDEN = Path(recipe.__file__).parent
Extractor = Callable[[torch.Tensor], torch.Tensor]  # uint8 (N, height, width, 3) -> pool3 (N, 2048)


def import_network(package: str, module: str) -> types.ModuleType:
    """Imports one module of a package without running the package's own `__init__`.

    These packages import torchvision on the way to networks that do without it.
    """
    spec = find_spec(package)
    if spec is None:
        raise ImportError(f"{package} is not installed")
    if package not in sys.modules:
        shell = types.ModuleType(package)
        shell.__path__ = list(spec.submodule_search_locations)
        shell.__spec__ = spec
        sys.modules[package] = shell
    return importlib.import_module(f"{package}.{module}")


def extractors(weights: dict[str, torch.Tensor], file: str) -> dict[str, Extractor | str]:
    """Return every extractor by name, or the reason why it cannot run here."""
    plain = load_inception(weights)
    fused = plain.fuse()

    def unfused_channels_first(images: torch.Tensor) -> torch.Tensor:
        return plain._maps(plain.prepare(images).contiguous(), ())["2048"]

    candidates: dict[str, Extractor | str] = {
        "ditgta": lambda images: fused(images).pool3,
        "ditgta, not fused, channels first": unfused_channels_first,
    }
    for name, build in PEERS.items():
        try:
            candidates[name] = build(file)
        except Exception as error:  # a benchmark goes on without what is absent or broken
            candidates[name] = f"{type(error).__name__}: {error}".splitlines()[0]
    return candidates


def _torch_fidelity(file: str) -> Extractor:
    module = import_network("torch_fidelity", "feature_extractor_inceptionv3")
    network = module.FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=file
    )
    return lambda images: network(images.permute(0, 3, 1, 2).contiguous())[0]


def _torchmetrics(file: str) -> Extractor:
    import_network("torch_fidelity", "feature_extractor_inceptionv3")
    from torchmetrics.image.fid import NoTrainInceptionV3

    network = NoTrainInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=file).eval()
    return lambda images: network(images.permute(0, 3, 1, 2).contiguous())


def _pytorch_fid(file: str) -> Extractor:
    module = importlib.import_module("pytorch_fid.inception")
    module.load_state_dict_from_url = lambda *_, **__: torch.load(file, weights_only=True)
    network = module.InceptionV3().eval()
    return lambda images: network(images.permute(0, 3, 1, 2).float() / 255)[0][:, :, 0, 0]


PEERS = {"torch-fidelity": _torch_fidelity, "torchmetrics": _torchmetrics, "pytorch-fid": _pytorch_fid}


@torch.no_grad()
def measure(
    batch: int, size: int, rounds: int
) -> tuple[dict[str, tuple[float, float, float]], dict[str, str]]:
    """Return (best seconds of a call, best processor seconds, error against float64) by extractor, and who is absent and why."""
    weights = {key: torch.from_numpy(array) for key, array in recipe.random_state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
        torch.save(weights, file := f"{folder}/weights.pth")
        candidates = extractors(weights, file)
    runnable = {name: extractor for name, extractor in candidates.items() if not isinstance(extractor, str)}
    golden_images = torch.from_numpy(np.load(GOLDEN / "images.npz")["img256"])
    golden = torch.from_numpy(np.load(GOLDEN / "features.npz")["img256/2048"]).double()
    images = torch.from_numpy(
        np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
    )
    errors = {
        name: float((extractor(golden_images).double() - golden).norm() / golden.norm())
        for name, extractor in runnable.items()
    }
    calls = {name: functools.partial(extractor, images) for name, extractor in runnable.items()}
    both = by_turns(calls, rounds, clock=lambda: np.array([time.perf_counter(), time.process_time()]))
    best = {name: np.min(seconds, axis=0) for name, seconds in both.items()}
    timed = {name: (float(best[name][0]), float(best[name][1]), errors[name]) for name in runnable}
    return timed, {name: reason for name, reason in candidates.items() if isinstance(reason, str)}


def rows(quick: bool) -> Iterable[Row]:
    """Yield one row for each peer that is installed."""
    batch = 8 if quick else 32
    timed, _ = measure(batch, 256, 3)
    ours = timed.pop("ditgta")[0]
    for name, (seconds, _, _) in timed.items():
        yield Row(
            f"Inception features, float32, batch {batch}, 256 px",
            f"{batch / ours:.1f} images/s",
            f"{batch / seconds:.1f} images/s ({name.replace('ditgta, ', '')})",
            seconds / ours,
            ">= 1.4" if name in PEERS else "",
        )


def main() -> None:
    """Times all extractors in turn and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=32, help="images per call (default 32)")
    parser.add_argument("--size", type=int, default=256, help="side of the images in pixels (default 256)")
    parser.add_argument("--rounds", type=int, default=3, help="timed calls of each extractor (default 3)")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default 2)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    timed, absent = measure(arguments.batch, arguments.size, arguments.rounds)
    print(
        f"batch {arguments.batch}, {arguments.size} px, {arguments.threads} threads, best of {arguments.rounds} interleaved"
    )
    print("| extractor | images/s | times faster is ditgta | by CPU time | error against float64 |")
    print("|---|---:|---:|---:|---:|")
    for name, (wall, cpu, error) in timed.items():
        rate, ratios = arguments.batch / wall, (wall / timed["ditgta"][0], cpu / timed["ditgta"][1])
        print(f"| {name} | {rate:.1f} | {ratios[0]:.2f} | {ratios[1]:.2f} | {error:.1e} |")
    for name, reason in absent.items():
        print(f"{name}: absent ({reason})")


if __name__ == "__main__":
    main()
