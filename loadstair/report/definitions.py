"""What the report's words mean."""

DEFINITIONS = (
    ("TTFT", "time to first token: from the send system call to the first chunk that carries text (no role chunk)."),
    ("ITL", "inter-token latency: every gap between token-carrying arrivals, all requests pooled."),
    ("TPOT", "time per output token, per request: (last token − first token) / (output tokens − 1)."),
    ("E2E", "from the send system call to the last token."),
    ("Throughput", "output tokens that arrived inside the hold window / its length, whatever became of their request."),
    ("Goodput", (
        "requests per second that succeeded, each within the SLO's TTFT, TPOT and e2e limits itself: of a metric's "
        "percentiles the highest one's limit; where TPOT has none, that of the ITL."
    )),
    ("Stall", "a gap between tokens above 5 times its request's median gap and above 200 ms."),
    ("In flight", "requests sent and not yet ended, as the clients saw them; running and waiting: as the engines say."),
    ("Read lag", (
        "from the kernel's stamp of an arrival to its read by the load generator. Times are the kernel's: a lag alone "
        "makes none of them wrong."
    )),
    ("Late merges", (
        "the share of token-carrying chunks that came merged with another one because the load generator read late, so "
        "that a stamp was lost. More than 1 % makes the step invalid."
    )),
    ("Load generator's ceiling", (
        "the highest rate at which one worker's times and counts held against a server's own ledger in `loadstair "
        "calibrate` on this machine, times the workers of the run (at most the cores). Of a step beyond it nobody has "
        "checked the times; it stays valid."
    )),
    ("Physical ceiling", (
        "what the GPUs could do at most by their data sheets: memory bandwidth for weights and keys and values, "
        "arithmetic for the prompts, nothing lost, at the requests that were under way. What is above it is wrong."
    )),
    ("Hold window", "the measured part of a step, after its warm-up; latency is that of requests dispatched in it."),
    ("Valid", "the step may be used; an invalid one is shown hollow, with its reasons, and enters no other number."),
    ("[low, high]", "95 % interval. A difference is claimed only where the interval of the ratio excludes 1."),
    ("Knee", (
        "the last load before the gain in throughput per doubling of the load falls below 1.3: the whole interval of "
        "the gain to the next step lies below it, and the gain to no later step reaches it."
    )),
    ("Knee and peak, fitted", (
        "of laws fitted to the valid steps: where the gain per doubling falls below 1.3, where throughput is highest; "
        "told only inside the measured range. The Universal Scalability Law (USL) bends slowly, a line with a bend "
        "abruptly, an engine with a full batch slowly until it is full and then abruptly. The one that follows the "
        "steps best (by its BIC) is named; the interval spans those of the laws that follow them as well."
    )),
    ("Full batch, fitted", (
        "the load from which on more users only wait: what the engines take at once (max_num_seqs times instances), or "
        "what fits their KV cache."
    )),
    ("Crossover", "the load between two steps at which the ratio of two topologies passes 1, with its interval."),
    ("Finishes requests sooner", (
        "on average: with the same users in a closed loop, more tokens/s means that each request takes less time "
        "(Little's law). Throughput tells it more surely than the median E2E, which may still be inside the noise."
    )),
    ("Latency-doubling point", (
        "the first load whose median E2E is above twice that of the first step; unknown where that step is invalid."
    )),
    ("SLO capacity", (
        "the highest load up to which every step is valid and known to meet every limit of the SLO. A percentile with "
        "too few samples is not known."
    )),
    ("SLO limit reached at", (
        "between that step and the first that violates the SLO: the percentile is interpolated in logarithms of both."
    )),
    ("Recommended load", (
        "the highest load up to which every step is valid, without a failed request, and violates no limit of the SLO "
        "as far as that is known; without an SLO: before the latency doubles."
    )),
)  # fmt: skip
