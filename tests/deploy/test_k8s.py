"""deploy/k8s: that its parts fit each other, the plan and the image. No cluster is asked."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from loadstair.drive.remote import Master, master_of
from loadstair.plan.model import ExternalTopology, Plan, RemoteWorkers
from loadstair.plan.parse import read_plan
from tests.deploy.compose_file import ROOT, of_profile, services

FOLDER = ROOT / "deploy/k8s"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))


def manifests() -> Iterator[dict[str, Any]]:
    for name in KUSTOMIZATION["resources"]:
        yield from yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8"))


def of_kind(kind: str) -> dict[str, Any]:
    (manifest,) = (manifest for manifest in manifests() if manifest["kind"] == kind)
    return manifest


def pod(kind: str) -> dict[str, Any]:
    template: dict[str, Any] = of_kind(kind)["spec"]["template"]
    return template


def container(kind: str) -> dict[str, Any]:
    (only,) = pod(kind)["spec"]["containers"]
    return dict(only)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return read_plan(FOLDER / "plan.yaml", [])


def remote(plan: Plan) -> RemoteWorkers:
    assert isinstance(plan.workers, RemoteWorkers)
    return plan.workers


by_pod = pytest.mark.parametrize("kind", ["Job", "Deployment"])


def test_every_file_is_in_the_kustomization() -> None:
    listed = {*KUSTOMIZATION["resources"], "kustomization.yaml", *KUSTOMIZATION["configMapGenerator"][0]["files"]}
    assert listed == {path.name for path in FOLDER.iterdir()}


def test_workers_go_to_the_service_at_the_port_where_the_plan_lets_the_master_listen(plan: Plan) -> None:
    service = of_kind("Service")
    (port,) = service["spec"]["ports"]
    command = container("Deployment")["command"]
    master = master_of(command[2])
    assert command[:2] == ["loadstair", "worker"]
    assert master.host == service["metadata"]["name"]
    assert master.port == port["port"] == port["targetPort"] == remote(plan).port
    assert remote(plan).bind == "0.0.0.0"
    assert container("Job")["ports"][0]["containerPort"] == remote(plan).port


def test_there_are_as_many_worker_processes_as_the_plan_expects(plan: Plan) -> None:
    command = container("Deployment")["command"]
    processes = int(command[command.index("--processes") + 1])
    assert of_kind("Deployment")["spec"]["replicas"] * processes == remote(plan).expect


def test_the_job_measures_the_plan_of_the_config_map() -> None:
    (generated,) = KUSTOMIZATION["configMapGenerator"]
    volumes = {volume["name"]: volume for volume in pod("Job")["spec"]["volumes"]}
    assert volumes["plan"]["configMap"]["name"] == generated["name"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container("Job")["volumeMounts"]}
    assert container("Job")["command"][:3] == ["loadstair", "run", f"{mounts['plan']}/{generated['files'][0]}"]
    claim = of_kind("PersistentVolumeClaim")["metadata"]["name"]
    assert volumes["reports"]["persistentVolumeClaim"]["claimName"] == claim


def test_labels_and_selectors_agree() -> None:
    job, worker = (pod(kind)["metadata"]["labels"] for kind in ("Job", "Deployment"))
    policy = of_kind("NetworkPolicy")["spec"]
    assert of_kind("Service")["spec"]["selector"] == job == policy["podSelector"]["matchLabels"]
    assert of_kind("Deployment")["spec"]["selector"]["matchLabels"] == worker
    (rule,) = policy["ingress"]
    assert rule["from"] == [{"podSelector": {"matchLabels": worker}}]
    assert [port["port"] for port in rule["ports"]] == [of_kind("Service")["spec"]["ports"][0]["port"]]


@by_pod
def test_the_image_is_that_of_compose(kind: str) -> None:
    (image,) = {service.keys["image"] for service in services() if service.keys.get("build")}
    assert container(kind)["image"] == image


@by_pod
def test_nothing_runs_as_root_or_can_become_it(kind: str) -> None:
    security = pod(kind)["spec"]["securityContext"]
    assert security["runAsNonRoot"] is True
    assert f"USER {security['runAsUser']}" in (ROOT / "Dockerfile").read_text(encoding="utf-8")
    own = container(kind)["securityContext"]
    assert own["allowPrivilegeEscalation"] is False
    assert own["readOnlyRootFilesystem"] is True
    assert own["capabilities"] == {"drop": ["ALL"]}


@by_pod
def test_the_key_is_a_reference_to_a_secret_and_the_plan_names_its_variable(kind: str, plan: Plan) -> None:
    (given,) = container(kind)["env"]
    assert "value" not in given
    assert set(given["valueFrom"]) == {"secretKeyRef"}
    (topology,) = plan.topologies
    assert isinstance(topology, ExternalTopology)
    assert given["name"] == topology.api_key_env
    assert "Secret" not in {manifest["kind"] for manifest in manifests()}


def test_composes_workers_go_to_its_orchestrator_and_are_as_many_as_its_plan_expects() -> None:
    of_workers = {service.name: service for service in of_profile("workers")}
    orchestrator, worker = of_workers["orchestrator"], of_workers["worker"]
    expected = remote(read_plan(ROOT / "deploy/workers-plan.yaml", []))
    assert "./deploy/workers-plan.yaml:/plan.yaml:ro" in orchestrator.keys["volumes"]
    assert orchestrator.words == ["loadstair", "run", "/plan.yaml"]
    assert worker.words[:2] == ["loadstair", "worker"]
    assert master_of(worker.words[2]) == Master(host="orchestrator", port=expected.port)
    assert expected.bind == "0.0.0.0"
    assert worker.keys["deploy"]["replicas"] * int(worker.option("--processes")) == expected.expect
