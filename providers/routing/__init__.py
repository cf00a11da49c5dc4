"""Which deployment of a route is asked next, and what became of those asked before.

- `router`: has a call answered by the first candidate that can, waits and retries within what the policy allows;
- `ask`: one call, as far as routing is concerned. `attempt_log`: what it has tried;
- `candidates`: which deployments may be asked, in which order;
- `deployment_state`: circuit, limits, slots and waiting line of a deployment;
- `hedge`: two attempts of which one answer is used;
- `budgets`: what a run, a thread and a route may spend; `budget_line`: who waits for it.
"""
