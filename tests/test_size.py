"""`loadstair size` as a user runs it."""

import argparse
import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from loadstair.errors import UsageError
from loadstair.report.sizing_terminal import sizing_text
from loadstair.size_case import sizing_of
from loadstair.size_options import add_options
from loadstair.sizing.values import sizing_values
from tests.cli import loadstair, one_line

GEMMA = "--model google/gemma-3-12b-it --concurrent 50 --context 4096 --ttft-p99 2 --itl-p99 0.1"
QWEN = (
    "--model Qwen/Qwen2.5-32B-Instruct --concurrent 48 --context 2560 --input 2048 --output 512 --gpu h100-sxm "
    "--usd-per-hour h100-sxm=2.5 --api-usd-per-1m-input 0.2 --api-usd-per-1m-output 0.6"
)
SHARED = "--model Qwen/Qwen2.5-3B-Instruct --concurrent 10 --context 4096 --gpu rtx-5090 --also"
DOCUMENT = Path(__file__).parents[1] / "docs" / "sizing.md"


def sized(command):
    parser = argparse.ArgumentParser()
    add_options(parser)
    return sizing_of(parser.parse_args(command.split()))


def printed(command):
    values = json.loads(json.dumps(sizing_values(sized(command))))
    console = Console(file=io.StringIO(), width=100)
    console.print(sizing_text(values, chosen="--gpu" in command))
    return re.sub(r" +$", "", console.file.getvalue(), flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "command"),
    [("gemma", GEMMA), ("qwen", QWEN), ("shared", f"{SHARED} TinyLlama/TinyLlama-1.1B-Chat-v1.0:0.15")],
)
def test_the_tables_look_as_they_were_reviewed(golden, name, command):
    golden(f"report/size-{name}.txt", printed(command))


def test_the_document_shows_what_the_command_prints():
    assert f"loadstair size {QWEN}" in re.sub(r" \\\n +", " ", DOCUMENT.read_text(encoding="utf-8"))
    assert printed(QWEN) in DOCUMENT.read_text(encoding="utf-8")


def test_nothing_is_cut_off_at_100_columns():
    for command in (GEMMA, QWEN, f"{SHARED} TinyLlama/TinyLlama-1.1B-Chat-v1.0:0.15"):
        assert not re.search(r"\w…", printed(command))


def test_a_chosen_gpu_shows_what_is_too_small_and_what_slows_tp():
    shown = printed("--model google/gemma-3-12b-it --concurrent 50 --context 4096 --gpu rtx-4090")
    assert re.search(r"8 × TP1 .* 0 < 50$", shown, re.MULTILINE)  # 22.7 GiB of weights on 21.6
    assert "TP is slower than shown on rtx-4090: no peer-to-peer transfers." in shown


def test_a_full_kv_cache_is_told():
    assert "longer than shown: 4 × TP1 h100-sxm." in printed(QWEN).replace("\n", " ")  # 48 of 48


def test_an_api_is_cheaper_where_the_gpus_cannot_serve_enough():
    command = QWEN.replace("--usd-per-hour h100-sxm=2.5 ", "")  # 1.30 to 5.00 $/h
    shown = printed(command)
    assert "of at most 282,098, at the low price alone" in shown
    assert "cannot serve: the API is cheaper" in printed(QWEN)


def test_it_ends_with_0_and_prints_values_on_demand():
    ended = loadstair("size", *QWEN.split(), "--json")
    assert ended.code == 0
    values = json.loads(ended.out)
    assert [one["topology"] for one in values["candidates"]] == ["1 × TP2", "4 × TP1", "1 × TP4", "1 × TP8"]
    assert {one["gpu"] for one in values["candidates"]} == {"h100-sxm"}


def test_limits_that_everything_misses_end_with_99():
    one_line(loadstair("size", *GEMMA.replace("0.1", "0.0001").split()), 99, "misses a latency limit")


