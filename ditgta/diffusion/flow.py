"""Flow matching along straight paths (Lipman et al., 2023; Liu et al., 2023; Ma et al., "SiT", ECCV 2024).

A latent x_0 and noise e are joined by x_t = (1 - t) x_0 + t e, t in 0..1. The network sees 1000 t and predicts the velocity
dx_t/dt = e - x_0; its average over all pairs that meet in x_t carries noise at t = 1 to latents at t = 0.

Shapes: B batch, C latent channels, h x w latent.
"""

from torch import Tensor

from ditgta.diffusion.schedule import TIMESTEPS


class Flow:
    """What a training step needs: `terms` that are logged, times, noisy latents and losses."""

    terms = ("loss",)

    def times(self, u: Tensor) -> Tensor:
        """Return the times that the network sees, 1000 t, of t in 0..1: (B,) float32."""
        return (TIMESTEPS * u).float()

    def add_noise(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return x_t = (1 - t) x_0 + t noise, (B, C, h, w), at the times t that the network sees."""
        share = (t / TIMESTEPS)[:, None, None, None]
        return (1 - share) * x0 + share * noise

    def losses(self, output: Tensor, x0: Tensor, t: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """Return the mean square error of the velocity that the network predicts, output (B, C, h, w): (B,) float32."""
        return {"loss": ((noise - x0 - output.float()) ** 2).flatten(1).mean(1)}
