"""Other packs beside this one: their real nodes in a real ComfyUI, with Kolors and with an SDXL of the same shape.

command      `python3 dev.py neighbours`
environment  what the packs need, in an environment of its own
models       the files of the models that the graphs load, a script
weights      their weights
model_names  what the files are called
families     which of them make a Kolors, and which an SDXL
scene        a graph, in which every input that nobody gave gets what it has on the canvas
tries        which nodes are tried, and how
trial        runs a try, and says what came of it
canvas       what the page makes of nodes that the server never sees, a script
record       what came of a pack
page         docs/neighbours.json and its page in two languages
"""
