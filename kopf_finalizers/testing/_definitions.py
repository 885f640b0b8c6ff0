"""Custom resource definitions: what they bring, and what is wrong with them."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from ._refusals import DNS_LABEL, DNS_LABEL_RULE, Body, Problem, quoted
from ._requests import Resource
from ._schemas import PRESERVE, Schema, schema_problems

DEFINITIONS = Resource(
    group="apiextensions.k8s.io",
    version="v1",
    plural="customresourcedefinitions",
    kind="CustomResourceDefinition",
    namespaced=False,
    built_in=True,
    short_names=("crd", "crds"),
    categories=("api-extensions",),
)

# What the server itself writes about a definition: it is done at once here.
_ESTABLISHED = [
    {"type": "NamesAccepted", "status": "True", "reason": "NoConflicts"},
    {"type": "Established", "status": "True", "reason": "InitialNamesAccepted"},
]
_FIXED = ("group", "scope")
_FIXED_NAMES = ("plural", "kind")


def custom_resource_definition(
    group: str,
    version: str,
    plural: str,
    *,
    kind: str | None = None,
    namespaced: bool = True,
    status: bool = True,
    singular: str | None = None,
    short_names: Sequence[str] = (),
    categories: Sequence[str] = (),
    schema: Schema | None = None,
    other_versions: Sequence[str] = (),
) -> Body:
    """A definition; without a schema it keeps whatever fields its objects have."""
    schema = schema or {"type": "object", PRESERVE: True}
    names: Body = {"plural": plural, "kind": kind or plural.removesuffix("s").capitalize()}
    names |= {"singular": singular} if singular else {}
    names |= {"shortNames": list(short_names)} if short_names else {}
    names |= {"categories": list(categories)} if categories else {}
    versions = [
        {"name": name, "served": True, "storage": name == version}
        | {"schema": {"openAPIV3Schema": schema}}
        | ({"subresources": {"status": {}}} if status else {})
        for name in (version, *other_versions)
    ]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced" if namespaced else "Cluster",
            "names": names,
            "versions": versions,
        },
    }


def defined(definition: Body) -> list[Resource]:
    """The versions of the resource that a definition brings, served or not; stored in the first."""
    spec = definition["spec"]
    names = spec["names"]
    known = {v["name"]: f"{spec['group']}/{v['name']}" for v in spec["versions"]}
    return [
        Resource(
            group=spec["group"],
            version=version["name"],
            plural=names["plural"],
            kind=names["kind"],
            namespaced=spec["scope"] == "Namespaced",
            status="status" in version.get("subresources", {}),
            singular=names["singular"],
            short_names=tuple(names.get("shortNames", ())),
            categories=tuple(names.get("categories", ())),
            served=version["served"],
            terminating="deletionTimestamp" in definition["metadata"],
            storage=next(known[v["name"]] for v in spec["versions"] if v["storage"]),
            versions=frozenset(known.values()),
            schema=_schema(version),
        )
        for version in sorted(spec["versions"], key=lambda v: not v["storage"])
    ]


def completed(definition: Body, old: Body | None = None) -> Body:
    """A definition with what the server fills in; `old` is what it was before."""
    try:
        spec = {"conversion": {"strategy": "None"}, **definition["spec"]}
        names = dict(spec["names"])
        if names.get("kind"):
            names.setdefault("singular", names["kind"].lower())
            names.setdefault("listKind", f"{names['kind']}List")
        spec["names"] = names
        versions = [v["name"] for v in spec["versions"] if v.get("storage")]
    except (LookupError, TypeError, AttributeError):
        return definition  # it will be refused
    status: Body = dict((old or {}).get("status", {}))
    stored = status.get("storedVersions", [])
    status["storedVersions"] = stored + [name for name in versions if name not in stored]
    status["acceptedNames"] = names
    status.setdefault("conditions", _ESTABLISHED)
    return {**definition, "spec": spec, "status": status}


def definition_problems(definition: Body, old: Body | None = None) -> Iterator[Problem]:
    """Check a completed definition; `old` is what it was before."""
    try:
        # All of it is looked at before anything is told: what cannot be read comes last.
        yield from list(_problems(definition, old or {}))
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        yield Problem("spec", f"Required value: {error!r}", "FieldValueRequired")


def _problems(definition: Body, old: Body) -> Iterator[Problem]:
    spec = definition["spec"]
    names, versions = spec["names"], spec["versions"]
    for field in ("singular", "kind", "listKind"):
        if not names.get(field):
            yield Problem(f"spec.names.{field}", "Required value", "FieldValueRequired")
    if spec["scope"] not in ("Cluster", "Namespaced"):
        message = f'Unsupported value: {quoted(spec["scope"])}: supported values: "Cluster",'
        yield Problem("spec.scope", f'{message} "Namespaced"', "FieldValueNotSupported")
    if spec["conversion"]["strategy"] != "None":
        yield Problem("spec.conversion.strategy", "Forbidden: this API server for tests has None")
    if spec.get("preserveUnknownFields"):
        message = "Invalid value: true: cannot set to true, set x-preserve-unknown-fields to true"
        message = f"{message} in spec.versions[*].schema instead"
        yield Problem("spec.preserveUnknownFields", message)
    yield from _name_problems(names)
    yield from _version_problems(versions)
    name = definition["metadata"]["name"]
    if name != f"{names['plural']}.{spec['group']}":
        message = f'Invalid value: {quoted(name)}: must be spec.names.plural+"."+spec.group'
        yield Problem("metadata.name", message)
    if old:
        yield from _changes(definition, old)


def _name_problems(names: Body) -> Iterator[Problem]:
    listed = [("singular", names.get("singular", ""))] if names.get("singular") else []
    for field in ("shortNames", "categories"):
        listed += [(f"{field}[{i}]", name) for i, name in enumerate(names.get(field, ()))]
    for field, name in listed:
        if not re.fullmatch(DNS_LABEL, name):
            message = f"Invalid value: {quoted(name)}: {DNS_LABEL_RULE}"
            yield Problem(f"spec.names.{field}", message)


def _version_problems(versions: list[Body]) -> Iterator[Problem]:
    shown = [{"name": v["name"], "storage": v["storage"]} for v in versions]
    if len({v["name"] for v in versions}) < len(versions):
        yield Problem("spec.versions", f"Invalid value: {shown}: must contain unique version names")
    if sum(v["storage"] for v in versions) != 1:
        message = f"Invalid value: {shown}: must have exactly one version marked as storage version"
        yield Problem("spec.versions", message)
    for number, version in enumerate(versions):
        _ = version["served"]
        path = f"spec.versions[{number}].schema.openAPIV3Schema"
        if "openAPIV3Schema" not in version.get("schema", {}):
            yield Problem(path, "Required value: schemas are required", "FieldValueRequired")
        else:
            yield from schema_problems(_schema(version), path)
        if version.get("subresources", {}).keys() - {"status"}:
            path = f"spec.versions[{number}].subresources"
            yield Problem(path, "Forbidden: this API server for tests has only a status")


def _changes(definition: Body, old: Body) -> Iterator[Problem]:
    """Check what may not change, and what may not go."""
    for fields, path in ((_FIXED, ()), (_FIXED_NAMES, ("names",))):
        new_part: Any = definition["spec"]
        old_part: Any = old["spec"]
        for step in path:
            new_part, old_part = new_part[step], old_part[step]
        for field in fields:
            if new_part[field] != old_part[field]:
                where = ".".join(("spec", *path, field))
                message = f"Invalid value: {quoted(new_part[field])}: field is immutable"
                yield Problem(where, message)
    names = [v["name"] for v in definition["spec"]["versions"]]
    for number, name in enumerate(definition["status"]["storedVersions"]):
        if name not in names:
            message = f"Invalid value: {quoted(name)}: must appear in spec.versions"
            yield Problem(f"status.storedVersions[{number}]", message)


def _schema(version: Body) -> Schema:
    schema: Schema = version["schema"]["openAPIV3Schema"]
    return schema
