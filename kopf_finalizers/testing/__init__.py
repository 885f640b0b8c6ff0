"""An API server inside the process: for tests of operators, without a cluster.

It stores objects, keeps finalizers, serves watches, and refuses what a real kube-apiserver
refuses, in the same words. An unmodified operator runs against it: started with `kopf run` and a
kubeconfig, or embedded with `kopf.operator()`.

Install it with `pip install kopf-finalizers[testing]`. For the fixture `api_server`, write into
`conftest.py`:

    pytest_plugins = ["kopf_finalizers.testing"]

What it does not have: schemas (every field is kept), more than one version of a resource, admission
webhooks, controllers (no garbage collection, and the deletion of a namespace does not end), access
control, selectors, lists in pages, and server-side apply of anything but `metadata.finalizers`. A
request that needs one of these is refused where it can be told.

PYTEST_DONT_REWRITE: so that a conftest.py may import from here as well.
"""

from ._refusals import ApiError
from ._server import ApiServer, LoggedRequest, api_server

__all__ = ["ApiError", "ApiServer", "LoggedRequest", "api_server"]
