"""Many prompts of one workflow, on this machine or on a Ray cluster; plain Python, and ComfyUI only over HTTP.

    python -m kolors_core.render WORKFLOW TABLE --out FOLDER
    python -m kolors_core.render report FOLDER

`workflow` and `table` read what the user gives, `inputs` finds what a column sets, and `jobs` makes a graph of each
row. A `worker` draws them: `comfyui` starts the process, `client` talks to it, `png` puts the row's graph into the
image. `storage` is where everything ends up, `manifest` says what is done, and `keys` stands for jobs in few bytes.

`run` is one run of the command; `local` and `cluster` hand its jobs to workers. On a cluster `actors` hold the workers,
`stages` cuts a graph so that several workers share it, `outputs` hands over what they made, and `prompts` remembers
what was encoded. `report` and `parquet` are for whoever looks at the result.
"""
