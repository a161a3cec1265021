"""A diffusers pipeline: class labels in, pictures out, by this project's own samplers."""

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DiffusionPipeline, ImagePipelineOutput
from PIL import Image

from ditgta.config import Sampling
from ditgta.data.autoencoder import load_autoencoder
from ditgta.loading import network_of
from ditgta.model.dit import DiT
from ditgta.runtime.errors import InputError
from ditgta.runtime.pretrained import AUTOENCODER, fetch_pretrained, read_pretrained
from ditgta.sampling import Sampler


class DiTPipeline(DiffusionPipeline):
    """Draws images of classes; equal to the sample stage's within one grey level, seed for seed.

    Args:
        transformer: the network.
        vae: the autoencoder that it was trained with.
        classes: names of the classes; their numbers where there are none.
    """

    def __init__(self, transformer: DiT, vae: AutoencoderKL, classes: Sequence[str] | None = None):
        super().__init__()
        self.register_modules(transformer=transformer, vae=vae)
        self.register_to_config(classes=list(classes or map(str, range(transformer.num_classes))))

    @classmethod
    def from_pretrained(cls, name: str | Path, revision: str | None = None) -> "DiTPipeline":
        """Return the pipeline of a folder that save-pretrained wrote, or of such a repository on the Hugging Face hub.

        Raises:
            InputError: it is not there, is damaged, or lacks the autoencoder.
        """
        folder = fetch_pretrained(name, revision)
        vae = load_autoencoder(folder / AUTOENCODER)
        config, weights = read_pretrained(folder)
        return cls(network_of(folder, config["model"], weights), vae, config.get("classes"))

    def save_pretrained(self, *_, **__):
        """Refuses: only a checkpoint knows how the network was trained."""
        raise NotImplementedError("write the folder from the checkpoint: ditgta save-pretrained")

    def __call__(
        self,
        class_labels: int | str | Sequence[int | str],
        guidance_scale: float = 4.0,
        num_inference_steps: int = 50,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        **options,
    ) -> ImagePipelineOutput | tuple:
        """Return one image for each label.

        Args:
            class_labels: a number or name of a class, or several; image i of a call has the noise of the sample stage's image i.
            guidance_scale: classifier-free guidance; 1 is none.
            num_inference_steps: sampling steps, at most 1000.
            generator: draws the seed where none is given; without either torch's own does, so that calls differ.
            seed: of the noise, as the sample stage's `--seed`.
            output_type: "pil", or "np" for uint8 (N, H, W, 3).
            return_dict: return an object with the attribute `images` rather than a tuple.
            options: further options of ditgta.config.Sampling, e.g. sampler="ddim", cfg_channels="3"; the sampler is the first
                of the network's objective where none is given.

        Raises:
            ValueError: an unknown class, or an option out of range.
        """
        wanted = [class_labels] if isinstance(class_labels, int | str) else class_labels
        labels = [self._label(label) for label in wanted]
        if seed is None:
            device = generator.device if generator else "cpu"
            seed = int(torch.randint(2**31, (), generator=generator, device=device))
        shown = {"steps": num_inference_steps, "cfg_scale": guidance_scale, "batch_size": len(labels)}
        # A few images are drawn before a compiler is done.
        sampling = Sampling(**{"compile": False, "seed": seed, **shown, **options})
        with self.progress_bar(total=num_inference_steps) as bar:
            pixels = Sampler(self.transformer, self.vae, sampling)(range(len(labels)), labels, bar.update)
        images = pixels if output_type == "np" else [Image.fromarray(image) for image in pixels]
        return ImagePipelineOutput(images) if return_dict else (images,)

    def _label(self, label: int | str) -> int:
        """Return a class's number."""
        classes = self.config.classes
        if label in classes:
            return classes.index(label)
        if isinstance(label, str) or not 0 <= label < len(classes):
            shown = ", ".join(f"{i} {name}" for i, name in enumerate(classes[:10]))
            raise InputError(
                f"class {label!r} is not one of {len(classes)}: {shown}{', ...' * (len(classes) > 10)}"
            )
        return int(label)
