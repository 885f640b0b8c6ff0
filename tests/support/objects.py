"""Objects on an API server, as tests make, delete and look at them."""

from typing import Any

from .servers import Api, Resource


def create(api: Api, resource: Resource, name: str = "one", **metadata: Any) -> dict[str, Any]:
    answer = api.create(resource.path, resource.body(name, **metadata)).raise_for_status()
    return dict(answer.json())


def delete(api: Api, resource: Resource, name: str = "one") -> None:
    api.delete(resource.path_to(name)).raise_for_status()


def finalizers_now(api: Api, resource: Resource, name: str = "one") -> list[str] | None:
    answer = api.get(resource.path_to(name))
    if answer.status_code == 404:
        return None
    return list(answer.raise_for_status().json()["metadata"].get("finalizers", []))


def has_now(api: Api, resource: Resource, expected: list[str]) -> bool:
    return sorted(finalizers_now(api, resource) or []) == expected
