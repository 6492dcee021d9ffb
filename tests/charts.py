"""Checks the chart in etc/helm and the manifest in etc/kubernetes, without a network and without a cluster.

Helm's own library lints and renders, and checks values by their schema; the schemas of Kubernetes check what comes out of
it. `charts.py ETC` checks, `charts.py ETC --write` rewrites the manifest. tests/tests/system_charts.rs runs it.
"""

import sys
from pathlib import Path

import helm_python
import kubernetes_validate
import yaml
from helm_python import chart

# The oldest and the newest version of Kubernetes that it is checked for.
VERSIONS = ["1.25", "1.37"]
NAMESPACE = "monitoring"
ALL = ["BPF", "PERFMON", "SYS_ADMIN", "SYS_PTRACE", "SYSLOG", "NET_ADMIN", "DAC_READ_SEARCH"]
# Values that are to be taken, each rendered and checked.
GOOD = [
    {},
    {
        "image": {"repository": "registry.example.org/collector", "tag": "1.2.3", "pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "registry"}],
        "config": 'interval = "1s"\n',
        "env": [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "influx", "key": "token"}}}],
        "args": ["--only=runqlat"],
        "capabilities": ALL,
        "seccomp": "Unconfined",
        "resources": {"requests": {"memory": "1Gi"}},
        "state": "/srv/collector",
        "tolerations": [],
        "nodeSelector": {},
        "priorityClassName": "system-node-critical",
        "podAnnotations": {"example.org/a": "b"},
    },
]
# Values that are to be refused, and a word of what is said.
BAD = [
    ({"capabilities": ["CAP_BPF"]}, "capabilities"),
    ({"capabilities": []}, "capabilities"),
    ({"capabilites": ["BPF"]}, "capabilites"),
    ({"seccomp": "runtimedefault"}, "seccomp"),
    ({"resources": {"requests": {"memory": "96 MB"}}}, "memory"),
    ({"state": "var/lib/collector"}, "state"),
    ({"config": {"interval": "1s"}}, "config"),
]


def fail(text):
    sys.exit(f"FAILED: {text}")


def render(loaded, values):
    loaded.validate_schema(values)
    rendered = loaded.render(values, name="collector", namespace=NAMESPACE)
    return "---\n".join(text.strip() + "\n" for _, text in sorted(rendered.items()) if text.strip())


def validate(text, what):
    documents = list(yaml.safe_load_all(text))
    for document in documents:
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                fail(f"{what}: {document['kind']} in Kubernetes {version}: {error.path}: {error.message}")
    return documents


def container(documents):
    (daemon_set,) = (document for document in documents if document["kind"] == "DaemonSet")
    pod = daemon_set["spec"]["template"]["spec"]
    names = {volume["name"] for volume in pod["volumes"]}
    (only,) = pod["containers"]
    mounted = {mount["name"] for mount in only["volumeMounts"]}
    if names != mounted:
        fail(f"volumes and mounts differ: {names ^ mounted}")
    return only


def main():
    etc = Path(sys.argv[1])
    loaded = chart.Chart.load(etc / "helm/collector")
    report = chart.lint(etc / "helm/collector", strict=True)
    # An icon is wanted of every chart, and this one has none.
    wrong = [m for m in report["messages"] if m["severity"] > 1 or "icon" not in m["error"]]
    if wrong or report["errors"]:
        fail(f"helm lint: {wrong} {report['errors']}")

    manifest = etc / "kubernetes/collector.yaml"
    head = (
        "# The chart of etc/helm with its defaults: `kubectl apply -f`. Put your image and your configuration in.\n"
        "# Written by tests/charts.py.\n"
    )
    namespace = f"apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {NAMESPACE}\n---\n"
    fresh = head + namespace + render(loaded, {})
    if "--write" in sys.argv:
        manifest.write_text(fresh)
    if manifest.read_text() != fresh:
        fail(f"{manifest} is not what the chart renders: python3 tests/charts.py etc --write")
    validate(fresh, "the manifest")

    for values in GOOD:
        text = render(loaded, values)
        only = container(validate(text, f"values {values}"))
        security = only["securityContext"]
        wanted = values.get("capabilities", ["BPF", "PERFMON"])
        if security["capabilities"] != {"drop": ["ALL"], "add": wanted} or security["privileged"]:
            fail(f"the container may do something else: {security}")
        # The API server refuses the two together.
        if "SYS_ADMIN" in wanted and "allowPrivilegeEscalation" in security:
            fail("SYS_ADMIN goes with no allowPrivilegeEscalation")
    for values, word in BAD:
        try:
            render(loaded, values)
        except helm_python.HelmValuesError as error:
            if word not in str(error):
                fail(f"{values} is refused for another reason: {error}")
        else:
            fail(f"{values} is taken")
    print(
        f"chart {loaded.version}: {len(GOOD)} sets of values rendered and valid in Kubernetes "
        f"{' and '.join(VERSIONS)}, {len(BAD)} refused by their schema"
    )


main()
