"""The Kolors model: plain torch, no ComfyUI. Only the ``host`` folder knows the application around it."""
