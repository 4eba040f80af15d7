"""Image and face prompts.

image_prompt   from images to the value in the graph, and what is made of two of them
adapter        from a file to an adapter, from an image prompt to tokens, from tokens to a patched MODEL
attention      where the UNet's cross attentions are, and what replaces them
face           faces and their embeddings
"""
