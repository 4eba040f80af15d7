"""The model files: which there are, where they come from, whether they are whole; `python -m kolors_core.models`.

catalog     every file of every feature: size, hash, folder, licence
addresses   where a file can be had, and the only hosts that are ever asked
download    one file over HTTP: gone on with, checked, under its name only when it is whole
get         files into their folders, from a mirror or from this machine
convert     the text encoder's shards to one int8 or int4 file; needs torch
verify      whether a file is whole: by its hash, or by its structure
folders     where a ComfyUI looks for models
check       what is there, what is wrong with it, what is missing for which template
contents, match, scan, tokenizers, templates    what `check` is made of

No ComfyUI. The loader of the text encoder has its tokenizer fetched by `download`.
"""
