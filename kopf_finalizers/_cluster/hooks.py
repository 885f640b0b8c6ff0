"""A hook for a chart, that takes the operator out of the cluster before its chart goes.

Helm runs a `pre-delete` hook while the operator still runs, and waits for it (Helm 3).
"""

from collections.abc import Iterable, Sequence

from .discovery import Resource

_HOOK = """\
# Printed by: kopf-finalizers uninstall {shown}--format helm-hook
# For the chart's templates/. The image, uninstall.image in the chart's values, holds the operator's
# files and kopf-finalizers[cluster].
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {name}
  namespace: {{{{ .Release.Namespace }}}}
  annotations:
    helm.sh/hook: pre-delete
    helm.sh/hook-weight: "-1"
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {role}
metadata:
  name: {name}{inside}
  annotations:
    helm.sh/hook: pre-delete
    helm.sh/hook-weight: "-1"
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
rules:
{rules}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {role}Binding
metadata:
  name: {name}{inside}
  annotations:
    helm.sh/hook: pre-delete
    helm.sh/hook-weight: "-1"
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {role}
  name: {name}
subjects:
- kind: ServiceAccount
  name: {name}
  namespace: {{{{ .Release.Namespace }}}}
---
apiVersion: batch/v1
kind: Job
metadata:
  name: {name}
  namespace: {{{{ .Release.Namespace }}}}
  annotations:
    helm.sh/hook: pre-delete
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
spec:
  backoffLimit: 0
  template:
    spec:
      serviceAccountName: {name}
      restartPolicy: Never
      containers:
      - name: uninstall
        image: {{{{ .Values.uninstall.image }}}}
        args:
{args}
"""

_VERBS = {"--delete": ("list", "delete"), "--release": ("get", "list", "patch")}


def helm_hook(
    operator: str,
    resources: Sequence[Resource],
    command: Sequence[str],
    way: str,
    namespace: str | None,
) -> str:
    """The hook's YAML: with the verbs that this way needs, on the operator's resources alone.

    It is the same each time, in whichever order the cluster has named the resources: it is kept
    in a chart's repository.
    """
    rules = list[str]()
    for group in sorted({one.group for one in resources}):
        names = ", ".join(sorted(one.plural for one in resources if one.group == group))
        rules += [
            f'- apiGroups: ["{group}"]',
            f"  resources: [{names}]",
            f"  verbs: [{', '.join(_VERBS[way])}]",
        ]
    return _HOOK.format(
        shown="".join(f"{one} " for one in command),
        name=f"{operator}-uninstall",
        role="Role" if namespace else "ClusterRole",
        inside=f"\n  namespace: {namespace}" if namespace else "",
        rules="\n".join(rules),
        args=_lines(["kopf-finalizers", "uninstall", *command, "--yes"]),
    )


def _lines(arguments: Iterable[str]) -> str:
    return "\n".join(f'        - "{one}"' for one in arguments)
