"""All that the nodes do, in floors; each may import what lies below it, and only what `FLOORS` names.

    nodes       thin: declare, check what only a node can know, call one function, return
    host        the only folder that imports ComfyUI
    render      thousands of prompts, here or on Ray: `python -m kolors_core.render`; ComfyUI over HTTP, no torch
    models      which model files there are, where, whole or not: `python -m kolors_core.models`; no ComfyUI
    migrate     workflows of the older packs: `python -m kolors_core.migrate`; no ComfyUI, no torch
    files       what a file is and what is in it, under the names of the networks
    networks    the models in plain torch, one a file
    sampling    schedules and solvers: functions of tensors and numbers
    keys        the names of tensors in a state dict
    errors      the exceptions that become what a user reads, and the log

`pack` is the `__init__.py` by which ComfyUI finds all this.
"""

#: What each floor may import of the pack beside itself; a name stands for all that is in it.
FLOORS = {
    "pack": ("nodes", "host"),
    "nodes": ("host", "files.conditioning", "files.image_prompt", "networks.image_sizes"),
    "host": ("models", "migrate.table", "files", "networks", "sampling", "keys", "errors"),
    "render": (
        "models.folders",
        "migrate.embedded",
        "migrate.prompt.is_prompt",
        "migrate.wrapped",
        "errors",
    ),
    "models": ("files", "networks", "keys", "errors"),
    "migrate": (),
    "files": (
        "networks.tokenizer.SPECIAL_TOKENS",
        "networks.tokenizer.TOKENIZER_KEY",
        "networks.padding.count_equal",
        "keys",
        "errors",
    ),
    "networks": ("keys", "errors"),
    "sampling": ("errors",),
    "keys": (),
    "errors": (),
}
