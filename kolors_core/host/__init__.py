"""The seam to ComfyUI: the only folder that imports it. Nothing of the host is replaced or assigned.

    unet            the Kolors UNet as the host's SDXL model, recognised beside every other model it knows
    unet_inputs     what that UNet cannot take: other channels, and other models' latents and conditioning
    unet_file       from a file to MODEL: detected, compared tensor by tensor, loaded
    run_context     the text of a sampling run, and what of it is kept from step to step
    model_sampling  the noise schedules of that UNet, begun and stepped through as the reference does
    checkpoint      from a file that holds several parts to MODEL, CLIP and VAE
    diffusers_folder    the same from a folder with a subfolder for each part
    control_net     ControlNets: those of Kolors, and those of SDXL adapted to it
    lora            LoRAs in any key format: renamed, counted, applied
    sampling        the reference's presets as SIGMAS, SAMPLER and a model's choice of noise schedule
    model_files     what the dropdowns list, and where a missing file can be had
    found_files     Kolors' models in the folders of other packages
    walk            what may hold weights in and below a folder
    saved_files     small files that one node saves in the output folder and another reads
    messages        what the user sees while a node runs and in the log
    routes          what the canvas asks the server: how many tokens a prompt takes
    replacements    nodes of the older packs for which ComfyUI itself puts one of ours
    compat          every difference between versions of ComfyUI, each with the version it serves
    cpu             the quicker way on a CPU; the only file that names a kind of device
    expected        what a file must hold: names and shapes of a network that has no memory yet
    patched         weights of a MODEL as it would use them, wherever they are now
    text_encoder/
        clip            ChatGLM3 as the host's CLIP
        tokenizer       a prompt to tokens, with its weights
        storage         its weights: from what a file has to what memory is to hold
        packed          its int8 and int4 layers under the host's patcher
        load            from a file to CLIP
        tokenizer_file  where the tokenizer of an encoder is
        token_count     tokens of a prompt, counted without the encoder
        conditioning    prompts to CONDITIONING
    ip_adapter/
        adapter         read, and add to a clone of the model
        image_prompt    images to image prompts, which can be combined and kept
        attention       where the UNet's cross attentions are, and what stands beside them
        face            faces for FaceID Plus: found, embedded, cut out

What all of them use of ComfyUI stands in tests/host/symbols.json, with the oldest supported version that has it.
"""
