"""Nodes of the sampler bridge: diffusers' schedules and solvers in the graph."""

from ..kolors_core.host import sampling

DENOISE = {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01, "round": 0.001}
STEPS = {
    "default": 25,
    "min": 1,
    "max": 1000,
    "tooltip": "Steps of a full run. 25 is a good value; for lcm 4 to 8, at most 50.",
}


class KolorsScheduler:
    TITLE = "Kolors Scheduler"
    CATEGORY = "Kolors/sampling"
    DESCRIPTION = (
        "The noise schedule of one of diffusers' schedulers as SIGMAS, for SamplerCustomAdvanced and every other "
        "node that takes them."
    )
    SEARCH_ALIASES = ["kolors", "kolors sigmas", "kolors schedule", "可图", "可图调度器", "调度器", "噪声调度"]
    RETURN_TYPES = ("SIGMAS",)
    RETURN_NAMES = ("sigmas",)
    OUTPUT_TOOLTIPS = ("The noise levels, one more than steps: where each step starts and where the last one ends.",)
    FUNCTION = "get_sigmas"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "The Kolors model whose train steps the schedule visits."}),
                "scheduler": (
                    list(sampling.SOLVERS),
                    {
                        "default": "euler",
                        "tooltip": "Which of diffusers' schedulers to follow. euler is the one Kolors was "
                        "published with; lcm is for few-step models.",
                    },
                ),
                "steps": ("INT", STEPS),
                "denoise": (
                    "FLOAT",
                    DENOISE
                    | {"tooltip": "How much of the schedule is run, from its end: 1 all of it, 0.5 the second half."},
                ),
            },
            "optional": {
                "timesteps": (
                    "STRING",
                    {
                        "default": "",
                        "advanced": True,
                        "tooltip": "Train steps of your own to visit instead, falling, such as 999, 749, 499, 249; "
                        "steps does not count then. Empty: those of the scheduler. For euler, dpmpp_2m and lcm.",
                    },
                ),
            },
        }

    def get_sigmas(self, model, scheduler, steps, denoise, timesteps=""):
        return (sampling.build_sigmas(model, scheduler, steps, denoise, timesteps),)


class KolorsKSampler:
    TITLE = "Kolors KSampler"
    CATEGORY = "Kolors/sampling"
    DESCRIPTION = (
        "Samples as diffusers does: a preset pairs one of its schedulers with the matching solver and scales the "
        "initial noise as it does. For everyday use take KSampler; this one gives the same image as diffusers."
    )
    SEARCH_ALIASES = ["kolors", "kolors sampler", "ksampler", "diffusers sampler", "可图", "可图采样器", "采样器"]
    RETURN_TYPES = ("LATENT",)
    RETURN_NAMES = ("latent",)
    OUTPUT_TOOLTIPS = ("The denoised latent, for VAE Decode.",)
    FUNCTION = "sample"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "The Kolors model."}),
                "seed": (
                    "INT",
                    {
                        "default": 0,
                        "min": 0,
                        "max": 0xFFFFFFFFFFFFFFFF,
                        "control_after_generate": True,
                        "tooltip": "The random seed of the noise, the same as in KSampler.",
                    },
                ),
                "steps": ("INT", STEPS),
                "cfg": (
                    "FLOAT",
                    {
                        "default": 5.0,
                        "min": 0.0,
                        "max": 100.0,
                        "step": 0.1,
                        "round": 0.01,
                        "tooltip": "How closely to follow the prompt. 5 to 6.5 is good; 1 ignores the negative prompt "
                        "and takes half the time. For lcm with an LCM LoRA 1 to 2; for a UNet with a guidance "
                        "embedding this is its guidance.",
                    },
                ),
                "sampler": (
                    list(sampling.SOLVERS),
                    {
                        "default": "euler",
                        "tooltip": "Which of diffusers' schedulers to follow, noise levels and solver together. "
                        "euler is the one Kolors was published with, dpmpp_2m_karras another good one, lcm is for "
                        "few-step models.",
                    },
                ),
                "positive": ("CONDITIONING", {"tooltip": "What the image should show."}),
                "negative": ("CONDITIONING", {"tooltip": "What the image should not show."}),
                "latent_image": ("LATENT", {"tooltip": "An empty latent, or an encoded image to start from."}),
                "denoise": (
                    "FLOAT",
                    DENOISE
                    | {
                        "tooltip": "The strength of diffusers: 1 starts from noise, 0.6 changes an image a lot, "
                        "0.3 a little. The last steps x denoise steps are run.",
                    },
                ),
            }
        }

    def sample(self, model, seed, steps, cfg, sampler, positive, negative, latent_image, denoise):
        return (sampling.sample(model, seed, steps, cfg, sampler, positive, negative, latent_image, denoise),)


class KolorsModelSampling:
    TITLE = "Kolors Model Sampling"
    CATEGORY = "Kolors/sampling"
    DESCRIPTION = (
        "Chooses the noise schedule of a Kolors model. SDXL's few-step LoRAs (Hyper, LCM, Lightning) were trained on "
        "SDXL's 1000 steps, not on the 1100 of Kolors."
    )
    SEARCH_ALIASES = ["kolors", "sdxl schedule", "model sampling", "lightning", "hyper", "lcm", "可图", "模型采样"]
    RETURN_TYPES = ("MODEL",)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("The model with that schedule; the one that came in stays as it is.",)
    FUNCTION = "patch"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "The Kolors model."}),
                "schedule": (
                    ["kolors", "sdxl"],
                    {
                        "default": "kolors",
                        "tooltip": "kolors: 1100 steps up to sigma 29, for everything else. sdxl: 1000 steps up to "
                        "sigma 14.6, for few-step LoRAs made for SDXL.",
                    },
                ),
            }
        }

    def patch(self, model, schedule):
        return (sampling.set_sampling(model, schedule),)
