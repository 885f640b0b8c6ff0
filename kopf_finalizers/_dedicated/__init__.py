"""Dedicated finalizers in Kopf's handling cycle."""
