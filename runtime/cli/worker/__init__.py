"""`runtime worker`, and what is queued for it: `runtime runs`, `runtime limits`."""
