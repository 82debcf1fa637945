"""The options of `loadstair size`; `size_case` says what they mean."""

import argparse


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", required=True, metavar="NAME", help="of the catalogue, or the path of a config.json or its folder")
    add("--concurrent", required=True, type=int, metavar="N", help="requests under way at once")
    add("--context", required=True, type=int, metavar="TOKENS", help="there must be room for: prompt and answer")
    add("--input", type=int, metavar="TOKENS", help="usual prompt (three quarters of the context)")
    add("--output", type=int, metavar="TOKENS", help="usual answer (what the prompt leaves)")
    add("--gpu", nargs="+", metavar="TYPE", help="consider only these, and show all their topologies")
    add("--dtype", default="auto", metavar="FORMAT", help="weights: auto, bf16, fp8, int4 or float16 (auto)")
    add("--kv-dtype", default="auto", metavar="FORMAT", help="keys and values: auto, bf16, fp8 or int4 (auto: bf16)")
    add("--ttft-p99", type=float, metavar="SECONDS", help="limit of the time to first token")
    add("--itl-p99", type=float, metavar="SECONDS", help="limit of the gap between two tokens")
    add("--gpu-memory-utilization", type=float, metavar="SHARE", help="of the whole memory (0.9)")
    add("--max-num-batched-tokens", type=int, metavar="N", help="token budget of a step (vLLM's default on each GPU)")
    add("--usd-per-hour", nargs="+", default=[], metavar="GPU=USD", help="your price of a GPU for an hour")
    add("--busy", type=float, default=0.5, metavar="SHARE", help="of the time, for the cost at part use (0.5)")
    add("--api-usd-per-1m-input", type=float, metavar="USD", help="of an API to compare with")
    add("--api-usd-per-1m-output", type=float, metavar="USD", help="likewise; both or none")
    add("--also", nargs="+", default=[], metavar="MODEL:SHARE", help="other models on the same GPU, with their shares")
    add("--efficiencies", metavar="FILE", help="constants of `loadstair fit` in place of the shipped ones")
    add("--json", action="store_true", help="print values instead of tables")
