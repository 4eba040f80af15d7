"""Packs that draw parts of a picture again: detailers, regions, masks."""

from __future__ import annotations

from .recipe import DRAWS, KEEPS, Inputs, Maker, Pack, encoded, file, given, node, of, sampled
from .sampling import WILDCARD

PIPE = of("ToBasicPipe")
SEGMENTS = of("MaskToSEGS", mask=given("MASK"))
SMALL: Inputs = {"guide_size": 64, "max_size": 128, "noise_mask_feather": 0}
#: Stands in for a YOLO face model: it finds one box in the middle of any picture.
DETECTOR = of("ONNXDetectorProvider", model_name=file("detector"))
UPSCALER = of("PixelKSampleUpscalerProvider", denoise=0.5)
FEATHERED: Inputs = {**SMALL, "noise_mask_feather": 20}
TWICE: Inputs = {"upscale_factor": 1.5, "steps": 2, "upscaler": UPSCALER}
CROPPED: Inputs = {"output_target_width": 64, "output_target_height": 64, "device_mode": "cpu (compatible)"}
CROP = of("InpaintCropImproved", mask=given("MASK"), **CROPPED)


def advanced(pipe: Maker = PIPE) -> Maker:
    return of("KSamplerAdvancedProvider", basic_pipe=pipe)


def simple(**inputs) -> Maker:
    return of("KSamplerProvider", basic_pipe=PIPE, **inputs)


BIRD = of(
    "RegionalPrompt", mask=given("MASK"), advanced_sampler=advanced(of("ToBasicPipe", positive=encoded("a blue bird")))
)
REGIONS = of("CombineRegionalPrompts", regional_prompts1=BIRD)

PACKS = {
    "ComfyUI-Impact-Pack": Pack(
        (
            node("FaceDetailer", output="image", bbox_detector=DETECTOR, drop_size=1, **SMALL),
            node("DetailerForEach", segs=SEGMENTS, **SMALL),
            node("SEGSUpscaler", segs=SEGMENTS, rescale_factor=1.0, noise_mask_feather=0),
            node("MaskDetailerPipe", output="image", basic_pipe=PIPE, **SMALL),
            node("ImpactWildcardEncode", mode=False, **WILDCARD),
            node("ImpactKSamplerBasicPipe", KEEPS, output="LATENT", basic_pipe=PIPE),
            node("ImpactKSamplerAdvancedBasicPipe", DRAWS, output="LATENT", basic_pipe=PIPE),
            node("RegionalSampler", samples=given("LATENT"), base_sampler=advanced(), regional_prompts=REGIONS),
            node("TwoSamplersForMask", base_sampler=simple(), mask_sampler=simple(cfg=8.0)),
            node("IterativeLatentUpscale", DRAWS, output="latent", samples=sampled(), **TWICE),
            node("IterativeImageUpscale", DRAWS, **TWICE),
            node("LatentPixelScale", DRAWS, output="LATENT", samples=sampled(), scale_factor=1.5),
            node(
                "DetailerForEach",
                title="ImpactControlNetApplySEGS",
                segs=of("ImpactControlNetApplySEGS", segs=SEGMENTS, control_image=given("IMAGE")),
                **SMALL,
            ),
            node("ImpactConcatConditionings", conditioning2=encoded("a blue bird")),
            node("ImpactCombineConditionings", conditioning2=encoded("a blue bird")),
            node("FromBasicPipe", KEEPS, basic_pipe=PIPE),
            node("DetailerForEach", title="noise_mask_feather", segs=SEGMENTS, **FEATHERED),
        ),
        "The detailers of this version, of 2024, know an older *Differential Diffusion*, with any model: set "
        "`noise_mask_feather` to 0, or take a newer one.",
        "此版本（2024 年）的 Detailer 只认旧的 *Differential Diffusion*，与模型无关：请把 `noise_mask_feather` 设为 0，"
        "或换用更新的版本。",
    ),
    "ComfyUI_UltimateSDUpscale": Pack(
        (
            node("UltimateSDUpscale", upscale_by=2.0, tile_width=128, tile_height=128, denoise=0.3),
            node("UltimateSDUpscaleNoUpscale", tile_width=64, tile_height=64, denoise=0.3, mode_type="Chess"),
            node("UltimateSDUpscaleCustomSample", upscale_by=2.0, tile_width=128, tile_height=128, denoise=0.3),
        )
    ),
    "ComfyUI-Inpaint-CropAndStitch": Pack(
        (
            node(
                "InpaintStitchImproved",
                stitcher=CROP,
                inpainted_image=of(
                    "VAEDecode",
                    samples=sampled(
                        latent_image=of(
                            "VAEEncode", pixels=of("InpaintCropImproved", 1, mask=given("MASK"), **CROPPED)
                        ),
                        denoise=0.5,
                    ),
                ),
            ),
        )
    ),
    "comfyui-inpaint-nodes": Pack(
        (
            node("INPAINT_VAEEncodeInpaintConditioning"),
            node("INPAINT_MaskedFill"),
            node("INPAINT_MaskedBlur", blur=15),
            node("INPAINT_ExpandMask", DRAWS),
        ),
        "Fooocus' inpainting patch is for SDXL: for Kolors there is an inpainting UNet.",
        "Fooocus 的局部重绘补丁是为 SDXL 做的；可图有自己的 inpainting UNet。",
    ),
}
