"""The diffusion process: schedule, objective and samplers, one file each."""
