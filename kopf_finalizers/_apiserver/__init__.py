"""The API server of `kopf_finalizers.testing`, without the network: what it stores and answers.

Private. Everything here was measured on a real kube-apiserver, and the project's contract tests ask
both the same questions. Where this one differs, it is the stricter.
"""
