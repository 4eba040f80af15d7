"""The model files: which there are, where they come from, whether they are whole; `python -m kolors_core.models`.

catalog     every file of every feature: size, hash, folder, licence
addresses   where a file can be had, and the only hosts that are ever asked
verify      whether a file is whole: by its hash, or by its structure
folders     where a ComfyUI looks for models
check       what is there, what is wrong with it, what is missing for which template
contents, match, scan, tokenizers, templates    what `check` is made of

No ComfyUI.
"""
