"""What the files of the small models are called; those of one family have the family's name."""

SDXL, WIDE, MINIATURE = "sdxl-random", "kolors-wide", "kolors-demo"

SDXL_UNET, CLIP_L, CLIP_G = f"{SDXL}.safetensors", "clip_l-random.safetensors", "clip_g-random.safetensors"
WIDE_UNET, WIDE_ENCODER, WIDE_GGUF = f"{WIDE}.safetensors", f"{WIDE}-chatglm3.safetensors", f"{WIDE}-Q8_0.gguf"
IP_ADAPTER = f"{WIDE}-plus.safetensors"
VAE, KL_VAE, UPSCALER = "taesd-random.safetensors", "kl-random.safetensors", "4x-random.safetensors"
TOWER, DETECTOR, MOTION = "kolors-demo-clip-vision.pt", "one-box.onnx", "motion-sd15-empty.safetensors"
LAYERS = "layer_xl_transparent_attn.safetensors"  # as LayerDiffuse asks for it
IMAGE, FACE = "neighbours.png", "neighbours-face.png"
