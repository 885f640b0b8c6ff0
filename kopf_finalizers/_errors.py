"""What the library raises when it is used in a way that cannot work."""


class ConfigurationError(ValueError):
    """The library is used in a way that would lose a finalizer, skip a cleanup or block an object.

    It is raised where the mistake is made: for names and decorators that is when the operator's
    module is imported, before anything reaches a cluster. The message says what is wrong, which
    rule it breaks, and what to write instead.

    It is a `ValueError`, so pydantic reports it as one of the errors of a
    `pydantic.ValidationError` when it comes from a field of a model.

    Example:
        >>> from kopf_finalizers import ConfigurationError, OperatorIdentity
        >>> identity = OperatorIdentity(domain="mycompany.com", operator="db-operator")
        >>> try:
        ...     identity.finalizer_for("Backups")
        ... except ConfigurationError as error:
        ...     print(error)
        The purpose "Backups" has a character that is not allowed, "B": a purpose consists of ...
    """
