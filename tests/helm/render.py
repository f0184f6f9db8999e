"""Renders the chart with Helm's own engine, and judges what comes out by the schemas of Kubernetes.

Reads a JSON list of cases, each the values of one release; prints for each what was made (a list of objects), or why
nothing was. Arguments: the chart's folder, then the versions of Kubernetes whose schemas are asked.
"""

import json
import sys

import helm_python as helm
import kubernetes_validate
import yaml

# Objects of the Prometheus operator, which Kubernetes itself has no schema for.
ELSEWHERE = {"ServiceMonitor"}


def judged(made, versions):
    problems = []
    for version in versions:
        try:
            kubernetes_validate.validate(made, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            place = ".".join(str(step) for step in error.path)
            problems.append(f"{made['kind']} in Kubernetes {version}: {place}: {error.message}")
        except kubernetes_validate.SchemaNotFoundError as error:
            if made["kind"] not in ELSEWHERE:
                problems.append(error.message)
    return problems


def rendered(chart, values, versions):
    try:
        files = chart.render(values, name="shop", namespace="events")
    except helm.HelmError as error:
        return {"refused": str(error)}
    objects, problems, notes = [], [], ""
    for name, text in files.items():
        if name.endswith("NOTES.txt"):
            notes = text
            continue
        for made in yaml.safe_load_all(text):
            if made:
                objects.append(made)
                problems += judged(made, versions)
    return {"objects": objects, "problems": problems, "notes": notes}


folder, versions = sys.argv[1], sys.argv[2:]
cases = json.load(sys.stdin)
with helm.Chart.load(folder) as chart:
    results = [rendered(chart, values, versions) for values in cases]
lint = helm.lint(folder, cases[0])
json.dump({"lint": lint, "results": results}, sys.stdout)
