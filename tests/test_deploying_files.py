"""What a cluster is made of, by its schemas and linters: Dockerfile, docker-compose.yml, manifests, `ray up`.

The schemas come with packages: the Compose specification's with check-jsonschema, Kubernetes' with kubernetes-validate,
that of `ray up` with Ray. KubeRay's resource definitions come with none: KUBERAY holds the fields that the manifests
use, as "KubeRay CRD API reference" (docs.ray.io, of KubeRay 1.6.2) describes them, and allows no other.
That the commands run is shown by tests/integration/test_deploying.py.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
import ray
import yaml
from jsonschema.validators import validator_for
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import start
from referencing import Registry, Resource

from kdsearch.search.cli import cli

ROOT = Path(__file__).parents[1]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
KUBERAY_FILES = sorted((ROOT / "docs" / "cluster" / "kuberay").glob("*.yaml"))
MANIFESTS = [each for path in KUBERAY_FILES for each in yaml.safe_load_all(path.read_text())]
RAY_UP = yaml.safe_load((ROOT / "docs" / "cluster" / "ray-up.yaml").read_text())
KUBERNETES = "v1.34.0-local-strict"
LOCAL = "127.0.0.1:"

# What compose-lint says and is meant so, with the reason.
ACCEPTED = {
    "CL-0007": "Ray writes sockets, logs and objects below /tmp, PostgreSQL its sockets",
    "CL-0019": "an image that is built here has no digest; that of PostgreSQL is pinned by its version",
    "CL-0020": "RAY_AUTH_TOKEN_PATH is a path, which the rule takes for a token",
    "CL-0026": "a worker is there to use the machine; trials are limited by the sweep file",
}


def closed(required=(), **properties):
    """An object with these fields and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


TEXT, TRUTH, COUNT = {"type": "string"}, {"type": "boolean"}, {"type": "integer", "minimum": 0}
START = {"type": "object", "additionalProperties": TEXT}  # parameters of `ray start`, all strings
POD = {"type": "object", "required": ["spec"]}  # checked by the schema of Kubernetes
CLUSTER = closed(
    ["headGroupSpec", "rayVersion", "authOptions"],
    rayVersion=TEXT,
    authOptions=closed(["mode"], mode={"enum": ["token"]}),  # disabled is another value; we never want it
    headGroupSpec=closed(
        ["rayStartParams", "template"],
        rayStartParams=START,
        template=POD,
        serviceType={"enum": ["ClusterIP"]},
    ),
    workerGroupSpecs={
        "type": "array",
        "items": closed(
            ["groupName", "rayStartParams", "template", "minReplicas", "maxReplicas"],
            groupName=TEXT,
            replicas=COUNT,
            minReplicas=COUNT,
            maxReplicas=COUNT,
            rayStartParams=START,
            template=POD,
        ),
    },
)
JOB = closed(
    ["entrypoint", "rayClusterSpec"],
    entrypoint=TEXT,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode"]},
    backoffLimit=COUNT,
    shutdownAfterJobFinishes=TRUTH,
    ttlSecondsAfterFinished=COUNT,
    rayClusterSpec=CLUSTER,
)


def resource(kind, spec):
    return closed(
        ["apiVersion", "kind", "metadata", "spec"],
        apiVersion={"const": "ray.io/v1"},
        kind={"const": kind},
        metadata=closed(["name"], name={"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"}),
        spec=spec,
    )


KUBERAY = {"RayCluster": resource("RayCluster", CLUSTER), "RayJob": resource("RayJob", JOB)}


def ray_manifests():
    return [each for each in MANIFESTS if each["apiVersion"] == "ray.io/v1"]


def cluster_of(manifest):
    return manifest["spec"].get("rayClusterSpec", manifest["spec"])


def groups(manifest):
    cluster = cluster_of(manifest)
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def valid_for_kubernetes(data, schema):
    folder = resources.files("kubernetes_validate").joinpath("kubernetes-json-schema", KUBERNETES)
    definitions = json.loads(folder.joinpath("_definitions.json").read_text())
    whole = json.loads(folder.joinpath(f"{schema}.json").read_text())
    registry = Resource.from_contents(definitions) @ (Resource.from_contents(whole) @ Registry())
    jsonschema.Draft202012Validator(whole, registry=registry).validate(data)


def program(name):
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"{name} is not installed for this machine")
    return found


# Compose


def test_compose_file_fits_the_schema_of_the_specification():
    found = resources.files("check_jsonschema").joinpath("builtin_schemas", "vendor", "compose-spec.json")
    schema = json.loads(found.read_text(encoding="utf-8"))
    validator_for(schema)(schema).validate(COMPOSE)
    assert (
        validator_for(schema)(schema).is_valid({"services": {"x": {"ports": "many"}}}) is False
    )  # it can say no


