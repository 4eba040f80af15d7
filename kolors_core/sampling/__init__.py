"""Noise schedules and solvers of diffusers' schedulers, as functions of tensors and numbers.

schedule    which train steps and sigmas a preset visits
solvers     how a step is computed, where ComfyUI has no solver that does it so
"""
