"""What the schemas of the manifests do not say: that they fit together, and that the commands of the guide fit to them.

manifests.py DIRECTORY <COMMANDS

The commands are those of `kubectl` on the pages of the guide, one per line on the standard input.
"""

import re
import shlex
import sys
from pathlib import Path

import yaml
from cloudcoil.models.cert_manager import v1 as cert_manager


def check(condition, problem):
    if not condition:
        sys.exit(f"FAILED: {problem}")


def seconds(time):
    number, unit = re.fullmatch(r"(\d+)(s|m)", time).groups()
    return int(number) * {"s": 1, "m": 60}[unit]


def contains(model, given, where):
    """The models of cert-manager ignore fields that they do not know. Nothing may be missing in what they have understood."""
    if isinstance(given, dict):
        for key, value in given.items():
            check(key in model, f"cert-manager knows no field {where}.{key}")
            contains(model[key], value, f"{where}.{key}")


def certificates(objects):
    checked = 0
    for it in objects.values():
        if it["apiVersion"] == "cert-manager.io/v1":
            model = getattr(cert_manager, it["kind"]).model_validate(it)
            contains(model.model_dump(mode="json", by_alias=True, exclude_unset=True), it, it["kind"])
            issuer = it["spec"].get("issuerRef")
            check(not issuer or (issuer["kind"], issuer["name"]) in objects, f"there is no issuer {issuer}")
            checked += 1
    check(checked > 0, "there is no object of cert-manager")
    ca = objects["Issuer", "formation-authority"]["spec"]["ca"]["secretName"]
    check(ca == objects["Certificate", "formation-authority"]["spec"]["secretName"], "the authority has another secret")
    return checked


def flags(container):
    found = {}
    for argument in container["args"]:
        name, value = argument.removeprefix("--").split("=", 1)
        found.setdefault(name, []).append(value)
    return found


def fits(objects):
    """The StatefulSet and everything that refers to it."""
    its = objects["StatefulSet", "formation"]
    name, spec = its["metadata"]["name"], its["spec"]
    template = spec["template"]
    labels, pod = template["metadata"]["labels"], template["spec"]
    (container,) = pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    service = objects["Service", spec["serviceName"]]["spec"]
    check(service["clusterIP"] == "None" and service["publishNotReadyAddresses"], "the names of pods are not published")
    check(spec["podManagementPolicy"] == "Parallel", "the set would wait for its first pod for ever")
    for kind, selector in [
        ("StatefulSet", spec["selector"]["matchLabels"]),
        ("Service", service["selector"]),
        ("Service", objects["Service", "formation-http"]["spec"]["selector"]),
        ("PodDisruptionBudget", objects["PodDisruptionBudget", name]["spec"]["selector"]["matchLabels"]),
        ("NetworkPolicy", objects["NetworkPolicy", name]["spec"]["podSelector"]["matchLabels"]),
    ]:
        check(selector.items() <= labels.items(), f"the {kind} selects {selector}, but pods have {labels}")
    for key, it in objects.items():
        for port in re.findall(r"'(?:targetPort|port)': '(\w+)'", str(it["spec"])):
            check(port in ports, f"{key} names the port {port}, but pods have {ports}")

    given = flags(container)
    domain = f"{spec['serviceName']}.$(POD_NAMESPACE).svc.cluster.local:{ports['nodes']}"
    voters = [f"{name}-{ordinal}.{domain}" for ordinal in range(spec["replicas"])]
    check(given["seed"] == voters, f"the seeds are {given['seed']}, but pods are {voters}")
    check(given["advertise"] == [f"$(POD_NAME).{domain}"], f"pods advertise {given['advertise']}")
    check(given["listen"] == [f"0.0.0.0:{ports['nodes']}"], f"pods listen at {given['listen']}")
    check(given["http"] == [f"0.0.0.0:{ports['http']}"], f"pods serve HTTP at {given['http']}")
    check(objects["PodDisruptionBudget", name]["spec"]["maxUnavailable"] <= (len(voters) - 1) // 2, "a drain ends the quorum")
    # With the times `lan`, `down_after` is 3 s.
    check(given["times"] == ["lan"], "the grace period is for other times")
    leave, grace = seconds(given["leave-within"][0]), pod["terminationGracePeriodSeconds"]
    check(3 < leave < grace, f"a pod may leave within {leave} s, and is killed after {grace} s")

    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"] + [it["metadata"] for it in spec["volumeClaimTemplates"]]}
    for flag in ["state-dir", "key-file", "tls-authority", "tls-certificate", "tls-key"]:
        (path,) = given[flag]
        mounted = mounts.get(str(Path(path).parent))
        check(mounted in volumes, f"--{flag} is {path}, but there are {mounts} and {list(volumes)}")
    request = volumes["tls"]["csi"]["volumeAttributes"]
    issuer = request["csi.cert-manager.io/issuer-kind"], request["csi.cert-manager.io/issuer-name"]
    check(issuer in objects, f"there is no {issuer}")
    host = request["csi.cert-manager.io/dns-names"]
    check(host == given["advertise"][0].split(":")[0].translate(str.maketrans("()", "{}")), f"certificates are for {host}")
    (probes,) = {(container[kind]["httpGet"]["path"], kind) for kind in ["readinessProbe"]}
    check(probes[0] == "/readyz" and container["livenessProbe"]["httpGet"]["path"] == "/livez", "the probes are others")
    key = volumes["key"]["secret"]["secretName"], Path(given["key-file"][0]).name
    return name, key


def commands(directory, name, key, lines):
    """The commands of the guide, without a cluster: the objects that they name are those of the manifests."""
    checked = 0
    for line in lines:
        checked += 1
        match shlex.split(line):
            case ["kubectl", "create", "secret", "generic", secret, source]:
                file = source.removeprefix("--from-file=").split("=")[0]
                check((secret, file) == key, f"{line}: the pods need {key}")
            case ["kubectl", "apply", "-f", path]:
                check(Path(path).resolve() == directory.resolve(), f"{line}: the manifests are in {directory}")
            case ["kubectl", "rollout", "status" | "restart", what] | ["kubectl", "scale", what, _]:
                check(what == f"statefulset/{name}", f"{line}: there is only {name}")
            case ["kubectl", "exec", pod, "--", "formation-tokio-node", "status", "--http", "127.0.0.1:8000"]:
                check(pod == f"{name}-0", f"{line}: there is no such pod")
            case _:
                check(False, f"nobody has checked the command: {line}")
    check(checked > 0, "the guide has no command for kubectl")
    return checked


def main():
    directory = Path(sys.argv[1])
    files = sorted(directory.glob("*.yaml"))
    documents = [it for file in files for it in yaml.safe_load_all(file.read_text())]
    objects = {(it["kind"], it["metadata"]["name"]): it for it in documents}
    check(len(objects) == len(documents) > 0, "two objects have one name")
    by_model = certificates(objects)
    name, key = fits(objects)
    lines = [line for line in sys.stdin.read().splitlines() if line]
    print(f"{len(objects)} objects fit together, {by_model} of them of cert-manager, and {commands(directory, name, key, lines)} commands")


main()
