"""ChatGLM3 of random weights as a GGUF file; needs the package gguf."""

import gguf
import torch
from comfyui_kolors.demo.random_models import TINY, random_chatglm3, random_tokenizer
from comfyui_kolors.kolors_core.files.gguf import NAMES
from comfyui_kolors.kolors_core.networks.tokenizer import SPECIAL_TOKENS, ChatGLM3Tokenizer

TOKENIZER = ChatGLM3Tokenizer(random_tokenizer())


def vocabulary(pieces):
    """Tokens, scores and types of a SentencePiece model, and the special tokens behind them."""
    count = pieces.vocab_size()
    kinds = [
        6 if pieces.is_byte(i) else 2 if pieces.is_unknown(i) else 3 if pieces.is_control(i) else 1
        for i in range(count)
    ]
    tokens = [pieces.id_to_piece(i) for i in range(count)] + list(SPECIAL_TOKENS)
    return tokens, [pieces.get_score(i) for i in range(count)] + [-1e4] * len(SPECIAL_TOKENS), kinds + [3] * 9


def write(path, kind="F32", architecture="chatglm", model="llama", sizes=TINY, leave_out=None, heads=None):
    """A file as llama.cpp's converter makes it, and the state dict of the values in it."""
    import sentencepiece

    kind = gguf.GGMLQuantizationType[kind]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_embedding_length(sizes.hidden)
    writer.add_head_count(sizes.hidden // sizes.head_dim if heads is None else heads)
    writer.add_layer_norm_rms_eps(1e-5)
    tokens, scores, types = vocabulary(sentencepiece.SentencePieceProcessor(model_proto=TOKENIZER.model))
    writer.add_tokenizer_model(model)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if leave_out != "scores":
        writer.add_token_scores(scores)
    values = random_chatglm3(sizes, TOKENIZER.pieces)
    for key, tensor in list(values.items()):
        name = name_of(key)
        if name is None or name == leave_out:
            continue
        if tensor.ndim == 1:
            writer.add_tensor(name, tensor.numpy())
            continue
        packed = gguf.quants.quantize(tensor.numpy(), kind)
        writer.add_tensor(name, packed, raw_dtype=kind)
        values[key] = torch.from_numpy(gguf.quants.dequantize(packed, kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(path), values


def name_of(key):
    """llama.cpp's name of a published key; None for what its converter leaves out."""
    stem, part = key.rsplit(".", 1)
    for name, published in NAMES.items():
        if "{}" not in published and stem == published:
            return f"{name}.{part}"
        if "{}" in published and stem.startswith("encoder.layers."):
            layer = stem.split(".")[2]
            if stem == published.format(layer):
                return f"blk.{layer}.{name}.{part}"
    return None
