"""What lies in files: read by content, never by name, and never executed.

weights          the tensors of a model, whatever they lie in; what is missing among them
header           what a file is by its first bytes; no torch
safetensors, torch_pickle, gguf    one container each
config           JSON inside a weight file, or beside it
conditioning     a prompt's CONDITIONING as a file
image_prompt     an image prompt as a file, ours or another's
identify         what a state dict is, by its keys and shapes
kinds            which of Kolors' models a file holds, by its header
families         widths by which other models are told from Kolors
lora_keys, control_net_keys    the names that LoRAs and ControlNets have in the wild
"""
