"""Which nodes of which packs are tried, and how: by the name of the pack's repository, in lower case."""

from . import image_prompts, images, loading, patches, prompts, regions, sampling, tools

PACKS = {
    name.lower(): pack
    for module in (prompts, patches, sampling, regions, images, image_prompts, loading, tools)
    for name, pack in module.PACKS.items()
}
