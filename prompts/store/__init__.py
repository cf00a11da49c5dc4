"""Versions and labels in the database."""
