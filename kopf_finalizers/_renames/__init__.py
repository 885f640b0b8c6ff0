"""An operator that has lived with other names moves to its own."""