def test_a_configuration_file_is_a_model(tmp_path):
    shape = {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8}
    more = {"intermediate_size": 14336, "vocab_size": 128256, "max_position_embeddings": 8192}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **shape, **more}))
    ended = loadstair("size", "--model", tmp_path, "--concurrent", "8", "--context", "4096", "--gpu", "l40s")
    assert ended.code == 0
    assert "15.0 GiB of weights" in ended.out


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("--model qwn3-32b --concurrent 1 --context 99", "nearest: Qwen/Qwen3-32B"),
        ("--model qwn3-32b --concurrent 1 --context 99", "path of its config.json"),
        (f"{GEMMA} --gpu h100", "--gpu h100: not in the catalogue; it has rtx-3090"),
        (f"{GEMMA} --context 200000", "beyond the 131072 tokens"),
        (f"{GEMMA} --input 4000 --output 200", "4000 input and 200 output tokens do not fit"),
        (f"{GEMMA} --dtype half", "vLLM refuses float16 for google/gemma-3-12b-it"),
        (f"{GEMMA} --dtype q5", "'q5' is no weight format"),
        (f"{GEMMA} --kv-dtype q5", "'q5' is no format of keys and values"),
        (f"{GEMMA} --dtype fp8 --gpu l40s rtx-3090", "no FP8 arithmetic on rtx-3090"),
        (f"{GEMMA} --ttft-p99 0", "--ttft-p99 0: must be above 0"),
        (f"{GEMMA} --max-num-batched-tokens -1", "--max-num-batched-tokens -1: must be above 0"),
        (f"{GEMMA} --gpu-memory-utilization 90", "a share above 0, up to 1, not 90"),
        (f"{GEMMA} --busy 0", "--busy 0: a share"),
        (f"{GEMMA} --usd-per-hour h100-sxm", "give GPU=USD"),
        (f"{GEMMA} --usd-per-hour h100-sxm=nan", "give GPU=USD"),
        (f"{GEMMA} --api-usd-per-1m-input 1", "give both"),
        (f"{SHARED} yi-6b-chat", "give MODEL:SHARE"),
        (f"{SHARED} yi-6b-chat:0.96", "leave nothing of the 0.95"),
        (f"{SHARED} yi-6b-chat:0.5 --gpu-memory-utilization 0.9", "the shares come to 1.4"),
        (f"{GEMMA} --gpu rtx-3090 --concurrent 5000", "1 × TP8 rtx-3090 holds 2"),
    ],
)
def test_a_mistake_is_told_in_one_line(command, words):
    with pytest.raises(UsageError) as caught:
        sized(command)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mistake_ends_with_2():
    one_line(loadstair("size", *GEMMA.split(), "--gpu", "h100"), 2, "not in the catalogue")


def test_float16_is_two_bytes_where_it_is_served():
    assert sized(f"{QWEN} --dtype float16").case.formats.weights == "bf16"


def test_gpus_without_fp8_are_left_out_where_none_is_chosen():
    assert {one.fit.gpu.name for one in sized(f"{GEMMA} --dtype fp8").candidates}.isdisjoint(
        {"rtx-3090", "a100-80-sxm"}
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [("", (3072, 1024)), ("--output 96", (4000, 96)), ("--input 96", (96, 4000)), ("--input 5 --output 6", (5, 6))],
)
def test_lengths_that_are_not_given_fill_the_context(given, expected):
    case = sized(f"{GEMMA} {given}").case
    assert (case.input_tokens, case.output_tokens) == expected


def test_the_first_of_several_models_gets_what_the_others_leave():
    found = sized(f"{SHARED} TinyLlama/TinyLlama-1.1B-Chat-v1.0:0.15 01-ai/Yi-6B-Chat:0.5")
    assert found.case.gpu_memory_utilization == 0.3
    (partition,) = found.partitions
    assert [one.tenant.share for one in partition.instances] == [0.3, 0.15, 0.5]
    assert [one.tenant.context_tokens for one in partition.instances] == [4096, 2048, 4096]  # TinyLlama has no more
    assert {one.fit.gpus for one in found.candidates} == {1}
