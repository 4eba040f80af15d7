"""The networks in plain torch, one a file.

chatglm3        the text encoder
tokenizer       SentencePiece with ChatGLM3's special tokens
quantization    matrices in 8 or 4 bits
ip_adapter      IP-Adapter Plus and FaceID Plus
guidance        the guidance scale as an input of the UNet
vision          what the vision encoder sees of an image
image_sizes     widths and heights to draw at
padding         the equal tokens before a prompt
operations      what a network may be built of: torch's layers, or ComfyUI's
"""
