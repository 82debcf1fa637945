#!/usr/bin/env python3
"""Write a tiny Llama with random weights as a GGUF file, for tests of a real engine. Needs the package `gguf`.

Deep and narrow: a token takes some milliseconds of one core, as a token of a real model does on a GPU, because that is
what starting a thousand small operations costs; a shallow model answers faster than any client can tell its tokens
apart. Same arguments, same bytes.

The tokenizer is a byte-level BPE over a short list of words: a listed word after a space is one token, anything else
falls apart into bytes. The model only ever generates listed words, so that each token is text of its own, no stream
ends early, and no half of a UTF-8 character is held back by the server.
"""

import argparse
from pathlib import Path

import gguf
import numpy as np

CONTEXT_TOKENS = 8192
HIDDEN = 32
LAYERS = 256
HEADS = 1
KV_HEADS = 1
HEAD_SIZE = 32
FEED_FORWARD = 64
WEIGHT_SCALE = 0.02
LOGIT_SCALE = 0.2

SPECIAL = ("<|end|>", "<|turn|>", "<|end_turn|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|turn|>{{ message['role'] }}\n{{ message['content'] }}<|end_turn|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
LISTED = """
a about after again air all also an and answer any are as ask at away back be because before between book both boy but
by call came can change city close cold come could country day did different do does door down each earth end even
every eye face family far father feet few find fire first follow food for form found four from gave get girl give go
good great green group grow had half hand hard has have he head hear help her here high him his home house how if in
into is it its just keep kind know land large last late learn leave left letter life light like line list little live
long look made make man many may me mean men might mile more most mother mountain move much must my name near need
never new next night no not now number of off often old on once one only open or other our out over own page paper
part people place plant play point put question quick read real right river room round run said same saw say school
sea second see seem sentence set she should show side small so some soon sound spell stand start state still stop
story study such take talk tell than that the their them then there these they thing think this thought three through
time to together too took tree try turn two under until up us use very voice walk want was watch water way we well
went were what when where which while white who why will with without word work world would write year you young your
"""
WORDS = tuple(LISTED.split())


def byte_symbols() -> list[str]:
    """The characters that stand for the 256 bytes: printable ones for themselves, the others from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = (chr(256 + count) for count in range(256 - len(printable)))
    return [chr(byte) if byte in printable else next(others) for byte in range(256)]


def vocabulary() -> tuple[list[str], list[str]]:
    """(tokens, merges): special tokens, bytes, then every beginning of every word after a space.

    Each merge adds one letter to a beginning, so a word's letters can only be joined from its space on.
    """
    symbols = byte_symbols()
    space = symbols[ord(" ")]
    tokens, merges = [*SPECIAL, *symbols], []
    known = set(tokens)
    for word in WORDS:
        beginning = space
        for letter in word:
            longer = beginning + letter
            if longer not in known:
                known.add(longer)
                tokens.append(longer)
                merges.append(f"{beginning} {letter}")
            beginning = longer
    return tokens, merges


def write_tokenizer(writer: gguf.GGUFWriter, tokens: list[str], merges: list[str]) -> None:
    end, _, end_turn = range(len(SPECIAL))
    types = [gguf.TokenType.CONTROL] * len(SPECIAL) + [gguf.TokenType.NORMAL] * (len(tokens) - len(SPECIAL))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(end)
    writer.add_eos_token_id(end_turn)
    writer.add_pad_token_id(end)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def write_shape(writer: gguf.GGUFWriter, vocabulary_size: int) -> None:
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT_TOKENS)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD_SIZE)
    writer.add_value_length(HEAD_SIZE)
    writer.add_rope_dimension_count(HEAD_SIZE)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(vocabulary_size)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)


def write_weights(writer: gguf.GGUFWriter, tokens: list[str], rng: np.random.Generator) -> None:
    def random(*shape: int, scale: float = WEIGHT_SCALE) -> np.ndarray:
        return (rng.standard_normal(shape, dtype=np.float32) * scale).astype(np.float16)

    def add_matrix(name: str, *shape: int) -> None:
        kind = gguf.GGMLQuantizationType.Q8_0
        values = gguf.quants.quantize(random(*shape).astype(np.float32), kind)
        writer.add_tensor(name, values, raw_dtype=kind)

    embedding = random(len(tokens), HIDDEN)
    output = random(len(tokens), HIDDEN, scale=LOGIT_SCALE)
    # Channel 0 is 1 in every embedding and stays far above the others, so the logit of a token whose output row holds
    # a large negative number there is out of reach: only whole words can be sampled.
    embedding[:, 0] = 1.0
    space = byte_symbols()[ord(" ")]
    whole = {space + word for word in WORDS}
    output[:, 0] = [0.0 if token in whole else -100.0 for token in tokens]
    ones = np.ones(HIDDEN, np.float32)
    writer.add_tensor("token_embd.weight", embedding)
    writer.add_tensor("output_norm.weight", ones)
    writer.add_tensor("output.weight", output)
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        writer.add_tensor(f"{block}.attn_norm.weight", ones)
        add_matrix(f"{block}.attn_q.weight", HEADS * HEAD_SIZE, HIDDEN)
        add_matrix(f"{block}.attn_k.weight", KV_HEADS * HEAD_SIZE, HIDDEN)
        add_matrix(f"{block}.attn_v.weight", KV_HEADS * HEAD_SIZE, HIDDEN)
        add_matrix(f"{block}.attn_output.weight", HIDDEN, HEADS * HEAD_SIZE)
        writer.add_tensor(f"{block}.ffn_norm.weight", ones)
        add_matrix(f"{block}.ffn_gate.weight", FEED_FORWARD, HIDDEN)
        add_matrix(f"{block}.ffn_up.weight", FEED_FORWARD, HIDDEN)
        add_matrix(f"{block}.ffn_down.weight", HIDDEN, FEED_FORWARD)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("tiny.gguf"))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    tokens, merges = vocabulary()
    writer = gguf.GGUFWriter(given.out, "llama")
    write_shape(writer, len(tokens))
    write_tokenizer(writer, tokens, merges)
    write_weights(writer, tokens, np.random.default_rng(given.seed))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
