"""Flows that come with the project. Each is a package that `runtime run graphs.<name>` can run."""
