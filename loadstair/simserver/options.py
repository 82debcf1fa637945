"""The engine's command line, checked: what it asks for as one frozen value."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, get_args

from loadstair.errors import UsageError
from loadstair.serving.catalogue import Gpu, Link, Model, find_gpu, find_model, gpu_names, model_names
from loadstair.serving.formats import Formats, asked_formats
from loadstair.serving.memory import BLOCK_TOKENS, memory_budget
from loadstair.serving.steptime import StepModel
from loadstair.simserver.http_options import HttpOptions, add_http_options, http_options
from loadstair.simserver.lora import LoraLimit, lora_step_s
from loadstair.simserver.scheduler import SchedulerConfig
from loadstair.simserver.speculation import DRAFT_COST, Speculation
from loadstair.simserver.waiting import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    host: str
    port: int
    """0: one that the system picks; the first line on standard output tells it."""
    model: Model
    gpu: Gpu
    tp: int
    link: Link
    served_model_name: str
    max_model_len: int
    scheduler: SchedulerConfig
    lora_modules: tuple[str, ...]
    """Names of the adapters, by which clients ask for them as they would for a model."""
    prompt_tokens_details: bool
    """Whether `usage` tells what the prefix cache held of a prompt."""
    gpu_memory_utilization: float
    seed: int
    ledger: Path | None
    http: HttpOptions


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"simserver: {message}")


def parse_options(argv: Sequence[str]) -> Options:
    """Raises UsageError, and SystemExit for --help."""
    given = _parser().parse_args(argv)
    model = _model(given.model)
    gpu = find_gpu(given.gpu)
    if gpu is None:
        raise UsageError(f"simserver: --gpu {given.gpu}: not in the catalogue; known: {', '.join(gpu_names())}")
    link: Link = given.link or gpu.link
    scheduler = _scheduler(given, model, gpu, link)
    return Options(
        host=given.host,
        port=given.port,
        model=model,
        gpu=gpu,
        tp=given.tp,
        link=link,
        served_model_name=given.served_model_name or given.model,
        max_model_len=_max_model_len(given.max_model_len, model, scheduler),
        scheduler=scheduler,
        lora_modules=_lora_modules(given),
        prompt_tokens_details=given.enable_prompt_tokens_details,
        gpu_memory_utilization=given.gpu_memory_utilization,
        seed=given.seed,
        ledger=given.ledger,
        http=http_options(given),
    )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="loadstair simserver", description="One simulated engine with vLLM's API and metrics.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0: any free port, printed on the first line")
    parser.add_argument("--model", required=True, help="a catalogue name, such as Qwen/Qwen2.5-32B-Instruct")
    parser.add_argument("--served-model-name", help="the name clients use; by default --model as given")
    parser.add_argument("--gpu", required=True, help="a catalogue type, such as h100-sxm")
    parser.add_argument("--tp", type=int, default=1, help="GPUs the model is split over")
    parser.add_argument("--link", choices=get_args(Link), help="by default what the catalogue says of the GPU")
    parser.add_argument("--quantization", help="of the weights: fp8 or int4; by default as the checkpoint is stored")
    parser.add_argument("--kv-cache-dtype", help="fp8 or int4; by default BF16")
    parser.add_argument("--max-num-seqs", type=int, default=256)
    parser.add_argument("--max-num-batched-tokens", type=int, default=8192)
    parser.add_argument("--gpu-memory-utilization", type=float, default=0.9)
    parser.add_argument("--block-size", type=int, default=BLOCK_TOKENS)
    parser.add_argument("--max-model-len", type=int, help="by default the model's, as far as the KV cache holds it")
    _add_features(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the natural ends of answers, and of accepted drafts")
    parser.add_argument("--speed", type=float, default=1.0, help="divides step times")
    parser.add_argument(
        "--gpu-share", type=float, default=1.0, help="share of the GPU's time; the rest is other engines', always busy"
    )
    parser.add_argument("--ledger", type=Path, help="file that gets a JSON line for each request")
    add_http_options(parser)
    return parser


def _model(name: str) -> Model:
    try:
        model = find_model(name)
    except ValueError as error:
        raise UsageError(f"simserver: --model {error}") from error
    if model is None:
        known = ", ".join(model_names())
        raise UsageError(f"simserver: --model {name}: not in the catalogue; known: {known}, or a config.json's path")
    return model


def _add_features(parser: argparse.ArgumentParser) -> None:
    """All off unless asked for."""
    switch = argparse.BooleanOptionalAction
    parser.add_argument("--enable-prefix-caching", action=switch, default=False)
    parser.add_argument(
        "--enable-prompt-tokens-details", action=switch, default=False, help="usage tells a prompt's cached tokens"
    )
    parser.add_argument("--scheduling-policy", choices=get_args(Policy), default="fcfs")
    parser.add_argument(
        "--max-num-queued-reqs", type=int, help="requests under way, running ones too, beyond which others get a 503"
    )
    parser.add_argument("--num-speculative-tokens", type=int, help="drafts in each decode step of a sequence")
    parser.add_argument("--acceptance-rate", type=float, help="chance of a draft whose predecessors were accepted")
    parser.add_argument("--draft-cost", type=float, help=f"of one draft, in decode steps; by default {DRAFT_COST}")
    parser.add_argument("--lora-modules", nargs="+", metavar="NAME", help="adapters; NAME=PATH is read as NAME")
    parser.add_argument("--max-loras", type=int, help="different adapters in one step; by default 1")


def _formats(given: argparse.Namespace, model: Model) -> Formats:
    return asked_formats(given.quantization, given.kv_cache_dtype, stored_as=model.stored_as)


def _scheduler(given: argparse.Namespace, model: Model, gpu: Gpu, link: Link) -> SchedulerConfig:
    if not 0 < given.gpu_memory_utilization <= 1:
        raise UsageError(f"simserver: --gpu-memory-utilization {given.gpu_memory_utilization:g}: must lie in (0, 1]")
    try:
        formats = _formats(given, model)
        step_model = StepModel(model, gpu, given.tp, link, formats=formats)
        config = SchedulerConfig(
            step_model=step_model,
            kv_tokens=memory_budget(
                model,
                gpu,
                given.tp,
                formats=formats,
                gpu_memory_utilization=given.gpu_memory_utilization,
                max_num_batched_tokens=given.max_num_batched_tokens,
                max_num_seqs=given.max_num_seqs,
                block_tokens=max(1, given.block_size),
            ).kv_tokens,
            max_num_seqs=given.max_num_seqs,
            max_num_batched_tokens=given.max_num_batched_tokens,
            block_size=given.block_size,
            speed=given.speed,
            policy=given.scheduling_policy,
            prefix_caching=given.enable_prefix_caching,
            max_num_queued_reqs=given.max_num_queued_reqs,
            speculation=_speculation(given),
            loras=_loras(given, model),
            gpu_share=given.gpu_share,
        )
    except ValueError as error:
        raise UsageError(f"simserver: {error}") from error
    if config.blocks < 1:
        raise UsageError(
            f"simserver: {model.name} with tp={given.tp} leaves no memory for a KV cache on {gpu.name}: "
            "a higher tp or a larger GPU would"
        )
    return config


def _speculation(given: argparse.Namespace) -> Speculation | None:
    """Raises ValueError for one that is out of range."""
    if given.num_speculative_tokens is None and given.acceptance_rate is None:
        if given.draft_cost is not None:
            raise UsageError("simserver: --draft-cost needs --num-speculative-tokens and --acceptance-rate")
        return None
    if given.num_speculative_tokens is None or given.acceptance_rate is None:
        raise UsageError("simserver: --num-speculative-tokens and --acceptance-rate belong together: give both")
    return Speculation(
        tokens=given.num_speculative_tokens,
        acceptance=given.acceptance_rate,
        cost=DRAFT_COST if given.draft_cost is None else given.draft_cost,
        seed=given.seed,
    )


def _lora_modules(given: argparse.Namespace) -> tuple[str, ...]:
    """Names alone: the weights play no part. A plan's flag holds them all in one word, with spaces between."""
    words = " ".join(given.lora_modules or ()).split()
    return tuple(dict.fromkeys(word.partition("=")[0] for word in words))


def _loras(given: argparse.Namespace, model: Model) -> LoraLimit | None:
    """Raises ValueError for a limit that is out of range."""
    if not _lora_modules(given):
        if given.max_loras is not None:
            raise UsageError("simserver: --max-loras needs --lora-modules")
        return None
    return LoraLimit(max_loras=1 if given.max_loras is None else given.max_loras, step_s=lora_step_s(model.layers))


def _max_model_len(asked: int | None, model: Model, scheduler: SchedulerConfig) -> int:
    # Drafts need a place beside the longest answer's tokens.
    room = scheduler.kv_tokens - scheduler.draft_tokens
    if asked is None:
        return min(model.context_tokens_max, room)
    if not 1 <= asked <= room:
        raise UsageError(f"simserver: --max-model-len {asked}: must lie between 1 and {room}, what the KV cache holds")
    return asked
