"""The seam to ComfyUI: the only folder that imports it. Nothing of the host is replaced or assigned."""
