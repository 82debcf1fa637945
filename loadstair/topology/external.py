"""Servers that others start and stop: nothing is started, nothing is stopped."""

from pathlib import Path
from urllib.parse import urlsplit

from loadstair.clock import Deadline, sleep_s
from loadstair.fetch import FetchError
from loadstair.plan.model import ExternalTopology, TopologyPlan
from loadstair.topology.access import ask, host_and_port, origin
from loadstair.topology.endpoint import Endpoint, Replica
from loadstair.topology.engines import served_metrics_url
from loadstair.topology.running import RunningTopology

POLL_S = 0.5
ASK_TIMEOUT_S = 5.0
NOT_YET = frozenset({502, 503, 504})
"""What a balancer answers as long as its engines load."""


def external_topology(topology: ExternalTopology, *, plan_dir: Path) -> RunningTopology:
    """Sends no request to the endpoint itself: the preflight does. Looks for the replicas' metrics pages.

    Raises TopologyError if a URL cannot be one.
    """
    for url in (topology.url, *topology.replicas, *topology.metrics):
        host_and_port(url)
    replicas = _replicas(topology)
    endpoint = Endpoint(
        url=base_url(topology.url),
        replicas=replicas,
        headers=topology.headers,
        api_key_env=topology.api_key_env,
        tls_verify=topology.tls.verify,
        tls_ca=None if topology.tls.ca is None else str(plan_dir.resolve() / topology.tls.ca),
        upstreams={urlsplit(replica.url).netloc: replica.name for replica in replicas},
        # Without `replicas` every metrics page stands for one.
        other_pages=topology.metrics[len(replicas) :] if topology.replicas else (),
        fingerprint={
            "kind": topology.kind,
            "url": topology.url,
            "engine_count": len(replicas),
            "engines": [engine.model_dump() for engine in topology.engines],
            "gpus": None if topology.gpus is None else topology.gpus.model_dump(),
            "balancer": None,
        },
    )
    return RunningTopology(name=topology.name, endpoint=endpoint)


def waiting_s(topology: TopologyPlan) -> float | None:
    """How long an external topology may take to be there; None: it has to be there at once.

    That is its `ready_timeout_s`, if the plan gives one: then somebody else is expected to start it meanwhile.
    """
    if isinstance(topology, ExternalTopology) and "ready_timeout_s" in topology.model_fields_set:
        return topology.ready_timeout_s
    return None


def wait_until_there(endpoint: Endpoint, deadline: Deadline) -> None:
    """Returns when the endpoint answers, or at the deadline: what is wrong then is for the preflight to say."""
    while not deadline.passed():
        try:
            answer = ask(endpoint, f"{endpoint.url}/models", timeout_s=max(0.1, min(ASK_TIMEOUT_S, deadline.left_s())))
        except FetchError:
            pass
        else:
            if answer.status not in NOT_YET:
                return
        sleep_s(min(POLL_S, max(0.0, deadline.left_s())))


def base_url(url: str) -> str:
    """What an OpenAI client is given: the server's root with /v1, unless the path ends in it already."""
    return url if urlsplit(url).path.endswith("/v1") else f"{url}/v1"


def _replicas(topology: ExternalTopology) -> tuple[Replica, ...]:
    """From `replicas` where given, else one for each metrics page, else the endpoint itself.

    The endpoint's own /metrics is never guessed: behind a balancer each read would be another engine's.
    """
    if topology.replicas:
        return tuple(
            Replica(
                name=f"engine{index}",
                url=origin(url),
                metrics_url=_page(topology.metrics[index])
                if index < len(topology.metrics)
                else served_metrics_url(origin(url)),
            )
            for index, url in enumerate(topology.replicas)
        )
    if topology.metrics:
        return tuple(
            Replica(name=f"engine{index}", url=origin(url), metrics_url=_page(url))
            for index, url in enumerate(topology.metrics)
        )
    return (Replica(name="engine0", url=origin(topology.url), metrics_url=None),)


def _page(url: str) -> str:
    """A metrics URL without a path means the usual page."""
    return url if urlsplit(url).path else f"{url}/metrics"
