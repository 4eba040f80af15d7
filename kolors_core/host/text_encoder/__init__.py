"""ChatGLM3 as ComfyUI's CLIP.

load            from a file or a checkpoint to CLIP
storage         what memory is to hold of the weights, and how they get there
packed          int8 and int4 layers under ComfyUI's patcher
clip            the interfaces of ComfyUI's tokenizers and text encoders
tokenizer       a prompt to tokens, with its weights
tokenizer_file  where tokenizer.model is
token_count     how many tokens a prompt takes, and where a limit cuts it, without the encoder
conditioning    prompts to CONDITIONING, and files of it
"""
