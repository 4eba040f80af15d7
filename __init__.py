"""ComfyUI-Kolors: the bilingual text-to-image model Kolors as an ordinary ComfyUI model."""

from .kolors_core.host import found_files, model_files, replacements, routes, unet
from .nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

model_files.register()
found_files.read_ahead()
unet.register()
replacements.register()
routes.register()

WEB_DIRECTORY = "./web"

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "WEB_DIRECTORY"]
