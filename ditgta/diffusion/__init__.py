"""The diffusion process: objectives, schedule and samplers, one file each."""
