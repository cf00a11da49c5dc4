"""What is configured: routes, deployments, prices, keys."""
