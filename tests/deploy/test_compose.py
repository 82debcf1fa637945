"""docker-compose.yml against the Compose specification's schema, and against what a measurement needs of it."""

import hashlib
import json
import re
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest
import yaml

from loadstair.plan.model import ExternalTopology, Plan
from loadstair.plan.parse import read_plan
from loadstair.telemetry.prometheus import DCGM_UNITS
from tests.deploy.compose_file import (
    PROFILES_OF_ENGINES,
    ROOT,
    Service,
    interpolated,
    of_profile,
    read_compose,
    read_env_file,
    services,
    values_of,
)

SCHEMA_PATH = ROOT / "tests/data/compose.schema.json"
SCHEMA = json.loads(SCHEMA_PATH.read_text(encoding="utf-8"))
PLAN = ROOT / "plans/h100-compose.yaml"
EIGHT_GPUS = read_env_file(ROOT / "deploy/eight-gpus.env")
SECRET_NAME = re.compile("token|key|password|secret", re.IGNORECASE)
DURATION = re.compile(r"(\d+(us|ms|s|m|h))+")

by_name = pytest.mark.parametrize("service", services(), ids=lambda service: service.name)
engine_profile = pytest.mark.parametrize("profile", PROFILES_OF_ENGINES)


def violations(compose: Any) -> list[str]:
    return [error.message for error in jsonschema.Draft7Validator(SCHEMA).iter_errors(compose)]


@pytest.fixture(scope="module")
def plan() -> Plan:
    return read_plan(PLAN, [])


def external(plan: Plan, name: str) -> ExternalTopology:
    (topology,) = (topology for topology in plan.topologies if topology.name == name)
    assert isinstance(topology, ExternalTopology)
    return topology


def test_the_schema_is_the_file_that_was_released() -> None:
    digest = hashlib.sha256(SCHEMA_PATH.read_bytes()).hexdigest()
    assert digest in (ROOT / "tests/data/README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("variables", [{}, EIGHT_GPUS], ids=["defaults", "eight GPUs"])
def test_the_file_is_as_the_specification_wants_it(variables: dict[str, str]) -> None:
    assert violations(read_compose(variables)) == []


def test_the_specification_refuses_what_is_wrong() -> None:
    compose = read_compose()
    compose["services"]["tp4"]["healthchek"] = {}
    compose["services"]["nginx"]["depends_on"]["tp2x2-a"] = {"condition": "service_is_fine"}
    assert len(violations(compose)) == 2


def test_every_variable_has_a_default() -> None:
    with pytest.raises(ValueError, match="default"):
        interpolated("${MODEL}", {})
    assert interpolated("$${X} ${MODEL:-a/b}", {"MODEL": ""}) == "${X} a/b"
    read_compose()  # raises where one has none


def test_secrets_come_from_outside() -> None:
    environments = [service.keys.get("environment", {}) for service in services()]
    given = {name: value for environment in environments for name, value in environment.items()}
    secrets = {name: value for name, value in given.items() if SECRET_NAME.search(name)}
    # None: Compose passes on what its own environment has, if anything.
    assert secrets == {"HF_TOKEN": None, "OPENAI_API_KEY": None, "LOADSTAIR_WEB_PASSWORD": None}
    assert not [text for text in values_of(read_compose()) if re.search("hf_[A-Za-z0-9]{8}|sk-[A-Za-z0-9]{8}", text)]
    assert ".env" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


@by_name
def test_a_service_belongs_to_a_profile(service: Service) -> None:
    assert service.profiles  # one without would come up with every profile


@by_name
def test_ports_are_published_on_loopback_only(service: Service) -> None:
    for port in service.keys.get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)
    assert "network_mode" not in service.keys


def test_no_two_services_want_one_port() -> None:
    ports = [port for service in services() for port in service.published]
    assert len(ports) == len(set(ports))


@by_name
def test_images_are_pinned(service: Service) -> None:
    name, _, tag = service.keys["image"].rpartition(":")
    assert name
    assert re.match(r"v?\d+\.\d+\.\d+", tag)


@by_name
def test_logs_are_bounded(service: Service) -> None:
    assert set(service.keys["logging"]["options"]) == {"max-size", "max-file"}


@by_name
def test_what_a_service_waits_for_is_in_its_profile_and_has_a_health_check(service: Service) -> None:
    there = {other.name: other for other in services()}
    for name, wait in service.keys.get("depends_on", {}).items():
        assert service.profiles <= there[name].profiles
        assert wait["condition"] == "service_healthy"
        assert "test" in there[name].keys["healthcheck"]


