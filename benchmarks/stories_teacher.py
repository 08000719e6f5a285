"""Stories that a small left-to-right model tells, for the model in the box to learn from as well.

    python -m benchmarks.stories_teacher FOLDER OUT.jsonl --temperature 0.8 --seed 1

``FOLDER`` holds ``stories260K.bin`` and ``tok512.bin`` of llama2.c (MIT): a Llama of 260,032
weights that was trained on all of TinyStories. A teacher's texts are easier than those it learnt
from: each says fewer things that nothing before it decides, which is what a model that writes all
tokens at once is worst at (sequence-level distillation: Kim & Rush 2016, arXiv:1606.07947; why it
helps: Zhou et al. 2019, arXiv:1911.02727).
"""

import argparse
import json
import re
import struct
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

BEGIN = 1  # the token before and between stories
BYTE = re.compile(rb"<0x([0-9A-F]{2})>")
SENTENCE_END = re.compile(r'.*[.!?]"?', re.DOTALL)


def read_model(path):
    """Return the Llama that a file of llama2.c (version 0, float32) holds."""
    raw = path.read_bytes()
    width, hidden, depth, heads, kv_heads, vocab, length = struct.unpack("7i", raw[:28])
    numbers = torch.from_numpy(np.frombuffer(raw, dtype="<f4", offset=28).copy())
    head = width // heads
    at = 0

    def take(*shape):
        nonlocal at
        size = int(np.prod(shape))
        at += size
        return numbers[at - size : at].reshape(shape)

    def halves(weight, count):
        """Rotary pairs side by side become pairs half a head apart."""
        return weight.reshape(count, head // 2, 2, width).transpose(1, 2).reshape(-1, width)

    embedding = take(vocab, width)
    names = ("input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
             "self_attn.o_proj", "post_attention_layernorm", "mlp.gate_proj", "mlp.down_proj",
             "mlp.up_proj")  # fmt: skip
    shapes = ((width,), (width, width), (kv_heads * head, width), (kv_heads * head, width),
              (width, width), (width,), (hidden, width), (width, hidden),
              (hidden, width))  # fmt: skip
    stacks = {name: take(depth, *shape) for name, shape in zip(names, shapes, strict=True)}
    state = {"model.embed_tokens.weight": embedding, "lm_head.weight": embedding}
    for layer in range(depth):
        for name, stack in stacks.items():
            weight = stack[layer]
            if name.endswith(("q_proj", "k_proj")):
                weight = halves(weight, heads if name.endswith("q_proj") else kv_heads)
            state[f"model.layers.{layer}.{name}.weight"] = weight
    state["model.norm.weight"] = take(width)
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=width,
        intermediate_size=hidden,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=length,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=BEGIN,
        eos_token_id=BEGIN,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config)
    model.load_state_dict(state)
    return model.eval()


def read_pieces(path, count):
    """Return the bytes that each token of a llama2.c tokenizer stands for."""
    raw, at, pieces = path.read_bytes(), 4, []
    for _ in range(count):
        _, size = struct.unpack_from("<fi", raw, at)
        piece = raw[at + 8 : at + 8 + size]
        byte = BYTE.fullmatch(piece)
        pieces.append(bytes([int(byte[1], 16)]) if byte else piece)
        at += 8 + size
    return pieces


def told(model, pieces, batch, arguments):
    """Return the stories of one batch of draws, in lower case, each up to its last sentence."""
    drawn = model.generate(
        torch.full((batch, 1), BEGIN),
        attention_mask=torch.ones(batch, 1, dtype=torch.int64),
        do_sample=True,
        temperature=arguments.temperature,
        top_p=arguments.top_p,
        top_k=0,
        max_new_tokens=arguments.length,
    )
    return [story for row in drawn[:, 1:].tolist() if (story := sentences(row, pieces))]


def sentences(row, pieces):
    """Return the text of one row up to its last whole sentence, tidied."""
    ended = row[: row.index(BEGIN)] if BEGIN in row else row
    text = b"".join(pieces[token] for token in ended if token).decode("utf-8", "ignore")
    whole = SENTENCE_END.match(re.sub(r" *\n+ *", "\n", text).strip().lower())
    return whole[0] if whole else ""


def main():
    """Write stories until there are enough characters."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--top-p", type=float, default=0.95)
    parser.add_argument("--length", type=int, default=400, help="tokens of its own, at most")
    parser.add_argument("--characters", type=int, default=3_000_000)
    parser.add_argument("--batch", type=int, default=192)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    model = read_model(arguments.folder / "stories260K.bin")
    pieces = read_pieces(arguments.folder / "tok512.bin", model.config.vocab_size)
    written = 0
    with arguments.out.open("w", encoding="utf-8") as out, torch.inference_mode():
        while written < arguments.characters:
            for story in told(model, pieces, arguments.batch, arguments):
                out.write(json.dumps({"text": story}) + "\n")
                written += len(story)
            print(f"{written:,} characters", flush=True)


if __name__ == "__main__":
    main()
