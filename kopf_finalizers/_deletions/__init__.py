"""The objects being deleted that an operator holds: what is told of them, what is called off."""
