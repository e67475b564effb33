"""What `docker compose config` would say of deploy/compose.yaml, and more: that what it names is there.
Prints each mistake. `deployment.py ROOT HELP`, where HELP is what `origin serve --help` says."""

import pathlib
import re
import sys

import yaml

root, help_text = pathlib.Path(sys.argv[1]), sys.argv[2]
deploy = root / "deploy"
text = (deploy / "compose.yaml").read_text()
compose = yaml.safe_load(text)
mistakes = []


def wants(condition, what):
    if not condition:
        mistakes.append(what)


used = set(re.findall(r"\$\{([A-Z_]+)", text))
used |= {secret["environment"] for secret in compose["secrets"].values()}
given = set(re.findall(r"^([A-Z_]+)=", (deploy / ".env.example").read_text(), re.M))
wants(used == given, f"compose.yaml and .env.example differ in {sorted(used ^ given)}")
wants(text.count("${") == text.count(":?}"), "a variable that may be left out")

services = compose["services"]
for name, service in services.items():
    image, build = service.get("image"), service.get("build")
    wants(image or build, f"{name} has nothing to run")
    if build:
        place = build if isinstance(build, dict) else {"context": build}
        context = deploy / place["context"]
        file = context / place.get("dockerfile", "Dockerfile")
        wants(file.is_file(), f"{name}: there is no {file}")
        for source in re.findall(r"^COPY (?!--from)(\S+)", file.read_text(), re.M):
            wants((context / source).exists(), f"{name}: there is no {source} to copy")
    else:
        wants(re.search(r":[v0-9][\w.]*$", image), f"{name}: {image} is no version")
    for other in service.get("depends_on", {}):
        wants(other in services, f"{name} depends on {other}, which is not there")
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        if source.startswith("."):
            wants((deploy / source).exists(), f"{name}: there is no {source}")
        elif not source.startswith("/"):
            wants(source in compose["volumes"], f"{name}: no volume {source}")
    for port in service.get("ports", []):
        wants(name == "traefik" or port.startswith("127.0.0.1:"), f"{name} listens to the net")

    for network in service.get("networks", ["none"]):
        wants(network in compose["networks"], f"{name}: no network {network}")
    for secret in service.get("secrets", []):
        wants(secret in compose["secrets"], f"{name}: no secret {secret}")

origins = [name for name in services if name.startswith("origin-")]
wants(len(origins) == 2, "there are not two origins")
for origin in origins:
    for setting in services[origin]["environment"]:
        wants(f"[env: {setting}" in help_text, f"the origin knows no {setting}")
template = (deploy / "traefik/origin.yml").read_text()
wants(re.findall(r"\{\{.*?\}\}", template) == ['{{ env "ORIGIN_HOST" }}'], "Traefik fills in something else")
balancer = yaml.safe_load(template)["http"]["services"]["origin"]
servers = [server["url"] for server in balancer["loadBalancer"]["servers"]]
wants(servers == [f"http://{origin}:3001" for origin in origins], f"Traefik sends to {servers}")
scraped = yaml.safe_load((deploy / "prometheus/prometheus.yml").read_text())["scrape_configs"][0]
targets = scraped["static_configs"][0]["targets"]
wants(targets == [f"{origin}:3002" for origin in origins], f"Prometheus asks {targets}")

for file in deploy.rglob("*.yml"):
    wants(yaml.safe_load(file.read_text()), f"{file} says nothing")
for group in yaml.safe_load((deploy / "prometheus/alerts.yml").read_text())["groups"]:
    for rule in group["rules"]:
        wants(rule["labels"]["severity"] in ("page", "ticket"), f"{rule['alert']}: how grave is it?")
        told = (root / "docs/OPERATIONS.md").read_text()
        wants(f"`{rule['alert']}`" in told, f"docs/OPERATIONS.md does not say what to do for {rule['alert']}")

print("\n".join(mistakes))
sys.exit(1 if mistakes else 0)