def test_compose_linter_finds_nothing_that_is_not_meant():
    done = subprocess.run(
        [program("compose-lint"), "check", "--format", "json", ROOT / "docker-compose.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    found = set(re.findall(r"CL-\d{4}", done.stdout))
    assert found == set(ACCEPTED), done.stdout + done.stderr


def test_nothing_is_published_but_to_this_machine():
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert [port for port in published if not str(port).startswith(LOCAL)] == []
    assert [name for name, service in SERVICES.items() if service.get("network_mode") == "host"] == []


def test_every_ray_of_the_compose_file_has_a_token_and_no_secret_stands_in_it():
    for name, service in SERVICES.items():
        if name == "postgres":
            continue
        assert service["environment"]["RAY_AUTH_MODE"] == "token"
        path = Path(service["environment"]["RAY_AUTH_TOKEN_PATH"])
        assert path.parent == Path("/run/secrets")
        assert path.name in service["secrets"]
    for service in SERVICES.values():
        for key, value in service["environment"].items():
            if key in {"PGPASSFILE", "POSTGRES_PASSWORD_FILE"}:
                assert Path(value).parent == Path("/run/secrets")
                assert Path(value).name in service["secrets"]
            assert ":" not in str(value).partition("://")[2].partition("@")[0]  # no password in a URL
            assert key not in {"PGPASSWORD", "POSTGRES_PASSWORD", "RAY_AUTH_TOKEN"}
    assert set(COMPOSE["secrets"]) == {name for each in SERVICES.values() for name in each["secrets"]}


def test_services_are_healthy_before_others_need_them_and_have_shared_memory():
    for name, service in SERVICES.items():
        assert service["shm_size"]
        assert service["cap_drop"] == ["ALL"]
        assert not service["user"].startswith(("0", "root"))
        assert name == "sweep" or service["healthcheck"]["test"][0] == "CMD"
        for needed, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}
            assert "healthcheck" in SERVICES[needed]
    assert SERVICES["worker-gpu"]["profiles"] == ["gpu"]
    assert SERVICES["sweep"]["profiles"] == ["job"]
    assert "worker" in SERVICES["sweep"]["depends_on"]
    assert {"work", "database"} <= set(COMPOSE["volumes"])


def test_head_and_workers_are_one_image_but_for_the_build_argument():
    assert SERVICES["head"]["build"] == SERVICES["worker"]["build"] == SERVICES["sweep"]["build"]
    assert {SERVICES[name]["image"] for name in ("head", "worker", "sweep")} == {"kdsearch:cpu"}
    assert SERVICES["worker-gpu"]["build"]["args"] == {"TORCH": "cuda"}
    assert SERVICES["worker-gpu"]["command"] == SERVICES["worker"]["command"]


def test_secrets_are_made_once_and_for_their_owner_alone(tmp_path):
    script = ROOT / "docs" / "cluster" / "secrets.sh"
    made = []
    for _ in range(2):
        environment = {key: value for key, value in os.environ.items() if not key.startswith("SUDO_")}
        subprocess.run([script, tmp_path], check=True, capture_output=True, env=environment)
        files = {path.name: path for path in (tmp_path / "secrets").iterdir()}
        assert set(files) == set(COMPOSE["secrets"])
        assert {stat.S_IMODE(path.stat().st_mode) for path in files.values()} == {0o600}
        made.append({name: path.read_text() for name, path in files.items()})
    assert made[0] == made[1]
    assert re.fullmatch("[0-9a-f]{64}", made[0]["ray_token"])
    assert made[0]["ray_token"] != made[0]["database_password"]
    assert made[0]["database_pgpass"] == f"*:*:*:kdsearch:{made[0]['database_password']}\n"
    user = (os.getuid(), os.getgid()) if os.getuid() else (1000, 1000)
    assert (tmp_path / ".env").read_text() == "KDSEARCH_UID={}\nKDSEARCH_GID={}\n".format(*user)
    assert {(path.stat().st_uid, path.stat().st_gid) for path in files.values()} == {user}
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"/secrets/", "/.env", "/data/", "/sweeps/"} <= set(ignored)


# Dockerfile


