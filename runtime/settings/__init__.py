"""Settings from `runtime.toml`, variables and flags."""
