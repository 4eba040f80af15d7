"""Other packs beside this one: their real nodes in a real ComfyUI, with Kolors and with an SDXL of the same shape.

command      `python3 dev.py neighbours`
environment  what the packs need, in an environment of its own
models       the models that the graphs load
scene        a graph, in which every input that nobody gave gets what it has on the canvas
tries        which nodes are tried, and how
trial        runs a try, and says what came of it
page         docs/neighbours.json and its page in two languages
"""