def test_dockerfile_passes_its_linter():
    done = subprocess.run(
        [program("hadolint"), ROOT / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_image_is_slim_pinned_and_without_rights():
    text = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^ARG PYTHON=3\.11\.\d+-slim-", text, re.MULTILINE)
    last = text.rpartition("\nFROM ")[2]
    assert re.search(r"^USER 1000:1000$", last, re.MULTILINE)
    assert "pip install" not in last  # compilers and caches stay in the first stage
    installs = re.findall(r"pip install .*", text)
    assert installs
    assert all("constraints.txt" in line for line in installs)
    assert re.search(r"^ARG TORCH=cpu$", text, re.MULTILINE)


def test_all_that_the_image_is_built_of_is_let_in_and_nothing_else():
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [
        words[1:-1]
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if (words := line.split())[:1] == ["COPY"] and "--from=build" not in words
    ]
    assert {name for names in copied for name in names} == kept
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"
    assert [name for name in kept if not (ROOT / name).exists()] == []
    packages = re.findall(r'"kdsearch\.(\w+)" = "\1"', (ROOT / "pyproject.toml").read_text())
    assert set(packages) <= kept


# Kubernetes


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda each: f"{each['kind']} {each['metadata']['name']}")
def test_manifests_fit_their_schemas(manifest):
    if manifest["apiVersion"] == "v1":
        valid_for_kubernetes(manifest, f"{manifest['kind'].lower()}-v1")
        return
    jsonschema.validate(manifest, KUBERAY[manifest["kind"]])
    for group in groups(manifest):
        valid_for_kubernetes(group["template"], "podtemplatespec-v1")


def test_schema_of_pods_is_strict():
    with pytest.raises(jsonschema.ValidationError, match="imagee"):
        valid_for_kubernetes({"spec": {"containers": [{"name": "a", "imagee": "b"}]}}, "podtemplatespec-v1")


@pytest.mark.parametrize("manifest", ray_manifests(), ids=lambda each: each["kind"])
def test_pods_have_no_rights_explicit_shared_memory_and_the_same_work(manifest):
    for group in groups(manifest):
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert volumes["shared-memory"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "2Gi"}
        (container,) = pod["containers"]
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert mounts["/dev/shm"] == "shared-memory"  # noqa: S108 it is one
        assert "persistentVolumeClaim" in volumes[mounts["/work"]]
        assert set(mounts.values()) == set(volumes)
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"] == container["resources"]["requests"]
        env = {each["name"]: each for each in container["env"]}
        head = group is cluster_of(manifest)["headGroupSpec"]
        assert ("KDSEARCH_DB" in env) is head  # workers never connect
        assert not head or "secretKeyRef" in env["KDSEARCH_DB"]["valueFrom"]
        assert cluster_of(manifest)["rayVersion"] == ray.__version__
    claims = {each["metadata"]["name"] for each in MANIFESTS if each["kind"] == "PersistentVolumeClaim"}
    named = {
        volume["persistentVolumeClaim"]["claimName"]
        for group in groups(manifest)
        for volume in group["template"]["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert named == claims


def test_a_job_that_is_started_again_resumes():
    (job,) = [each for each in MANIFESTS if each["kind"] == "RayJob"]
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[0] == "kdsearch"
    assert "--or-resume" in words
    assert job["spec"]["backoffLimit"] > 0
    assert job["spec"]["shutdownAfterJobFinishes"] is True
    command = cli.get_command(None, words[1])
    assert command.make_context(words[1], words[2:]).params["address"] == "auto"
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    folder = Path(words[2]).parent
    mounts = {mount["mountPath"]: mount["name"] for mount in head["containers"][0]["volumeMounts"]}
    assert {"name": mounts[str(folder)], "configMap": {"name": "kdsearch-sweep"}} in head["volumes"]


# What they start


def ray_starts():
    """Every command line of `ray start` that the files hold, KubeRay's made of its parameters."""
    found = {f"compose {name}": SERVICES[name]["command"] for name in ("head", "worker", "worker-gpu")}
    for manifest in ray_manifests():
        for number, group in enumerate(groups(manifest)):
            parameters = " ".join(f"--{key}={value}" for key, value in group["rayStartParams"].items())
            found[f"{manifest['kind']} {number}"] = f"ray start {parameters}"
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        found[f"ray up {key}"] = RAY_UP[key][-1].rpartition(";")[2].strip()
    return found


@pytest.mark.parametrize("command", ray_starts().values(), ids=ray_starts())
def test_ray_knows_every_option_that_it_is_started_with(command):
    words = shlex.split(command)
    assert words[:2] == ["ray", "start"]
    given = start.make_context("start", words[2:]).params
    if "--head" in words:
        assert given["num_cpus"] == 0  # no trials beside the drivers


def test_file_for_ray_up_fits_rays_own_schema_and_checks():
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(RAY_UP, schema)
    validate_config(prepare_config(RAY_UP))
    for commands in (RAY_UP["head_start_ray_commands"], RAY_UP["worker_start_ray_commands"]):
        assert "RAY_AUTH_MODE=token" in commands[-1]
        subprocess.run(["sh", "-n", "-c", commands[-1]], check=True)
    assert "--dashboard-host=127.0.0.1" in RAY_UP["head_start_ray_commands"][-1]
    assert "chmod 600 ~/kdsearch-token" in RAY_UP["setup_commands"]
