"""From files to checked drafts.

- `folder`: which files are prompts, what each is called and may include;
- `documents`: a file's text becomes tables. `tables`: keys checked as they are taken;
- `drafts`: tables become the content of a version, with everything they include bundled.
"""
