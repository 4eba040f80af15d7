"""Image and face prompts.

adapter     from a file to an adapter, from an image to tokens, from tokens to a patched MODEL
attention   where the UNet's cross attentions are, and what replaces them
face        faces and their embeddings
"""
