"""A stand-in for comfy-aimdo, the library under the host's dynamic VRAM: its interface, each allocation a tensor."""
