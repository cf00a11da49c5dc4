"""Versioned prompts. Their place in the layers is taken; what they do arrives with the prompt store."""
