"""Continues a text with a small decoder: the prompt at once, then one character after another, without copying the cache.

python examples/text_generation/generate.py "Once upon a time" --model llama --length 80
"""

from __future__ import annotations

import argparse
import string
import time
from collections.abc import Iterator

import numpy as np
from decoders import Size, gpt, llama

import onnxc

ALPHABET = string.printable
"""The tokenizer: a character is its place in here."""
MODELS = {"gpt": gpt, "llama": llama}


def encode(text: str) -> list[int]:
    """The tokens of a text; characters that the alphabet lacks are dropped."""
    return [ALPHABET.index(character) for character in text if character in ALPHABET]


def decode(tokens: list[int]) -> str:
    """The text of some tokens."""
    return "".join(ALPHABET[token] for token in tokens)


def generate(model: onnxc.CompiledModel, prompt: list[int], length: int, *, temperature: float = 0.0, seed: int = 0) -> Iterator[int]:
    """Yield the tokens that follow a prompt.

    Args:
        model: a decoder that was compiled with `kv_cache`.
        prompt: tokens to begin with, at least one.
        length: how many tokens to add.
        temperature: how much chance there is; 0 for the likeliest token each time.
        seed: of the choices.
    """
    random = np.random.default_rng(seed)
    cache = model.new_cache(len(prompt) + length, batch=1)
    tokens = np.array([prompt], np.int64)
    for _ in range(length):
        mask = np.ones((1, cache.length + tokens.shape[1]), np.int64)
        logits = model.run({"input_ids": tokens, "attention_mask": mask}, cache)["logits"][0, -1]
        token = int(logits.argmax()) if temperature == 0 else _draw(logits / temperature, random)
        yield token
        tokens = np.array([[token]], np.int64)


def _draw(logits: np.ndarray, random: np.random.Generator) -> int:
    """A token at random, by the softmax of the logits."""
    shares = np.exp(logits - logits.max()).astype(np.float64)
    return int(random.choice(len(shares), p=shares / shares.sum()))


def main() -> None:
    """Generate and print a text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompt", nargs="?", default="Once upon a time")
    parser.add_argument("--model", choices=MODELS, default="llama")
    parser.add_argument("--length", type=int, default=80)
    parser.add_argument("--temperature", type=float, default=0.0)
    arguments = parser.parse_args()
    model = onnxc.compile(MODELS[arguments.model](Size(words=len(ALPHABET))), kv_cache=True)
    started = time.perf_counter()
    print(arguments.prompt, end="")
    for token in generate(model, encode(arguments.prompt), arguments.length, temperature=arguments.temperature):
        print(decode([token]), end="", flush=True)
    print(f"\n{arguments.length / (time.perf_counter() - started):.0f} tokens a second")


if __name__ == "__main__":
    main()
