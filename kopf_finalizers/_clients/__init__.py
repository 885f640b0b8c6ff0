"""One finalizer brought on or off an object through any client."""
