"""Kubernetes' rule for names, independently of the library, and finalizers that break it."""

import string

# IsQualifiedName of apimachinery, in loops where the library has regular expressions.

LOWER = frozenset(string.ascii_lowercase + string.digits)
ALPHANUMERIC = LOWER | frozenset(string.ascii_uppercase)


def is_subdomain(value: str) -> bool:
    """IsDNS1123Subdomain."""
    if not 0 < len(value) <= 253:
        return False
    for label in value.split("."):
        if not label or label[0] not in LOWER or label[-1] not in LOWER:
            return False
        if any(character not in LOWER | {"-"} for character in label):
            return False
    return True


def is_qualified_name(value: str) -> bool:
    """IsQualifiedName."""
    parts = value.split("/")
    if len(parts) > 2 or (len(parts) == 2 and not is_subdomain(parts[0])):
        return False
    name = parts[-1]
    if not 0 < len(name) <= 63 or not {name[0], name[-1]} <= ALPHANUMERIC:
        return False
    return all(character in ALPHANUMERIC | set("-_.") for character in name)


# Each with words of its reason.
FINALIZER_REFUSALS = {
    "": ['has a name, ""'],
    "/": ['has a domain, ""', "RFC 1123"],
    "/name": ['has a domain, ""'],
    "mycompany.com/": ['has a name, ""'],
    "a.io/b/c": ["has more than one slash", '"mycompany.com/db-operator"'],
    "MyCompany.com/f": ['has a domain, "MyCompany.com"', "lower-case"],
    "my company.com/f": ['has a domain, "my company.com"'],
    "mycompany.com\n/f": ["has a domain, "],
    "mycompany.com./f": ['has a domain, "mycompany.com."'],
    "mycompany.com/my finalizer": ['has a name, "my finalizer"', "at both ends"],
    "mycompany.com/f\n": ["has a name, "],
    "mycompany.com/.f": ['has a name, ".f"'],
    "mycompany.com/f_": ['has a name, "f_"'],
    "mycompany.com/f√": ['has a name, "f√"'],
    "mycompany.com/" + "n" * 64: ["has 64 characters", "Kubernetes allows 63"],
    "d" * 250 + ".com/f": ["has 254 characters", "Kubernetes allows 253"],
}
