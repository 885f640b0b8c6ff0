"""An API server inside the process: for tests of operators, without a cluster.

It stores objects, keeps finalizers, serves watches, and refuses what a real kube-apiserver
refuses, in the same words. An unmodified operator runs against it: started with `kopf run` and a
kubeconfig, or embedded with `kopf.operator()`.

Install it with `pip install kopf-finalizers[testing]`. For the fixture `api_server`, write into
`conftest.py`:

    pytest_plugins = ["kopf_finalizers.testing"]

Custom resources have several versions and structural schemas as a kube-apiserver 1.20 has them. Of
what is built in there are namespaces, events, definitions of custom resources, pods, config maps,
secrets, services, service accounts, claims of volumes, deployments, and ingresses (in two groups,
with the same objects), as plain objects: their fields are kept as they come. Lists and watches may
be selected by labels and fields, come in pages, and have no more than metadata. kubectl can look at
objects, apply, patch and delete them.

What it does not have: conversion between versions by webhooks, the rarer words of schemas (`anyOf`,
`oneOf`, `allOf`, `not`, most formats), the subresource `scale`, tables, strategic merge patches,
protocol buffers (`kubectl create configmap` sends one, `kubectl apply` does not), admission
webhooks, controllers (no garbage collection, no pods are run, and the deletion of a namespace does
not end), access control, and server-side apply of anything but `metadata.finalizers`. A request
that needs one of these is refused where it can be told.

PYTEST_DONT_REWRITE: so that a conftest.py may import from here as well.
"""

try:
    from ._http import LoggedRequest
    from ._refusals import ApiError
    from ._server import ApiServer, api_server
except ModuleNotFoundError as _error:
    if _error.name not in ("aiohttp", "jsonpatch", "pytest"):
        raise
    raise ModuleNotFoundError(
        f"kopf_finalizers.testing needs {_error.name}. Install it with the extra for tests:"
        " pip install 'kopf-finalizers[testing]'.",
        name=_error.name,
    ) from _error

__all__ = ["ApiError", "ApiServer", "LoggedRequest", "api_server"]
