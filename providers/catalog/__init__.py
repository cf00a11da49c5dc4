"""What is configured: routes, deployments, prices, keys.

- `model`: the checked data. `pricing`: what calls cost. `keys`: keys in environment variables;
- `parse`: from the tables of `runtime.toml`, value by value (`values`), then as a whole (`checks`);
- `from_env`: from the keys that are set, where nothing is configured.
"""
