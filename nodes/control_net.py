"""The node that reads ControlNets; the host's own nodes apply them."""

from ..kolors_core.host import control_net, model_files


class KolorsControlNetLoader:
    TITLE = "Load Kolors ControlNet"
    CATEGORY = "Kolors/loaders"
    DESCRIPTION = (
        "Loads a ControlNet of Kolors for the stock Apply ControlNet node. One of SDXL loads too (unions, "
        "Control-LoRAs and T2I-Adapters included): connect the MODEL, and it is adapted. The format is detected from "
        "the file's contents."
    )
    SEARCH_ALIASES = [
        "kolors",
        "controlnet",
        "control net",
        "canny",
        "depth",
        "pose",
        "可图",
        "加载ControlNet",
        "控制网络",
    ]
    RETURN_TYPES = ("CONTROL_NET",)
    RETURN_NAMES = ("control_net",)
    OUTPUT_TOOLTIPS = ("The ControlNet, for Apply ControlNet.",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "control_net_name": (
                    model_files.list_files("controlnet"),
                    {
                        "tooltip": "The ControlNet in models/controlnet: of Kolors (Canny, Depth, Pose; 2.5 GB each), "
                        "or of SDXL. Those in models/diffusers, models/LLM and models/checkpoints are listed with "
                        "their folder."
                    },
                ),
            },
            "optional": {
                "model": (
                    "MODEL",
                    {
                        "tooltip": "The Kolors model. Only a ControlNet of SDXL needs it: it takes the text projection "
                        "and the label embedding of this model."
                    },
                ),
            },
        }

    @classmethod
    def VALIDATE_INPUTS(cls, control_net_name):
        return model_files.validate("controlnet", control_net_name)

    @classmethod
    def IS_CHANGED(cls, control_net_name, **kwargs):
        return model_files.fingerprint("controlnet", control_net_name)

    def load(self, control_net_name, model=None):
        return (control_net.load_control_net(model_files.resolve("controlnet", control_net_name), model),)
