"""What a prompt version is, as plain data. Pure, but for one rule of golden cases.

- `content`: what a version says, and the digest that identifies it;
- `variables`: their types, and the check of what is given. `values`: how templates show it;
- `labels`: names, and which threads a canary gets;
- `cases`, `rules`: golden cases, and what their answers must meet.
"""