@by_name
def test_mounted_files_are_in_the_tree_and_named_volumes_are_declared(service: Service) -> None:
    for mount in service.keys.get("volumes", []):
        source, target, *mode = mount.split(":")
        assert target.startswith("/")
        if source.startswith("./"):
            assert (ROOT / source).is_file()
            assert mode == ["ro"]
        else:
            assert source in read_compose()["volumes"]


@by_name
def test_durations_are_durations(service: Service) -> None:
    health = service.keys.get("healthcheck", {})
    given = [health[key] for key in ("interval", "timeout", "start_period", "start_interval") if key in health]
    assert all(DURATION.fullmatch(text) for text in given)


@engine_profile
def test_no_gpu_serves_two_engines_and_the_exporter_sees_them_all(profile: str) -> None:
    of_engines = [gpu for service in of_profile(profile) if service.is_engine for gpu in service.gpus]
    (exporter,) = (service for service in of_profile(profile) if "dcgm" in service.keys["image"])
    assert sorted(of_engines) == ["0", "1", "2", "3"]
    assert exporter.gpus == of_engines


def test_eight_gpus_hold_both_profiles_at_once() -> None:
    both = [service for profile in PROFILES_OF_ENGINES for service in of_profile(profile, EIGHT_GPUS)]
    of_engines = sorted(gpu for service in both if service.is_engine for gpu in service.gpus)
    assert of_engines == list("01234567")


@engine_profile
def test_an_engine_is_split_over_the_gpus_that_it_has(profile: str) -> None:
    for engine in (service for service in of_profile(profile) if service.is_engine):
        assert int(engine.option("--tensor-parallel-size")) == len(engine.gpus)


@engine_profile
def test_an_engine_has_one_port_inside_outside_and_in_its_health_check(profile: str) -> None:
    for engine in (service for service in of_profile(profile) if service.is_engine):
        port = int(engine.option("--port"))
        assert engine.published == {port: port}
        assert engine.keys["healthcheck"]["test"][-1] == f"http://127.0.0.1:{port}/health"


def test_flags_given_by_the_operator_reach_every_engine_as_words() -> None:
    flags = {"VLLM_FLAGS": "--max-num-seqs 512 --kv-cache-dtype fp8", "MODEL": "a/b"}
    engines = [service for service in services(flags) if service.is_engine]
    assert len(engines) == 3
    for engine in engines:
        assert engine.words[0] == "a/b"
        assert engine.words[-4:] == ["--max-num-seqs", "512", "--kv-cache-dtype", "fp8"]


@engine_profile
def test_the_plan_measures_what_the_profile_publishes(plan: Plan, profile: str) -> None:
    topology = external(plan, profile)
    published = {port for service in of_profile(profile) for port in service.published}
    urls = [urlsplit(url) for url in (topology.url, *topology.replicas, *topology.metrics)]
    assert {url.hostname for url in urls} == {"127.0.0.1"}
    assert {url.port for url in urls} == published


@engine_profile
def test_the_plan_names_the_engines_in_their_order(plan: Plan, profile: str) -> None:
    topology = external(plan, profile)
    engines = [service for service in of_profile(profile) if service.is_engine]
    assert topology.gpus is not None
    assert [urlsplit(url).port for url in topology.replicas] == [int(engine.option("--port")) for engine in engines]
    assert [engine.tp for engine in topology.engines] == [len(engine.gpus) for engine in engines]
    assert topology.gpus.count == sum(len(engine.gpus) for engine in engines)
    assert {engine.words[0] for engine in engines} == {plan.workload.model}


def test_the_exporter_is_told_to_read_what_the_telemetry_wants() -> None:
    lines = (ROOT / "deploy/dcgm/counters.csv").read_text(encoding="utf-8").splitlines()
    fields = [[field.strip() for field in line.split(",")] for line in lines if not line.startswith("#")]
    assert {name for name, *_ in fields} == set(DCGM_UNITS)
    assert all(len(field) == 3 and field[1] == "gauge" for field in fields)  # a comma in the help would be a fourth


def test_the_example_of_eight_gpus_names_variables_that_the_file_knows() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    assert all(f"${{{name}:-" in text for name in EIGHT_GPUS)


def test_yaml_reads_the_ports_as_text() -> None:
    assert yaml.safe_load("22:22") == 1342  # 22 * 60 + 22: why each port here has its address before it
    assert all(isinstance(port, str) for service in services() for port in service.keys.get("ports", []))
