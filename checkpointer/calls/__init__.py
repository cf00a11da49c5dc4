"""Calls of language models: answers that are paid once, and records of what each cost."""
